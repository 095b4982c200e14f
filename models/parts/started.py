"""An encoder that begins as the best hash known in closed form, and is held to it while there is little to learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..inputs import Rows
from .layers import dense
from .rotation import Rotation

_WIDTH = 256
"""Of the hidden layer of what is learned beside the linear part."""
_HOLD = 500.0
"""Items whose evidence weighs as much as the start. Without it 900 word vectors fall from ITQ's recall (.795 to .70 at
64 bits, of held-out ones); at 200 and at 1000 they gain, within .02 of each other, and so do 1,500 digits."""
_SAMPLE = 2000


class Started(nn.Module):
    """From items `(B, dim)` to logits `(B, bits)`, begun from iterative quantisation (Gong and Lazebnik, CVPR 2011).

    A linear map, and beside it a batch-normalised network with a hidden layer, which begins by adding nothing (a scale
    of zero: Goyal et al., "Accurate, Large Minibatch SGD", 2017). With a thousand vectors of 300 numbers a matrix of
    300 x 64 can learn any ranking of them by heart and tell nothing of another vector; so logits are held to those of
    the start with a weight that falls with the number of items.
    """

    begun_weight: Tensor
    begun_bias: Tensor

    def __init__(self, dim: int, bits: int, width: int | None = None) -> None:
        """width: of the hidden layer, 256 if left out."""
        super().__init__()
        self.linear = nn.Linear(dim, bits)
        self.beside = dense([dim, width or _WIDTH, bits])
        self.balance = nn.BatchNorm1d(bits)
        # Of use in training alone, so no part of what is saved.
        self.register_buffer("begun_weight", torch.zeros(bits, dim), persistent=False)
        self.register_buffer("begun_bias", torch.zeros(bits), persistent=False)
        self.hold = 0.0
        """Weight of `moved`."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) + self.balance(self.beside(x))
        return out

    @torch.no_grad()
    def begin(self, rows: Rows, decoder: nn.Linear) -> None:
        """Fit the start to `rows`, and to its bits a `decoder` from -1 and 1 to items, by least squares."""
        rotation = Rotation(self.linear.in_features, self.linear.out_features)
        rotation.fit(rows, lambda x: x.flatten(1), "itq", seed=torch.initial_seed())
        size = rotation.logits(rows.sample(_SAMPLE).flatten(1)).abs().mean().clamp_min(1e-6)
        self.linear.weight.copy_(rotation.matrix.T / size)
        self.linear.bias.copy_(-(rotation.mean @ rotation.matrix) / size)
        self.balance.weight.zero_()
        self.begun_weight.copy_(self.linear.weight)
        self.begun_bias.copy_(self.linear.bias)
        self.hold = _HOLD / len(rows)
        decoder.weight.copy_(rotation.inverse.T)
        decoder.bias.copy_(rotation.mean)

    @torch.no_grad()
    def begin_anew(self) -> None:
        """Leave the start out, where what is near is not what belongs together: the network alone, bits balanced."""
        self.linear.weight.zero_()
        self.linear.bias.zero_()
        self.balance.weight.fill_(1)

    def moved(self, x: Tensor, logits: Tensor) -> Tensor:
        """The mean square of how far the `logits` of `x` are from where they began, where a logit's size is about 1."""
        return (logits - nn.functional.linear(x.flatten(1), self.begun_weight, self.begun_bias)).square().mean()
