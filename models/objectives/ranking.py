"""Codes that rank as distances do: among many items, those nearest in input space are nearest by code.

Neighbour embedding on bits. Each item is a distribution over a pool of others, sharp where they are near (stochastic
neighbour embedding: Hinton and Roweis, NIPS 2002); codes are asked for the same distribution by a softmax over how well
they agree, as in noise-contrastive retrieval (the in-batch softmax of DPR: Karpukhin et al., EMNLP 2020, with soft
targets). They agree in two ways, since search does: the query's real logits with the items' bits, which is the soft
rerank (asymmetric: Gordo et al., TPAMI 2014), and bits with bits, which is the Hamming distance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Batch

NEAREST = 10
"""How many a distribution is about: its width is the gap between the distances of the first and of this one."""
_SHARPNESS = 0.3
"""Width as a share of that gap. Sentence embeddings and word vectors lose at 1 and at 3 to where they began (ITQ): what
is far then counts, and codes come to say it; at 0.1 they gain less than at 0.3."""
_SYMMETRIC = 0.5
"""Weight of bits with bits beside logits with bits."""

_MIXED = 0.7
"""An item goes up to this share of the way to a neighbour. Sentence embeddings, 64 bits: recall@10 at 4x oversampling
.668 with items as they are, .682 with these."""


def nearness(x: Tensor, pool: Tensor, own: Tensor) -> Tensor:
    """Distributions `(B, C)` of the items `x` `(B, ...)` over `pool` `(C, ...)` by Euclidean distance.

    own: `(B,)`, the place of each item itself in the pool, -1 where it is not there; nothing is said of it.
    """
    with torch.autocast(x.device.type, enabled=False):
        a, b = x.flatten(1).float(), pool.flatten(1).float()
        squared = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
        squared = squared.masked_fill(itself(own, len(pool)), torch.inf)
        near = squared.topk(min(NEAREST, len(pool) - 1), largest=False).values
        gap = (near[:, -1:] - near[:, :1]).clamp_min(1e-6 * near[:, -1:] + 1e-12)
        return functional.softmax((near[:, :1] - squared) / (_SHARPNESS * gap), dim=1)


def misranking(target: Tensor, logits: Tensor, signs: Tensor, pool: Tensor, own: Tensor, scale: Tensor) -> Tensor:
    """How badly codes tell `target` `(B, C)`, a scalar: cross-entropies in nats, less what no code could do better.

    logits, signs: of the items, real and as -1 and 1, `(B, bits)`. pool: signs of the pool, `(C, bits)`. scale: `(2,)`,
    what agreement is multiplied by, of logits with bits and of bits with bits.
    """
    least = -torch.special.xlogy(target, target).sum(1).mean()
    hidden = itself(own, len(pool))
    soft, hard = (
        -(target * (product @ pool.T * factor).masked_fill(hidden, -1e9).log_softmax(1)).sum(1).mean() - least
        for product, factor in ((logits, scale[0]), (signs, scale[1]))
    )
    return soft + _SYMMETRIC * hard


def itself(own: Tensor, size: int) -> Tensor:
    """`(B, size)`: where an item meets itself in a pool of `size`."""
    return own[:, None] == torch.arange(size, device=own.device)


class Ranking(nn.Module):
    """The objective with its own scale of agreement, which is learned: how sure codes of so many bits can be."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((2,), 0.5 / bits**0.5).log())

    def forward(self, batch: Batch, encode: Callable[[Tensor], Tensor], draw: Callable[[Tensor], Tensor]) -> Tensor:
        """A scalar; 0 without a pool to be ranked.

        encode: from items to logits. draw: from logits to bits, 0 and 1.
        """
        if batch.pool is None or batch.own is None or len(batch.pool) < 2:
            return torch.zeros((), device=batch.x.device)
        x = batch.x if batch.neighbour is None else between(batch.x, batch.neighbour)
        logits, pool = encode(x), 2 * draw(encode(batch.pool)) - 1
        target = nearness(x, batch.pool, batch.own)
        return misranking(target, logits, 2 * draw(logits) - 1, pool, batch.own, self.log_scale.exp())


def between(x: Tensor, neighbour: Tensor) -> Tensor:
    """Items part of the way to a neighbour: queries that were never stored, whose nearest are known all the same."""
    share = _MIXED * torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device)
    return torch.lerp(x, neighbour, share)
