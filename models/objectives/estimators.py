"""How gradients pass through bits, which have none.

Both take logits and give values of the same shape from 0 to 1, drawn with torch's global generator.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["straight-through", "relaxed"]

_RELAXATION = 2 / 3
"""The temperature that Maddison, Mnih and Teh recommend for the posterior of binary variables."""


def straight_through(logits: Tensor) -> Tensor:
    """Bits drawn with probability sigmoid(logit), 0 or 1, with the gradient of that probability.

    Bengio, Leonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons" (2013).
    """
    probability = logits.sigmoid()
    bits = torch.bernoulli(probability.detach())
    return bits + probability - probability.detach()


def relaxed(logits: Tensor, temperature: float = _RELAXATION) -> Tensor:
    """Draws from the binary concrete distribution: above 1/2 with probability sigmoid(logit), seldom far from 0 or 1.

    Maddison, Mnih and Teh, "The Concrete Distribution" (ICLR 2017); Jang, Gu and Poole (ICLR 2017). Nothing is biased,
    but what is learned from is not quite bits.
    """
    uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
    return ((logits + uniform.logit()) / temperature).sigmoid()


def draw(logits: Tensor, estimator: Estimator) -> Tensor:
    """Bits `(B, bits)` of logits by the estimator of that name."""
    return straight_through(logits) if estimator == "straight-through" else relaxed(logits)
