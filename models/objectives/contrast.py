"""Contrastive hashing: the code of an item tells what is alike from all else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """The normalised-temperature cross-entropy between paired rows of `a` and `b`, both `(B, bits)`: a scalar.

    Each of the 2 B rows must tell its partner from all the others (SimCLR: Chen et al., ICML 2020). On bits as -1 and
    1 the cosine is 1 - 2 d / bits for a Hamming distance d (CIBHash: Qiu et al., IJCAI 2021).
    """
    rows = functional.normalize(torch.cat([a, b]), dim=1)  # (2 B, bits)
    similarity = (rows @ rows.T / temperature).fill_diagonal_(-1e9)
    partner = torch.arange(2 * len(a), device=a.device).roll(len(a))
    return functional.cross_entropy(similarity, partner)
