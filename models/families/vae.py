"""Variational autoencoder: Kingma and Welling, "Auto-Encoding Variational Bayes" (ICLR 2014).

Maximises the bound E_q(z|x) log p(x|z) - KL(q(z|x) || N(0, I)) with q a diagonal Gaussian and z = mu + sigma * eps.
The KL is warmed up from 0 over the first steps, against posterior collapse. Codes are signs of the rotated mean
(see `rotation`): the mean, never a sample, so that an item has one code.

Images and vectors have a Gaussian decoder with one variance, always the best one (Rybkin, Daniilidis and Levine,
"Simple and Effective VAE Training with Calibrated Decoders", ICML 2021): with a fixed one, or with Bernoulli pixels on
grey values, the KL outweighs the picture and samples are blurs.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Generator, Tensor

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec
from ..latent import LatentAutoencoder
from ..layers import dense, expectation, reconstruction_loss


class VaeParams(FamilyParams):
    latent: int = Field(16, ge=1, le=1024, description="dimensions of z")
    hidden: int = Field(256, ge=8, le=8192, description="width of the two hidden layers on either side")
    beta: float = Field(1.0, gt=0, le=100, description="weight of the KL term; 1 is the bound itself")
    warm_up_steps: int = Field(500, ge=0, description="steps over which beta grows from 0")


class Vae(LatentAutoencoder):
    """Gaussian latents, dense layers; samples, varies, repairs."""

    family = "vae"
    spherical = True
    chosen_by = "loss"

    Params = VaeParams

    params: VaeParams
    steps = 2200
    warmed: Tensor
    variance: Tensor

    def __init__(self, input: InputSpec, bits: int, params: VaeParams) -> None:
        super().__init__(input, bits, params, params.latent)
        width, latent = params.hidden, params.latent
        self.encoder = dense([input.size, width, width, 2 * latent])
        self.decoder = dense([latent, width, width, input.size])
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("warmed", torch.zeros((), dtype=torch.int64))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `(B, latent)` of q(z|x)."""
        mean, log_variance = self.encoder(x.flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 8)

    def expected(self, z: Tensor) -> Tensor:
        """The expected `x` `(B, *input.shape)` given latents `(B, latent)`."""
        return expectation(self.input.likelihood, self.decoder(z)).unflatten(1, self.input.shape)

    def reconstruction(self, z: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z), summed over an item, averaged over the batch; a density where the decoder is Gaussian."""
        if self.input.likelihood == "multinomial":
            return reconstruction_loss("multinomial", self.decoder(z), x)
        error = (self.expected(z) - x).flatten(1).square().sum(1).mean() / self.input.size
        if self.training:  # the best variance for this batch; its running mean is the model's own
            variance = error.clamp_min(1e-6)
            self.variance.lerp_(variance.detach(), 0.05)
        else:
            variance = self.variance
        return 0.5 * self.input.size * (error / variance + (2 * math.pi * variance).log())

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        x = batch.x
        mean, log_variance = self.posterior(x)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)  # (B, latent)
        reconstruction = self.reconstruction(z, x)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        warmth = min(1.0, (int(self.warmed) + 1) / (self.params.warm_up_steps + 1)) if self.training else 1.0
        return reconstruction + self.params.beta * warmth * kl, {"reconstruction": reconstruction, "kl": kl}

    def after_step(self) -> None:
        self.warmed += 1

    def latent(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        return self.expected(temperature * torch.randn(n, self.params.latent, generator=generator))

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        mean, _ = self.posterior(x)
        # Half the prior's spread: far enough to differ, near enough to resemble.
        return self.expected(mean + 0.5 * temperature * torch.randn(n, self.params.latent, generator=generator))

    def denoise(self, x: Tensor) -> Tensor:
        return self.expected(self.posterior(x)[0])

    def inpaint(self, x: Tensor, mask: Tensor, *, steps: int, generator: Generator) -> Tensor:
        """A Markov chain that redraws the missing part (Rezende, Mohamed and Wierstra, ICML 2014, appendix F)."""
        filled = torch.where(mask > 0, self.input_mean(x, mask), x)
        for step in range(steps):
            mean, log_variance = self.posterior(filled)
            noise = torch.randn(mean.shape, generator=generator)
            last = step == steps - 1
            z = mean if last else mean + (0.5 * log_variance).exp() * noise
            filled = torch.where(mask > 0, self.expected(z), x)
        return filled

    @staticmethod
    def input_mean(x: Tensor, mask: Tensor) -> Tensor:
        """The mean of each item's known part, as a first guess for the rest."""
        known = 1 - mask
        mean = (x * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
        return mean.view(-1, *[1] * (x.dim() - 1)).expand_as(x)
