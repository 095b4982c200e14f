"""Neighbourhood reconstruction: a code must give back not its item alone but the items near it."""

from __future__ import annotations

import torch
from torch import Tensor


def paired(x: Tensor, neighbour: Tensor, share: float) -> Tensor:
    """What the codes of `x` are decoded towards: a `share` of the items `(B, ...)` is replaced by its neighbour.

    Pairwise reconstruction (PairRec: Hansen et al., SIGIR 2020): bits are spent on what neighbours have in common.
    """
    chosen = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device) < share
    return torch.where(chosen, neighbour, x)
