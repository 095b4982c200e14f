"""A ring of Gaussians in the plane: a density of which everything is known, the score of its smoothed self included."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MODES = 5
RADIUS = 2.0
SPREAD = 0.35
"""Standard deviation of each Gaussian."""


def centres() -> Tensor:
    """`(MODES, 2)`, the first on the x axis."""
    angles = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


def draw(n: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """`n` points `(n, 2)`."""
    modes = centres().numpy()[generator.integers(MODES, size=n)]
    return (modes + SPREAD * generator.normal(size=(n, 2))).astype(np.float32)


def log_density(x: Tensor, sigma: float = 0.0) -> Tensor:
    """log p `(B,)` of points `(B, 2)` with Gaussian noise `sigma` on them."""
    variance = SPREAD**2 + sigma**2
    squares = (x[:, None] - centres().to(x)).square().sum(2)  # (B, MODES)
    return (-squares / (2 * variance)).logsumexp(1) - math.log(2 * math.pi * variance * MODES)


def score(x: Tensor, sigma: float = 0.0) -> Tensor:
    """d log p / dx `(B, 2)`."""
    variance = SPREAD**2 + sigma**2
    offsets = centres().to(x) - x[:, None]  # (B, MODES, 2)
    shares = (-offsets.square().sum(2) / (2 * variance)).softmax(1)
    return (shares[:, :, None] * offsets).sum(1) / variance


def nearest_mode(x: Tensor) -> Tensor:
    """The mode `(B,)` that each point is nearest to."""
    return torch.cdist(x, centres().to(x)).argmin(1)
