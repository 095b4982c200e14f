"""Residual cells of deep hierarchical autoencoders, and what keeps a tall stack of them stable.

The cells and the two regularisers of Vahdat and Kautz, "NVAE: A Deep Hierarchical Variational Autoencoder" (NeurIPS
2020), from the paper's formulas. Every cell maps `(B, channels, H, W)` to the same shape and adds a tenth of its branch
to its input, so that a deep stack begins close to the identity. Swish is x sigmoid(x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_SHARE = 0.1
"""How much of its branch a cell adds to its input."""
_CLAMP = 5.0
_UNSCALED = 4
"""Power iterations between two normalisations."""
_MOMENTUM = 0.05
"""Share of the newest batch in the running statistics of batch normalisation."""


def soft_clamp(x: Tensor) -> Tensor:
    """5 tanh(x / 5): the identity near zero, never beyond -5 and 5, with a gradient everywhere."""
    return _CLAMP * (x / _CLAMP).tanh()


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=_MOMENTUM)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all (Hu, Shen and Sun, CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(4, channels // 16)
        self.gate = nn.Sequential(
            nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels), nn.Sigmoid()
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


class Cell(nn.Module):
    """x plus a tenth of a branch."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        return x + _SHARE * self.branch(x)


class EncoderCell(Cell):
    """Twice batch normalisation, Swish and a 3 x 3 convolution; then squeeze and excite."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            batch_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            batch_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            SqueezeExcite(channels),
        )


class DecoderCell(Cell):
    """An inverted residual: widen `expansion` times, look around with a depthwise 5 x 5, narrow; squeeze and excite."""

    def __init__(self, channels: int, expansion: int) -> None:
        wide = channels * expansion
        super().__init__(
            batch_norm(channels),
            nn.Conv2d(channels, wide, 1, bias=False),
            batch_norm(wide),
            nn.SiLU(),
            nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False),
            batch_norm(wide),
            nn.SiLU(),
            nn.Conv2d(wide, channels, 1, bias=False),
            batch_norm(channels),
            SqueezeExcite(channels),
        )


def convolution_weights(module: nn.Module) -> list[Tensor]:
    """The weight of every convolution in `module`, in a fixed order."""
    return [part.weight for part in module.modules() if isinstance(part, nn.Conv2d)]


def largest_scales(module: nn.Module) -> Tensor:
    """The sum over all batch normalisations in `module` of their largest absolute scale.

    Spectral norms say nothing of a convolution that a normalisation scales back up.
    """
    scales = [part.weight for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    return torch.stack([scale.abs().amax() for scale in scales]).sum()


class SpectralNorms(nn.Module):
    """The largest singular value of each of many weights, by power iteration, those of one shape in one product.

    A weight `(out, ...)` counts as the matrix W `(out, rest)`. A left vector u for each, kept from step to step,
    follows the slowly changing weight: u = W W' u, of unit length. The estimate is |W' u|, whose gradient is
    u u' W / |W' u|, as if u were fixed. The vectors serve training only and are not saved.
    """

    def __init__(self, weights: Sequence[Tensor], *, rounds: int = 4, first_rounds: int = 40) -> None:
        super().__init__()
        self.rounds = rounds
        shapes = [(len(weight), math.prod(weight.shape[1:])) for weight in weights]
        self._places = [
            [place for place, other in enumerate(shapes) if other == shape] for shape in dict.fromkeys(shapes)
        ]
        for group, places in enumerate(self._places):
            left = torch.randn(len(places), shapes[places[0]][0], 1).to(weights[0])
            self.register_buffer(f"left{group}", functional.normalize(left, dim=1), persistent=False)  # (n, out, 1)
        self._follow(self._stacks(weights), first_rounds)

    def forward(self, weights: Sequence[Tensor]) -> Tensor:
        """The norms `(len(weights),)`, those of one shape side by side; in training the vectors go on first."""
        stacks = self._stacks(weights)
        if self.training:
            self._follow(stacks, self.rounds)
        norms = [
            (stack.mT @ self.get_buffer(f"left{group}")).square().sum((1, 2)) for group, stack in enumerate(stacks)
        ]
        return torch.cat(norms).sqrt()

    def _stacks(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The weights of each shape `(n, out, rest)`."""
        return [torch.stack([weights[place].flatten(1) for place in places]) for places in self._places]

    @torch.no_grad()
    def _follow(self, stacks: Sequence[Tensor], rounds: int) -> None:
        for group, stack in enumerate(stacks):
            left = self.get_buffer(f"left{group}")
            square = stack @ stack.mT
            # Eigenvalues then lie within (0, 1], so that a few products neither overflow nor vanish.
            square = square / square.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp_min(1e-30)
            for start in range(0, rounds, _UNSCALED):
                product = left
                for _ in range(min(_UNSCALED, rounds - start)):
                    product = square @ product
                left.copy_(functional.normalize(product, dim=1, eps=1e-30))
