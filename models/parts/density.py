"""What can be done with a score field s(x) = d log p(x) / dx: log-density differences and Markov chains.

Nothing here knows where the field comes from: the repair of a regularised autoencoder gives it as (r(x) - x) / sigma^2
(Alain and Bengio, "What Regularized Auto-Encoders Learn from the Data Generating Distribution", ICLR 2013 and JMLR
2014), a known density exactly. Items are `(B, ...)`; a chain is a row, and all chains step together. Whatever is
random comes from the generator that is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

Score = Callable[[Tensor], Tensor]
"""From items `(B, ...)` to d log p / dx at each, of the same shape."""
LogRatio = Callable[[Tensor, Tensor], Tensor]
"""From pairs `a`, `b` to log p(b) - log p(a), `(B,)`."""

Box = tuple[Tensor, Tensor]
"""Lowest and highest values, which broadcast to the items: where a learned field can be trusted."""


@dataclass(frozen=True)
class Rule:
    """Where along a path from 0 to 1 the field is looked at, and the weight of each look."""

    nodes: tuple[float, ...]
    weights: tuple[float, ...]


def plain_mean(n: int) -> Rule:
    """The mean over `n` equally spaced points, both ends included: the rule of the paper's own program."""
    return Rule(tuple(np.linspace(0, 1, n).tolist()), (1 / n,) * n)


def trapezoid(n: int) -> Rule:
    """`n` equally spaced points, the two ends at half weight."""
    weights = np.full(n, 1 / (n - 1))
    weights[[0, -1]] /= 2
    return Rule(tuple(np.linspace(0, 1, n).tolist()), tuple(weights.tolist()))


def gauss_legendre(n: int) -> Rule:
    """`n` points that are exact for a field of degree 2n - 1 along the path."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return Rule(tuple((0.5 + 0.5 * nodes).tolist()), tuple((0.5 * weights).tolist()))


FIVE = gauss_legendre(5)
"""As good as the plain mean of twenty points, at a quarter of the cost."""


def path_integral(score: Score, rule: Rule = FIVE) -> LogRatio:
    """log p(b) - log p(a) as the integral of the field along the straight path from a to b."""

    def log_ratio(a: Tensor, b: Tensor) -> Tensor:
        along = sum(
            weight * score(torch.lerp(a, b, node)) for node, weight in zip(rule.nodes, rule.weights, strict=True)
        )
        return ((b - a) * along).flatten(1).sum(1)

    return log_ratio


def first_order(score: Score) -> LogRatio:
    """log p(b) - log p(a) as if the field did not change on the way: wrong for steps that are not tiny."""

    def log_ratio(a: Tensor, b: Tensor) -> Tensor:
        return ((b - a) * score(a)).flatten(1).sum(1)

    return log_ratio


def metropolis(
    log_ratio: LogRatio,
    x: Tensor,
    *,
    steps: int,
    spread: float,
    generator: Generator,
    box: Box | None = None,
    temperature: float = 1.0,
) -> tuple[Tensor, float]:
    """Metropolis-Hastings with isotropic Gaussian proposals: where the chains end, and the share of accepted moves.

    A learned field means nothing far from the data: a proposal outside the box is refused. `temperature` divides the
    log-ratio.
    """
    accepted = 0.0
    for _ in range(steps):
        proposal = x + spread * noise(x, generator)
        chance = torch.rand(len(x), generator=generator, dtype=x.dtype).to(x.device)
        moves = chance.log() * temperature < log_ratio(x, proposal)  # (B,)
        if box is not None:
            moves &= ((proposal >= box[0]) & (proposal <= box[1])).flatten(1).all(1)
        accepted += float(moves.float().mean()) / steps
        x = torch.where(moves.view(-1, *[1] * (x.dim() - 1)), proposal, x)
    return x, accepted


def langevin(
    score: Score,
    x: Tensor,
    *,
    steps: int,
    step: float,
    generator: Generator,
    box: Box | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Where unadjusted Langevin chains end: x + step^2 / 2 s(x) + step e. `temperature` scales the noise e.

    With step^2 = 2 sigma^2 a move is to repair and then to spoil again, x' = r(x) + sqrt(2) sigma e. What would leave
    the box is put on its border.
    """
    for _ in range(steps):
        x = x + 0.5 * step**2 * score(x) + temperature * step * noise(x, generator)
        if box is not None:
            x = torch.minimum(torch.maximum(x, box[0]), box[1])
    return x


def noise(like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers of the shape, type and device of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def hutchinson(out: Tensor, x: Tensor, probes: int = 1) -> Tensor:
    """Estimates `(B,)` of the squared Frobenius norm of d out / d x for each item, differentiable.

    ||J||^2 = E_v ||v'J||^2 for v with unit covariance; each of the `probes` draws signs with torch's global generator
    and costs one backward pass. Hutchinson, Communications in Statistics, 1990. `out` and `x` are `(B, ...)`.
    """
    total = x.new_zeros(len(x))
    for _ in range(probes):
        signs = torch.randint_like(out, 0, 2) * 2 - 1
        (product,) = torch.autograd.grad(out, x, signs, create_graph=True)
        total = total + product.flatten(1).square().sum(1)
    return total / probes
