"""Variational autoencoder: Kingma and Welling, "Auto-Encoding Variational Bayes" (ICLR 2014).

Maximises the bound E_q(z|x) log p(x|z) - KL(q(z|x) || N(0, I)) with q a diagonal Gaussian and z = mu + sigma * eps.
Codes are signs of the rotated mean (see `rotation`): the mean, never a sample, so that an item has one code.

What p(x|z) is, and so what a nat means, depends on the input (see `observation`): a Gaussian of calibrated variance;
words for texts; and for images with `binarise` Bernoulli pixels, every pixel drawn black or white anew at each step
with a probability of its grey value (Salakhutdinov and Murray, ICML 2008). Bernoulli pixels on grey values are no
normalised likelihood, so a bound is quoted of black and white pictures only: `score` draws them at thresholds that
never change, `log_likelihood` and `loss` at random ones; pictures that are black and white already stay as they are.
`latent` takes the grey values, which are the mean of the draws.

Against posterior collapse: the KL is warmed up from 0 over the first steps, and `free_bits` sets a floor under each
dimension. How much the latent is used is measured at the end of training (see `collapse`). With `decoder`
"autoregressive" each black or white pixel is predicted from z and from the pixels before it, by a gated PixelCNN
(PixelVAE: Gulrajani et al., ICLR 2017): a decoder strong enough to do without z, which is what the diagnosis is for.
The planes of a colour picture follow one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from ..base import Batch, FamilyParams, Terms
from ..errors import InvalidParams
from ..inputs import InputSpec, Rows
from ..latent import LatentAutoencoder
from ..parts.collapse import CollapseReport, examine
from ..parts.layers import dense, mean_filled
from ..parts.observation import Observation
from ..parts.pixelcnn import PixelCnn
from ..parts.variational import (
    Gaussian,
    binarised,
    free_bits,
    gaussian_kl,
    gaussian_log_ratio,
    importance_weighted,
    normal,
    reparameterised,
    uniform,
)

_SCORE_DRAWS = 16
_EXAMINED = 1000
"""Items that posterior collapse is diagnosed on; information cannot exceed the logarithm of it, 6.9 nats."""


class VaeParams(FamilyParams):
    latent: int = Field(16, ge=1, le=1024, description="dimensions of z")
    hidden: int = Field(256, ge=8, le=8192, description="width of the two hidden layers on either side")
    beta: float = Field(1.0, gt=0, le=100, description="weight of the KL term; 1 is the bound itself")
    warm_up_steps: int = Field(500, ge=0, description="steps over which beta grows from 0")
    free_bits: float = Field(0.0, ge=0, le=10, description="nats that each dimension of z may cost for nothing")
    binarise: bool = Field(False, description="black and white pixels drawn from grey values; images only")
    decoder: Literal["dense", "autoregressive"] = Field(
        "dense", description="what decodes z; autoregressive: pixel after pixel, for images with binarise"
    )
    channels: int = Field(24, ge=4, le=512, description="channels of the autoregressive decoder")
    layers: int = Field(4, ge=1, le=32, description="masked layers of the autoregressive decoder")


class Vae(LatentAutoencoder):
    """Gaussian latents, dense layers; samples, varies, repairs, tells ordinary items from strange ones."""

    family = "vae"
    spherical = True
    chosen_by = "loss"
    scored_by = "importance-weighted bound on log p(x) in nats, of a density where values are not black and white"

    Params = VaeParams

    params: VaeParams
    steps = 2200
    warmed: Tensor

    def __init__(self, input: InputSpec, bits: int, params: VaeParams) -> None:
        super().__init__(input, bits, params, params.latent)
        if params.decoder == "autoregressive" and not params.binarise:
            raise InvalidParams("vae: an autoregressive decoder draws black and white pixels; set binarise, for images")
        self.observation = Observation(input, binarised=params.binarise)
        width, latent = params.hidden, params.latent
        self.encoder = dense([input.size, width, width, 2 * latent])
        self.decoder = (
            dense([latent, width, width, input.size])
            if params.decoder == "dense"
            else self._pixel_decoder(input, params)
        )
        self.register_buffer("warmed", torch.zeros((), dtype=torch.int64))

    @staticmethod
    def _pixel_decoder(input: InputSpec, params: VaeParams) -> PixelCnn:
        planes, height, width = input.shape
        return PixelCnn(
            2, planes * height, width, channels=params.channels, layers=params.layers, condition=params.latent
        )

    def prepare(self, rows: Rows) -> None:
        if isinstance(self.decoder, nn.Sequential):
            self.observation.prepare(rows.sample(2000).to(self.device), self.decoder[-1])

    # -- the model -----------------------------------------------------------------------------------------------

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `(B, latent)` of q(z|x)."""
        mean, log_variance = self.encoder(x.flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 8)

    def outputs(self, z: Tensor, x: Tensor) -> Tensor:
        """What the decoder says of each number, `(B, size)`; an autoregressive one has seen those before it in `x`."""
        if isinstance(self.decoder, PixelCnn):
            black, white = self.decoder(self._pixels(x), z.expand(len(x), -1)).unbind(1)
            return (white - black).flatten(1)
        return self.decoder(z)

    @staticmethod
    def _pixels(x: Tensor) -> Tensor:
        """Pictures `(B, planes, height, width)` as maps of 0 and 1 `(B, planes * height, width)`."""
        return (x > 0.5).flatten(1, 2).long()

    def nll(self, z: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z) in nats, `(B,)`; a density where the decoder is Gaussian."""
        return self.observation.nll(self.outputs(z, x), x)

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        x = batch.x
        if self.params.binarise:
            x = binarised(x, torch.rand_like(x))
        mean, log_variance = self.posterior(x)
        z = reparameterised(mean, log_variance, torch.randn_like(mean))  # (B, latent)
        reconstruction = self.nll(z, x).mean()
        kl = gaussian_kl(mean, log_variance)  # (B, latent)
        warmth = min(1.0, (int(self.warmed) + 1) / (self.params.warm_up_steps + 1)) if self.training else 1.0
        total = reconstruction + self.params.beta * warmth * free_bits(kl, self.params.free_bits)
        return total, {"reconstruction": reconstruction, "kl": kl.sum(1).mean()}

    def after_step(self) -> None:
        self.warmed += 1

    # -- how likely items are --------------------------------------------------------------------------------------

    def log_weights(self, x: Tensor, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z|x) `(B,)` at z = mu + sigma * noise; the ELBO of `x` in expectation."""
        mean, log_variance = self.posterior(x)
        z = reparameterised(mean, log_variance, noise)
        return gaussian_log_ratio(z, mean, log_variance) - self.nll(z, x)

    def log_likelihood(self, x: Tensor, samples: int, generator: Generator) -> Tensor:
        """The importance-weighted bound on log p(x) in nats, `(B,)`, from `samples` draws for each item."""
        if self.params.binarise:
            x = binarised(x, uniform(tuple(x.shape), x, generator))
        each = (len(x), self.params.latent)
        return importance_weighted(self.log_weights(x, normal(each, x, generator)) for _ in range(samples))

    def score(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)  # the same draws for every item, whatever batch it comes in
        if self.params.binarise:
            x = binarised(x, uniform((1, *self.input.shape), x, generator))
        draws: Iterator[Tensor] = (normal((1, self.params.latent), x, generator) for _ in range(_SCORE_DRAWS))
        return importance_weighted(self.log_weights(x, noise) for noise in draws)

    def examine(self, x: Tensor) -> CollapseReport:
        """Whether the latent is used, on items `x` `(n, *input.shape)`."""
        if self.params.binarise:
            x = binarised(x, uniform(tuple(x.shape), x, torch.Generator().manual_seed(0)))
        return examine(x, Gaussian(*self.posterior(x)), self.nll, perfect=self.observation.perfect(x))

    def diagnose(self, rows: Rows) -> Mapping[str, float | str]:
        return self.examine(rows.sample(_EXAMINED).to(self.device)).metrics()

    # -- what it makes ---------------------------------------------------------------------------------------------

    def latent(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def expected(self, z: Tensor) -> Tensor:
        """The expected `x` `(B, *input.shape)` given latents `(B, latent)`.

        Of an autoregressive decoder: what it expects of each pixel when those before took their likeliest values. The
        true mean would be one over all pictures.
        """
        if not isinstance(self.decoder, PixelCnn):
            return self.observation.expected(self.decoder(z))
        likeliest = self.drawn(z, torch.Generator(), 0.0)
        return self.observation.expected(self.outputs(z, likeliest))

    def drawn(self, z: Tensor, generator: Generator, temperature: float) -> Tensor:
        """Items for latents `(B, latent)`, black and white ones where the decoder is autoregressive.

        Pixels that are independent given z are shown as their means: drawing them would only add noise.
        """
        if not isinstance(self.decoder, PixelCnn):
            return self.expected(z)
        pixels = self.decoder.sample(len(z), generator=generator, temperature=temperature, condition=z)
        return pixels.to(z.dtype).view(-1, *self.input.shape)

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        z = temperature * normal((n, self.params.latent), self.rotation.mean, generator)
        return self.drawn(z, generator, temperature)

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        mean, _ = self.posterior(x)
        # Half the prior's spread: far enough to differ, near enough to resemble.
        z = mean + 0.5 * temperature * normal((n, self.params.latent), mean, generator)
        return self.drawn(z, generator, temperature)

    def denoise(self, x: Tensor) -> Tensor:
        return self.expected(self.posterior(x)[0])

    def inpaint(self, x: Tensor, mask: Tensor, *, steps: int, generator: Generator) -> Tensor:
        """A Markov chain that redraws the missing part (Rezende, Mohamed and Wierstra, ICML 2014, appendix F)."""
        filled = mean_filled(x, mask)
        for step in range(steps):
            mean, log_variance = self.posterior(filled)
            noise = normal(tuple(mean.shape), mean, generator)
            last = step == steps - 1
            z = mean if last else reparameterised(mean, log_variance, noise)
            filled = torch.where(mask > 0, self._missing(z, filled, mask, generator), x)
        return filled

    def _missing(self, z: Tensor, x: Tensor, mask: Tensor, generator: Generator) -> Tensor:
        """Items for latents `(B, latent)`, of which only the part under `mask` is wanted."""
        if not isinstance(self.decoder, PixelCnn):
            return self.expected(z)
        redraw = (mask > 0).flatten(1, 2)
        pixels = self.decoder.sample(len(z), generator=generator, condition=z, known=self._pixels(x), redraw=redraw)
        return pixels.to(x.dtype).view_as(x)
