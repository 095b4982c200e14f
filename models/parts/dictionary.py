"""A first layer that is fitted rather than trained: patches of pictures against those that are common among them.

After Coates, Ng and Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning" (AISTATS 2011):
patches are brought to one contrast and whitened, spherical k-means finds a dictionary of them, and each place of a
picture is described by how much more than usual it is like each entry. CIFAR, 5,000 images, 64 bits, mAP@1000, in a
prototype: ITQ on pixels .20, ITQ on such features .226; learned from views by convolutions .228 in 106 s of a core, by
two dense layers on features of 16 cached views .280 in 9 s, .290 in 38 s (150 s more for the views).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .precision import quickly

_SIZE = 6
_ENTRIES = 256
_GRID = 4
_PLACES = 16
"""Patches along a side; larger pictures are read in larger strides."""
_CONTRAST = 1.5e-4
"""Added to the variance of a patch, of pixels in [0, 1]: a flat patch is not blown up to noise."""
_WHITENING = 0.1
_ROUNDS = 12
PICTURES = 3000
"""Enough pictures to fit a dictionary to."""
_PATCHES = 60_000


class PatchDictionary(nn.Module):
    """`(B, C, H, W)` to `(B, width)`: the likeness to each entry, averaged over the cells of a 4 x 4 grid.

    Zero on average and of unit spread over the pictures it was fitted to. It has no parameters, and passes no gradient.
    """

    filters: Tensor
    offset: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.width = _ENTRIES * _GRID**2
        self._stride = max(2, min(height, width) // _PLACES)
        self.register_buffer("filters", torch.zeros(_ENTRIES, channels, _SIZE, _SIZE))
        self.register_buffer("offset", torch.zeros(_ENTRIES))
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("spread", torch.ones(self.width))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Fit the dictionary to pictures `(n, C, H, W)`; draws with torch's global generator."""
        x = x[torch.randperm(len(x))[:PICTURES]].to(self.filters.device)
        patches = functional.unfold(x, _SIZE, stride=3).transpose(1, 2).flatten(0, 1)
        patches = patches[torch.randperm(len(patches))[:_PATCHES]]
        patches = patches - patches.mean(1, keepdim=True)
        patches = patches / (patches.var(1, keepdim=True) + _CONTRAST).sqrt()
        centre = patches.mean(0)
        values, axes = torch.linalg.eigh((patches - centre).T @ (patches - centre) / len(patches))
        whitening = axes * (values.clamp_min(0) + _WHITENING).rsqrt() @ axes.T
        entries = whitening @ _k_means((patches - centre) @ whitening).T  # (patch, entries)
        entries -= entries.mean(1, keepdim=True)  # what a place is like beyond what it is like on average
        self.offset.copy_(-centre @ entries)
        entries -= entries.mean(0)  # a patch is centred before it is compared, which its filter can do as well
        self.filters.copy_(entries.T.unflatten(1, self.filters.shape[1:]))
        raw = torch.cat([self._likeness(part) for part in x.split(250)])
        self.mean.copy_(raw.mean(0))
        self.spread.copy_(raw.std(0, correction=0) + 0.01)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return (self._likeness(x) - self.mean) / self.spread

    def _likeness(self, x: Tensor) -> Tensor:
        edge = _SIZE // 2 - 1
        like = functional.conv2d(
            x.contiguous(memory_format=torch.channels_last), self.filters, stride=self._stride, padding=edge
        )
        padded = functional.pad(x, (edge,) * 4)
        mean, square = (
            functional.avg_pool2d(of.mean(1, keepdim=True), _SIZE, self._stride) for of in (padded, padded**2)
        )
        contrast = (square - mean**2).clamp_min(0) + _CONTRAST
        like = functional.relu(like * contrast.rsqrt().to(like.dtype) + self.offset[:, None, None].to(like.dtype))
        return functional.adaptive_avg_pool2d(like, _GRID).flatten(1).to(self.mean.dtype).sqrt()


class DictionaryEncoder(nn.Module):
    """`(B, C, H, W)` to `(B, out)`: a `PatchDictionary`, then two dense layers."""

    def __init__(self, shape: Sequence[int], out: int, hidden: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.dictionary = PatchDictionary(channels, height, width)
        self.hidden = nn.Sequential(
            nn.Linear(self.dictionary.width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()
        )
        self.last = nn.Linear(hidden, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return quickly(self, x, lambda x: self.hidden(self.dictionary(x)), self.last)


def _k_means(x: Tensor) -> Tensor:
    """Spherical k-means of `x` `(n, d)`, directions `(_ENTRIES, d)`; empty ones start anew (Coates and Ng, 2012)."""
    count = len(x)
    entries = functional.normalize(
        x[torch.randint(count, (_ENTRIES,))] + 1e-3 * torch.randn(_ENTRIES, x.shape[1], device=x.device), dim=1
    )
    for _ in range(_ROUNDS):
        like, nearest = (x @ entries.T).max(1)
        sums = torch.zeros_like(entries).index_add_(0, nearest, x * like[:, None])
        empty = sums.norm(dim=1) < 1e-6
        sums[empty] = x[torch.randint(count, (int(empty.sum()),))]
        entries = functional.normalize(sums, dim=1)
    return entries
