"""Codes written as bits so that near codebook entries differ in few of them: pseudo-Gray coding.

Zeger and Gersho, "Pseudo-Gray Coding" (IEEE Transactions on Communications, 1990): choose which word stands for which
entry so that the expected distance D between an entry and what it becomes when each bit flips with probability q is
least,

    sum over i, j of D_ij q^h(i,j) (1 - q)^(b - h(i,j)),   h(i,j) the Hamming distance of the words of i and j

by swapping pairs of words as long as a swap helps (a quadratic assignment problem; the swaps find a local optimum).
D is the square root of the Euclidean distance: squares would spend the words on keeping the farthest entries apart,
and it is the nearest that must stay together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FLIP = 0.2
"""Large enough that words two and three bits away count too."""
_MOST_SWAPS = 20_000


class Words(nn.Module):
    """A word of `width` bits, as -1 and 1, for each of `size` codes."""

    table: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.width = max(1, math.ceil(math.log2(size)))
        self.register_buffer("table", numbers(self.width)[:size])

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Choose the words for codebook entries `(size, dim)`."""
        distances = torch.cdist(vectors.double().cpu(), vectors.double().cpu())
        self.table.copy_(numbers(self.width)[assign(distances.sqrt(), self.width)])

    def spell(self, codes: Tensor) -> Tensor:
        """The words `(B, positions * width)` of codes `(B, positions)`."""
        return self.table[codes].flatten(1)

    def read(self, spelled: Tensor) -> Tensor:
        """The codes `(B, positions)` whose words are nearest to real numbers `(B, positions * width)`."""
        return (spelled.unflatten(1, (-1, self.width)) @ self.table.T).argmax(2)


def numbers(width: int) -> Tensor:
    """The binary numbers below 2^width in order, as rows of -1 and 1, `(2^width, width)`."""
    places = torch.arange(2**width)[:, None] >> torch.arange(width - 1, -1, -1)
    return ((places & 1) * 2 - 1).float()


def assign(distances: Tensor, width: int) -> Tensor:
    """For each entry the number `(size,)` of its word, given the entries' distances `(size, size)` in float64."""
    size, total = len(distances), 2**width
    d = distances.new_zeros(total, total)  # words left over stand for nobody and cost nothing
    d[:size, :size] = distances / distances.mean().clamp_min(1e-30)
    words = _start(distances, width)
    signs = numbers(width).to(d)
    hamming = (width - signs @ signs.T) / 2
    channel = FLIP**hamming * (1 - FLIP) ** (width - hamming)
    same = float(channel[0, 0])
    f = channel[words][:, words]  # what the channel does between the words of two entries
    product = f @ d
    for _ in range(_MOST_SWAPS):
        # The change of the sum over ordered pairs when r and s swap their words, for all r and s at once.
        own = product.diagonal()
        change = product + product.T - own[:, None] - own[None, :] - 2 * (same - f) * d
        place = int(change.argmin())
        r, s = divmod(place, total)
        if change[r, s] > -1e-9:
            break
        old = f[:, [r, s]].clone()
        f[[r, s]] = f[[s, r]]
        f[:, [r, s]] = f[:, [s, r]]
        words[[r, s]] = words[[s, r]]
        product += (f[:, [r, s]] - old) @ d[[r, s]]
        product[[r, s]] = f[[r, s]] @ d
    return words[:size]


def _start(distances: Tensor, width: int) -> Tensor:
    """Words by halving the entries again and again along the widest direction of what is left."""
    size, total = len(distances), 2**width
    # Classical scaling (Torgerson, Psychometrika 1952): points whose squared distances are `distances`.
    centred = distances - distances.mean(0) - distances.mean(1)[:, None] + distances.mean()
    values, vectors = torch.linalg.eigh(-0.5 * centred)
    points = vectors * values.clamp_min(0).sqrt()  # (size, size)
    words = torch.zeros(total, dtype=torch.int64)
    groups = [torch.arange(size)]
    for level in range(width):
        parts = []
        for group in groups:
            here = points[group] - points[group].mean(0)
            axis = torch.linalg.svd(here, full_matrices=False).Vh[0] if len(group) > 1 else points.new_ones(size)
            axis = axis * torch.where(axis[axis.abs().argmax()] < 0, -1.0, 1.0)  # halves face the same way everywhere
            order = group[(here @ axis).argsort()]
            edge = min(2 ** (width - level - 1), -(-len(order) // 2))
            words[order[edge:]] += 2 ** (width - level - 1)
            parts += [order[:edge], order[edge:]]
        groups = parts
    taken = torch.zeros(total, dtype=torch.bool)
    taken[words[:size]] = True
    words[size:] = (~taken).nonzero().flatten()
    return words
