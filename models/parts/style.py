"""A style-based generator of pictures and an encoder that is its mirror.

Generator: Karras, Laine and Aila, "A Style-Based Generator Architecture for Generative Adversarial Networks" (CVPR
2019). It begins at a learned constant; what is drawn comes in by the styles alone: after each convolution every
channel is normalised over its picture (its mean and deviation are removed) and given a new deviation and mean that are
linear in w (adaptive instance normalisation). Noise of a learned strength is added to each channel in training; in
eval mode there is none, so that w says all.

Encoder: Pidhorskyi, Adjeroh and Doretto, "Adversarial Latent Autoencoders" (CVPR 2020). After each convolution the mean
and deviation of each channel are read off and taken out; w is linear in all of them, and in what is left at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolution import sizes

_LEAK = 0.2
_TINY = 1e-5


def _widths(count: int, channels: int) -> list[int]:
    """Channels at each scale, finest first."""
    return [channels * min(2**place, 4) for place in range(count)]


def moments(h: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of `h` `(B, C, H, W)` over its picture, `(B, C, 1, 1)` each."""
    mean = h.mean((2, 3), keepdim=True)
    return mean, ((h - mean).square().mean((2, 3), keepdim=True) + _TINY).sqrt()


class Styled(nn.Module):
    """Convolution, noise, leaky ReLU, and the style that `w` asks for: `(B, C, H, W)` to `(B, C', H, W)`."""

    def __init__(self, before: int, wide: int, w: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, wide, 3, padding=1)
        self.noise = nn.Parameter(torch.zeros(wide, 1, 1))
        self.style = nn.Linear(w, 2 * wide)

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        h = self.convolution(h)
        if self.training:
            h = h + self.noise * torch.randn_like(h[:, :1])
        h = functional.leaky_relu(h, _LEAK)
        mean, deviation = moments(h)
        scale, shift = self.style(w)[:, :, None, None].chunk(2, dim=1)
        return (h - mean) / deviation * (1 + scale) + shift


class StyleGenerator(nn.Module):
    """`(B, w)` to `(B, *shape)`: a learned constant, then two styled convolutions at each scale."""

    def __init__(self, w: int, shape: Sequence[int], channels: int) -> None:
        super().__init__()
        colours, height, width = shape
        self.sizes = sizes(height, width)[::-1]
        widths = _widths(len(self.sizes), channels)[::-1]
        self.constant = nn.Parameter(torch.randn(1, widths[0], *self.sizes[0]))
        pairs = zip([widths[0], *widths], widths, strict=False)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Styled(before, wide, w), Styled(wide, wide, w)]) for before, wide in pairs
        )
        self.last = nn.Conv2d(widths[-1], colours, 1)

    def forward(self, w: Tensor) -> Tensor:
        h = self.constant.expand(len(w), -1, -1, -1)
        for size, block in zip(self.sizes, self.blocks, strict=True):
            if h.shape[2:] != size:
                h = functional.interpolate(h, size=size, mode="nearest")
            for styled in block:  # type: ignore[attr-defined]
                h = styled(h, w)
        return self.last(h)


class StyleReader(nn.Module):
    """Convolution, leaky ReLU, and the styles found there: `(B, C, H, W)` to `(B, C', H, W)` and `(B, w)`."""

    def __init__(self, before: int, wide: int, w: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, wide, 3, padding=1, stride=stride)
        self.read = nn.Linear(2 * wide, w)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        h = functional.leaky_relu(self.convolution(h), _LEAK)
        mean, deviation = moments(h)
        return (h - mean) / deviation, self.read(torch.cat([mean, deviation], dim=1).flatten(1))


class StyleEncoder(nn.Module):
    """`(B, *shape)` to `(B, w)`: the styles read at each scale, and the smallest map, each through a linear layer."""

    def __init__(self, shape: Sequence[int], w: int, channels: int) -> None:
        super().__init__()
        colours, height, width = shape
        scales = sizes(height, width)
        widths = _widths(len(scales), channels)
        self.first = nn.Conv2d(colours, channels, 1)
        self.readers = nn.ModuleList()
        before = channels
        for place, wide in enumerate(widths):
            self.readers.append(StyleReader(before, wide, w, stride=2 if place else 1))
            self.readers.append(StyleReader(wide, wide, w, stride=1))
            before = wide
        self.last = nn.Linear(before * scales[-1][0] * scales[-1][1], w)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.leaky_relu(self.first(x), _LEAK)
        found = []
        for reader in self.readers:
            h, style = reader(h)
            found.append(style)
        return self.last(h.flatten(1)) + torch.stack(found).sum(0)
