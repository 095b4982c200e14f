"""Hierarchical variational autoencoder: Vahdat and Kautz, "NVAE: A Deep Hierarchical Variational Autoencoder" (NeurIPS
2020).

Maximises E_q log p(x|z) - sum_l E_q KL(q(z_l|x, z_<l) || p(z_l|z_<l)) over groups of latents z_l, coarse to fine (see
`hierarchical`), less lambda (sum of the spectral norms of the convolutions + sum of the largest scales of the batch
normalisations). While the KL is warmed up, its groups are weighed against each other, against posterior collapse.

Written from the formulas. Unlike the paper: Adam for Adamax; convolutions without weight normalisation (a batch
normalisation follows most of them); no flows; and for pictures that are not made black and white a Gaussian with one
calibrated variance (Rybkin, Daniilidis and Levine, ICML 2021) where the paper has a mixture of logistics, so nats of
colour pictures are those of a density and not comparable with its bits per dimension.

The latent that is hashed, mixed and decoded is the noise e_l = (E z_l - mu_l) / sigma_l of each group in turn, each
given the posterior means of the groups above it: under the prior all of it is N(0, I), a group that says nothing is 0,
and a group that is left out takes its prior mean. Interpolation mixes all the groups.

Batch normalisation uses running statistics outside training. They come from posterior draws: samples from the prior
pass through slightly other ones, which costs sharpness and is not corrected here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec, Rows
from ..latent import LatentAutoencoder
from ..parts.cells import SpectralNorms, convolution_weights, largest_scales
from ..parts.hierarchical import Ladder, Posterior, Prior, balance
from ..parts.layers import mean_filled
from ..parts.observation import Observation
from ..parts.variational import (
    binarised,
    importance_weighted,
    normal,
    uniform,
)

_LEAST_WARMTH = 1e-4
_SCORE_DRAWS = 8
_EXAMINED = 1000
_ALIVE = 0.5
"""Nats of KL below which a group says next to nothing."""

Pick = Callable[[int, Posterior], Tensor]
"""The noise `(B, latents, H, W)` of a group, given its place and its posterior."""


class NvaeParams(FamilyParams):
    groups: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(
        (2, 2), min_length=1, max_length=5, description="groups of latents at each scale, coarse to fine"
    )
    channels: int = Field(16, ge=4, le=128, description="channels at full size; up to four times as many below")
    latents: int = Field(8, ge=1, le=64, description="latents of a group at each place")
    cells: int = Field(1, ge=1, le=4, description="residual cells of a group in either direction")
    expansion: int = Field(4, ge=1, le=8, description="how many times wider a decoder cell is inside")
    binarise: bool = Field(False, description="black and white pixels drawn from grey values; images only")
    spectral: float = Field(0.01, ge=0, le=10, description="lambda, the weight of spectral norms and scales")
    warm_up_steps: int = Field(900, ge=0, description="steps over which the KL's weight grows from 0; 30 % of all")


class Nvae(LatentAutoencoder):
    """Groups of latents, coarse to fine, in deep residual nets; samples, varies, repairs, tells strange items."""

    family = "nvae"
    chosen_by = "loss"
    steps = 3000
    spherical = True
    scored_by = "importance-weighted bound on log p(x) in nats, of a density where values are not black and white"

    Params = NvaeParams

    params: NvaeParams
    warmed: Tensor

    def __init__(self, input: InputSpec, bits: int, params: NvaeParams) -> None:
        sizes = (params.channels, params.latents, params.cells, params.expansion)
        ladder = Ladder(input.shape, params.groups, *sizes)
        super().__init__(input, bits, params, sum(math.prod(shape) for shape in ladder.shapes))
        self.ladder = ladder
        self.norms = SpectralNorms(convolution_weights(ladder))
        self.observation = Observation(input, binarised=params.binarise)
        self.register_buffer("warmed", torch.zeros((), dtype=torch.int64))

    @property
    def learning_rate(self) -> float:
        return 1e-2 if self.ladder.picture else 3e-3

    def prepare(self, rows: Rows) -> None:
        self.observation.prepare(rows.sample(2000).to(self.device), self.ladder.last)

    # -- the model -----------------------------------------------------------------------------------------------

    def infer(self, x: Tensor, pick: Pick) -> Tensor:
        """The decoder's output `(B, *shape)` for noises picked from the posterior of each group, coarse to fine."""
        features = self.ladder.features(x)

        def choose(place: int, prior: Prior, h: Tensor) -> Tensor:
            return pick(place, self.ladder.posterior(place, features[place], prior, h))

        return self.ladder(len(x), choose)

    def nll(self, out: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z) in nats `(B,)` from the decoder's output; a density where the decoder is Gaussian."""
        return self.observation.nll(out.flatten(1).to(x.dtype), x)

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        """The negative bound; in training its KL is warmed up, and the regularisers are added."""
        x = batch.x
        if self.params.binarise:
            x = binarised(x, torch.rand_like(x))
        costs: list[Tensor] = []

        def pick(_: int, posterior: Posterior) -> Tensor:
            costs.append(posterior.kl().flatten(1).sum(1).mean())
            return posterior.shift + posterior.spread * torch.randn_like(posterior.spread)

        reconstruction = self.nll(self.infer(x, pick), x).mean()
        kl = torch.stack(costs)  # (groups,)
        terms = {"reconstruction": reconstruction, "kl": kl.sum()}
        if not self.training:
            return reconstruction + kl.sum(), terms
        warmth = (int(self.warmed) + 1) / (self.params.warm_up_steps + 1)
        if warmth < 1:
            kl = max(_LEAST_WARMTH, warmth) * balance(kl, self.ladder.sizes) * kl
        total = reconstruction + kl.sum()
        return total + self.params.spectral * self._roughness() if self.params.spectral else total, terms

    def _roughness(self) -> Tensor:
        """The sum of the spectral norms of the convolutions and of the largest scales of the normalisations."""
        weights = convolution_weights(self.ladder)
        with torch.autocast(self.device.type, enabled=False):
            return self.norms(weights).sum() + largest_scales(self.ladder)

    def after_step(self) -> None:
        self.warmed += 1

    # -- how likely items are --------------------------------------------------------------------------------------

    def costs(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """-log p(x|z) `(B,)` and the KL of each group `(B, groups)`, for one draw; their sum is the negative ELBO."""
        kl: list[Tensor] = []

        def pick(_: int, posterior: Posterior) -> Tensor:
            kl.append(posterior.kl().flatten(1).sum(1))
            return posterior.shift + posterior.spread * normal(tuple(posterior.spread.shape), x, generator)

        nll = self.nll(self.infer(x, pick), x)
        return nll, torch.stack(kl, dim=1)

    def log_weights(self, x: Tensor, generator: Generator, *, alike: bool = False) -> Tensor:
        """log p(x, z) - log q(z|x) `(B,)` for a draw of z; the ELBO of `x` in expectation.

        alike: one draw of noise serves all the items, which makes the result of each its own affair.
        """
        ratios: list[Tensor] = []

        def pick(_: int, posterior: Posterior) -> Tensor:
            shape = tuple(posterior.shift.shape)
            noise = normal((1, *shape[1:]) if alike else shape, x, generator)
            e = posterior.shift + posterior.spread * noise
            ratios.append((0.5 * (noise.square() - e.square()) + posterior.spread.log()).flatten(1).sum(1))
            return e

        nll = self.nll(self.infer(x, pick), x)
        return torch.stack(ratios).sum(0) - nll

    def log_likelihood(self, x: Tensor, samples: int, generator: Generator) -> Tensor:
        """The importance-weighted bound on log p(x) in nats, `(B,)`, from `samples` draws for each item."""
        if self.params.binarise:
            x = binarised(x, uniform(tuple(x.shape), x, generator))
        return importance_weighted(self.log_weights(x, generator) for _ in range(samples))

    def score(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)  # the same draws for every item, whatever batch it comes in
        if self.params.binarise:
            x = binarised(x, uniform((1, *self.input.shape), x, generator))
        return importance_weighted(self.log_weights(x, generator, alike=True) for _ in range(_SCORE_DRAWS))

    @torch.no_grad()
    def diagnose(self, rows: Rows) -> Mapping[str, float | str]:
        x = rows.sample(_EXAMINED).to(self.device)
        generator = torch.Generator().manual_seed(0)
        if self.params.binarise:
            x = binarised(x, uniform(tuple(x.shape), x, generator))
        kl = self.costs(x, generator)[1].mean(0).tolist()
        dead = [str(place) for place, nats in enumerate(kl, start=1) if nats < _ALIVE]
        return {
            "kl": round(sum(kl), 3),
            "kl_of_groups": ", ".join(f"{nats:.2f}" for nats in kl),
            "collapsed_groups": ", ".join(dead) or "none",
        }

    # -- what it makes ---------------------------------------------------------------------------------------------

    def latent(self, x: Tensor) -> Tensor:
        """The noise of all groups `(B, dim)`, coarse to fine, with every group at its posterior mean."""
        noises: list[Tensor] = []

        def pick(_: int, posterior: Posterior) -> Tensor:
            noises.append(posterior.shift)
            return posterior.shift

        self.infer(x, pick)
        return torch.cat([noise.flatten(1) for noise in noises], dim=1)

    def expected(self, z: Tensor) -> Tensor:
        """The expected `x` for the noise of all groups, or of the coarse ones alone: the rest take prior means."""
        parts = self._parts(z)

        def choose(place: int, prior: Prior, _: Tensor) -> Tensor:
            return parts[place] if place < len(parts) else torch.zeros_like(prior.mean)

        return self._shown(self.ladder(len(z), choose))

    def _parts(self, z: Tensor) -> list[Tensor]:
        """`z` `(B, dim of the first groups)` cut into groups `(B, latents, H, W)`."""
        parts: list[Tensor] = []
        start = 0
        for shape in self.ladder.shapes:
            end = start + math.prod(shape)
            if end > z.shape[1]:
                break
            parts.append(z[:, start:end].unflatten(1, shape))
            start = end
        if start != z.shape[1]:
            raise ValueError(
                f"{z.shape[1]} numbers are not the noise of the first groups, of shapes {self.ladder.shapes}"
            )
        return parts

    def _shown(self, out: Tensor) -> Tensor:
        return self.observation.expected(out.flatten(1))

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Temperature multiplies the prior's sigma in every group."""
        return self.expected(temperature * normal((n, self.rotation.dim), self.rotation.mean, generator))

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """The coarse half of the groups is drawn from the item's posterior, the fine half from the prior."""
        kept = -(-len(self.ladder.shapes) // 2)

        def pick(place: int, posterior: Posterior) -> Tensor:
            noise = temperature * normal(tuple(posterior.shift.shape), x, generator)
            return posterior.shift + posterior.spread * noise if place < kept else noise

        return self._shown(self.infer(x.expand(n, *x.shape[1:]), pick))

    def denoise(self, x: Tensor) -> Tensor:
        return self.reconstruct(x)

    def inpaint(self, x: Tensor, mask: Tensor, *, steps: int, generator: Generator) -> Tensor:
        """A Markov chain that redraws the missing part (Rezende, Mohamed and Wierstra, ICML 2014, appendix F)."""
        filled = mean_filled(x, mask)
        for step in range(steps):
            warmth = 0.0 if step == steps - 1 else 1.0

            def pick(_: int, posterior: Posterior, warmth: float = warmth) -> Tensor:
                noise = normal(tuple(posterior.shift.shape), x, generator)
                return posterior.shift + warmth * posterior.spread * noise

            filled = torch.where(mask > 0, self._shown(self.infer(filled, pick)), x)
        return filled
