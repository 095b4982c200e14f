"""Posterior collapse, diagnosed: does a variational autoencoder use its latent, or does the decoder do without?

Five measurements, no one of which is enough by itself:

- KL(q(z|x) || p(z)) of each dimension, in nats;
- active units: dimensions whose posterior mean has a variance above .01 over the items (Burda et al., ICLR 2016);
- the mutual information I_q(x; z) = KL - KL(q(z) || p(z)) (Hoffman and Johnson, "ELBO surgery", 2016), with q(z)
  the mixture of the posteriors of the n items at hand, so that the estimate cannot exceed log n;
- reconstruction of x from z ~ q(z|x) and from z ~ p(z): no gap means that the decoder does not look;
- the decoder's sensitivity: the root mean square of d log p(x|z) / dz, in nats for a step of one prior deviation.

The verdict rests on the gap, as a share of all that could be lost: a decoder that reads its latent is lost with a wrong
one. KL alone would not do: it is small for a two-dimensional latent that is well used, and large for an encoder that
talks to a decoder which does not listen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .variational import Bernoulli, Gaussian

Posterior = Gaussian | Bernoulli

_BATCH = 128
_ACTIVE = 0.01
_LEAST_SHARE = 0.15
"""Below this share of the reconstruction lost with a wrong latent, the latent hardly matters."""


@dataclass(frozen=True)
class CollapseReport:
    """What was measured on `items` items; all in nats but the counts and shares."""

    items: int
    kl: tuple[float, ...]
    active_units: int
    information: float
    reconstruction: float
    """-E log p(x|z) with z ~ q(z|x)."""
    reconstruction_from_prior: float
    perfect: float
    """The -log p(x|z) of a decoder that is never wrong: 0 for black and white pixels, not for densities."""
    sensitivity: float

    @property
    def total_kl(self) -> float:
        return sum(self.kl)

    @property
    def gap(self) -> float:
        """How many nats worse an item is reconstructed from a latent that is not its own."""
        return self.reconstruction_from_prior - self.reconstruction

    @property
    def gap_share(self) -> float:
        """The gap as a share of what a wrong latent loses against perfection: 0 ignored, 1 decisive."""
        return max(0.0, self.gap) / max(self.reconstruction_from_prior - self.perfect, 1e-9)

    @property
    def collapsed(self) -> bool:
        return self.active_units == 0 or self.gap_share < _LEAST_SHARE

    @property
    def verdict(self) -> str:
        """The diagnosis in a sentence."""
        used = f"{self.active_units} of {len(self.kl)} latent dimensions are active ({self.total_kl:.1f} nats of KL)"
        felt = f"a wrong latent costs {self.gap:.1f} nats, {self.gap_share:.0%} of what reconstruction could lose"
        if self.active_units == 0:
            return f"collapsed: no latent dimension says anything about the item; {felt}"
        if self.collapsed:
            return f"partly collapsed: {used}, but the decoder could almost do without them: {felt}"
        return f"healthy: {used}, and the decoder reads them: {felt}"

    def metrics(self) -> dict[str, float | str]:
        """The report as a model's metrics carry it."""
        return {
            "kl": round(self.total_kl, 3),
            "active_units": self.active_units,
            "information": round(self.information, 3),
            "information_at_most": round(math.log(self.items), 3),
            "reconstruction_gap": round(self.gap, 3),
            "decoder_sensitivity": round(self.sensitivity, 3),
            "posterior": self.verdict,
        }


@torch.no_grad()
def examine(
    x: Tensor,
    posterior: Posterior,
    nll: Callable[[Tensor, Tensor], Tensor],
    *,
    perfect: float = 0.0,
    seed: int = 0,
) -> CollapseReport:
    """Diagnose a latent on items `x`, `(n, ...)`, of which `posterior` is q(z|x).

    nll: -log p(x|z) `(n,)` of latents `(n, dim)` and `x`; it must be differentiable in its first argument. perfect:
    the nll of a decoder that is never wrong.
    """
    generator = torch.Generator().manual_seed(seed)
    z, other = posterior.draw(generator), posterior.from_prior(generator)
    own, squares, wrong = [], [], []
    for z_own, z_other, items in zip(z.split(_BATCH), other.split(_BATCH), x.split(_BATCH), strict=True):
        lost, square = _with_gradient(z_own, items, nll)
        own.append(lost)
        squares.append(square)
        wrong.append(nll(z_other, items))
    return CollapseReport(
        items=len(x),
        kl=tuple(posterior.kl().mean(0).tolist()),
        active_units=int((posterior.mean.var(0) > _ACTIVE).sum()),
        information=mutual_information(z, posterior),
        reconstruction=float(torch.cat(own).mean()),
        reconstruction_from_prior=float(torch.cat(wrong).mean()),
        perfect=perfect,
        sensitivity=float(torch.cat(squares).mean().sqrt()),
    )


def _with_gradient(z: Tensor, x: Tensor, nll: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The nll `(n,)` at `z` and the square of its gradient by `z`, `(n, dim)`."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        out = nll(z, x)
        if not out.requires_grad:  # a decoder that has no path from its latent at all
            return out, torch.zeros_like(z)
        (gradient,) = torch.autograd.grad(out.sum(), z, materialize_grads=True)
    return out.detach(), gradient.square()


def mutual_information(z: Tensor, posterior: Posterior) -> float:
    """I_q(x; z) from one draw `z` `(n, dim)` of each of n posteriors; at most log n."""
    log_density = posterior.log_densities(z)  # (n, n)
    mixture = log_density.logsumexp(1) - math.log(len(z))
    return float((log_density.diagonal() - mixture).mean())
