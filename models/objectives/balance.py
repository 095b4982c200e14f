"""Bits that are worth their place: each one for half of the items, no two saying the same.

The two conditions of spectral hashing (Weiss, Torralba and Fergus, NIPS 2008), as penalties on a batch.
"""

from __future__ import annotations

from torch import Tensor


def imbalance(logits: Tensor) -> Tensor:
    """The mean over bits of the squared mean of tanh(logit / 2): 0 where each is 1 for half of the batch, at most 1.

    Where logits are batch-normalised their means are zero already; what is left is their skew.
    """
    return (logits / 2).tanh().mean(0).square().mean()


def correlation(logits: Tensor) -> Tensor:
    """The mean squared correlation between pairs of logits over the batch, from 0 to 1.

    As the redundancy term of Barlow Twins (Zbontar et al., ICML 2021). A batch should have more items than there are
    bits: among fewer, some must be correlated.
    """
    bits = logits.shape[1]
    if bits < 2:
        return logits.new_zeros(())
    centred = logits - logits.mean(0)
    normed = centred / centred.square().mean(0).add(1e-6).sqrt()
    r = normed.T @ normed / len(logits)
    return (r.square().sum() - r.diagonal().square().sum()) / (bits * (bits - 1))
