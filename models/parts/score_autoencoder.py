"""Autoencoders whose repair of an item says where the data are denser: the score, and what follows from it.

If r minimises the denoising criterion at noise level sigma, then (r(x) - x) / sigma^2 is the score of the data's
density smoothed by that noise (Tweedie's formula; Miyasawa 1961, Vincent, Neural Computation 2011); the contractive
criterion has the same field in the limit of small sigma (Alain and Bengio, ICLR 2013 and JMLR 2014). From the field
come log-density differences, the score of an item against the mean item, and Markov chains.

Every repair passes through the latent, which is hashed and decoded, in two parts: the best linear denoiser
(`LinearDenoiser`) and networks for what that leaves over, in its size:

    z = code(x) + doubt * encoder(x)        (B, latent)
    r = item(z) + error * decoder(z)        (B, *input.shape)

With as many latents as dimensions this is the residual form r(x) = x + sigma net(x) without which small noise is not
learned, with more it is an overcomplete one as in the papers, with fewer an autoencoder with a bottleneck. Texts, unit
vectors of word weights, have the same encoder and a decoder of words; chains of texts are kept among such vectors.
Noise levels are in the input's own units (pixels in [0, 1], vectors scaled to spread one), for texts in units of the
spread of one word's weight.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ..base import FamilyParams
from ..inputs import InputSpec, Rows
from ..latent import LatentAutoencoder
from .convolution import is_picture
from .density import langevin, path_integral
from .folded import FoldedDecoder, FoldedEncoder
from .layers import expectation
from .linear_denoiser import LinearDenoiser

_STEPS_A_LEVEL = 8
_VARY_STEPS = 10
_STEP = 0.7
"""A Langevin step against sigma: in directions without data its chains spread by 1.07 sigma instead of sigma."""


class ScoreAutoencoder(LatentAutoencoder):
    """What denoising and contractive autoencoders share."""

    scored_by: ClassVar[str] = "log-density against that of the mean item, in nats, integrated along the score field"

    def __init__(
        self,
        input: InputSpec,
        bits: int,
        params: FamilyParams,
        *,
        latent: int,
        channels: int,
        hidden: int,
        seen: int = 0,
        told: int = 0,
    ) -> None:
        """`seen` more planes of an item's shape and `told` more numbers are shown to the networks with each item."""
        super().__init__(input, bits, params, latent)
        self.linear = LinearDenoiser(input.size, latent)
        self.words = input.likelihood == "multinomial"
        wide = (1 + seen) * input.shape[0] + told
        self.encoder: nn.Module
        self.decoder: nn.Module
        if is_picture(input):
            self.encoder = FoldedEncoder((wide, *input.shape[1:]), latent, channels)
            self.decoder = nn.Sequential(FoldedDecoder(latent + told, input.shape, channels), nn.Flatten())
        else:
            self.encoder = _smooth([wide, hidden, hidden, latent])
            self.decoder = _smooth([latent + told, hidden, hidden, input.size])

    @property
    def learning_rate(self) -> float:
        return 2e-3

    def prepare(self, rows: Rows) -> None:
        self.linear.fit(rows)

    # -- the repair --------------------------------------------------------------------------------------------------

    def coded(self, x: Tensor, sigma: Tensor, told: Tensor, *seen: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Latents `(B, latent)` of `x` with noise `sigma` `(B, 1)`; `told` `(B, told)`, `seen` like `x`.

        hidden: `(B, 1)`, the share of each item that is missing, of which the linear code knows nothing.
        """
        flat = x.flatten(1)
        scale = (self.linear.spread.square() + sigma.square()).sqrt()
        shown = ((flat - self.linear.mean) / scale).view_as(x)
        planes = told.view(*told.shape, *[1] * (x.dim() - 2)).expand(*told.shape, *x.shape[2:])
        out = self.encoder(torch.cat([shown, *seen, planes], dim=1))
        doubt = self.linear.doubt(sigma)
        if hidden is not None:
            doubt = (doubt.square() + hidden * self.linear.variances).sqrt()
        return self.linear.code(flat, sigma) + doubt * out

    def decoded(self, z: Tensor, sigma: Tensor, told: Tensor) -> Tensor:
        """What the decoder says of latents: items `(B, size)`, or logits of words."""
        out = self.decoder(torch.cat([z / self.linear.width, told], dim=1))
        if self.words:
            return out + self.linear.mean.clamp_min(1e-6).log()
        return self.linear.item(z) + self.linear.error(sigma) * out

    def finished(self, out: Tensor) -> Tensor:
        """The decoder's output as items `(B, *input.shape)` in the input's range."""
        if self.words:
            return expectation("multinomial", out)
        out = out.unflatten(1, self.input.shape)
        return out.clamp(0, 1) if self.input.likelihood == "bernoulli" else out

    @property
    @abstractmethod
    def smoothing(self) -> float:
        """The noise level at which densities are judged."""

    @property
    @abstractmethod
    def levels(self) -> list[float]:
        """The noise levels that a chain goes through, largest first."""

    @abstractmethod
    def repaired(self, x: Tensor, sigma: float) -> Tensor:
        """r(x) `(B, *input.shape)`, the mean of the clean items that noise of level `sigma` may have made into `x`."""

    # -- the density -------------------------------------------------------------------------------------------------

    def noise_in(self, sigma: float) -> float:
        """A noise level in the units of the tensors."""
        return sigma * float(self.linear.spread) if self.words else sigma

    def gradient(self, x: Tensor, sigma: float | None = None) -> Tensor:
        """The score field at `x`, `(B, *input.shape)`: d log p / dx of the density smoothed by noise `sigma`."""
        sigma = self.smoothing if sigma is None else sigma
        return (self.repaired(x, sigma) - x) / self.noise_in(sigma) ** 2

    def log_ratio(self, a: Tensor, b: Tensor) -> Tensor:
        """log p(b) - log p(a), `(B,)`: the integral of the field along the straight path."""
        return path_integral(self.gradient)(a, b)

    def score(self, x: Tensor) -> Tensor:
        mean = self.linear.mean.to(x).unflatten(0, self.input.shape)
        return self.log_ratio(mean.expand_as(x), x)

    # -- Markov chains -----------------------------------------------------------------------------------------------

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Langevin chains from a broad Gaussian through falling noise levels (Song and Ermon, NeurIPS 2019)."""
        x = self.linear.draw(n, self.noise_in(self.levels[0]), generator, temperature)
        x = self._admitted(x.unflatten(1, self.input.shape))
        for sigma in self.levels:
            x = self._chain(x, sigma, _STEPS_A_LEVEL, generator, temperature)
        return self.repaired(x, self.levels[-1])

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Short Langevin chains that start at the item."""
        x = self._chain(x.expand(n, *self.input.shape), self.smoothing, _VARY_STEPS, generator, temperature)
        return self.repaired(x, self.smoothing)

    def _chain(self, x: Tensor, sigma: float, steps: int, generator: Generator, temperature: float) -> Tensor:
        margin = 3 * self.noise_in(sigma)
        low, high = (edge.unflatten(0, self.input.shape) for edge in (self.linear.low, self.linear.high))
        for _ in range(steps):
            x = self._admitted(
                langevin(
                    lambda at: self.gradient(at, sigma),
                    x,
                    steps=1,
                    step=_STEP * self.noise_in(sigma),
                    generator=generator,
                    box=(low - margin, high + margin),
                    temperature=temperature,
                )
            )
        return x

    def _admitted(self, x: Tensor) -> Tensor:
        """The nearest state that a chain may be in: texts have no negative weights and length one."""
        return functional.normalize(x.clamp_min(0), dim=1) if self.words else x


def falling(largest: float, smallest: float, n: int) -> list[float]:
    """`n` noise levels, each the same share of the one before."""
    return [largest] if largest == smallest else np.geomspace(largest, smallest, n).tolist()


def _smooth(widths: list[int]) -> nn.Sequential:
    """Dense layers with SiLU between them: a field and its derivatives need a smooth network."""
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
