"""How gradients pass through bits, which have none.

All take logits and give values of the same shape from 0 to 1; what is drawn is drawn with torch's global generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["straight-through", "relaxed", "continued"]

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


def continued(logits: Tensor) -> Tensor:
    """sigmoid(logit) itself, as -1 and 1 tanh(logit / 2): nothing is drawn, and what is learned from is not bits.

    The sign by continuation: HashNet (Cao et al., ICCV 2017), at one sharpness.
    """
    return logits.sigmoid()


_ESTIMATORS: Mapping[Estimator, Callable[[Tensor], Tensor]] = {
    "straight-through": straight_through,
    "relaxed": relaxed,
    "continued": continued,
}


def draw(logits: Tensor, estimator: Estimator) -> Tensor:
    """Bits `(B, bits)` of logits by the estimator of that name."""
    return _ESTIMATORS[estimator](logits)
