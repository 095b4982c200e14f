"""Generative adversarial network: Goodfellow et al., "Generative Adversarial Nets" (NIPS 2014).

min_G max_D E log D(x) + E log(1 - D(G(z))), z ~ N(0, I); the generator's own loss is the non-saturating
-E log D(G(z)). Pictures have convolutional networks (DCGAN: Radford, Metz and Chintala, ICLR 2016), here without batch
normalisation, since the discriminator has the R1 penalty instead (Mescheder, Geiger and Nowozin, "Which Training
Methods for GANs do actually Converge?", ICML 2018); `r1` 0 is the plain game. What is sampled from is a moving average
of the generator.

A GAN has no encoder. Its codes are signs of the rotated last hidden layer of the discriminator, whose features served
DCGAN for classification: it hashes, but cannot decode.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import Parameter

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec
from ..latent import LatentModel
from ..parts.adversarial import Discriminator, discriminator_step, generator_loss, grower_for
from ..parts.averaging import Average, decay_for
from ..parts.convolution import is_picture
from ..parts.layers import expectation

_HALF_LIFE = 100
"""Steps over which the sampled generator's weights are averaged."""


class GanParams(FamilyParams):
    latent: int = Field(32, ge=1, le=1024, description="dimensions of z")
    hidden: int = Field(128, ge=8, le=8192, description="width of dense layers and of the layer that is hashed")
    channels: int = Field(32, ge=4, le=512, description="channels at half size; up to four times that further in")
    r1: float = Field(1.0, ge=0, le=1000, description="weight gamma of the R1 penalty; 0 is the plain game")
    loss: Literal["non-saturating", "saturating"] = Field("non-saturating", description="the generator's loss")


class Gan(LatentModel):
    """A generator against a discriminator; samples sharp items, and hashes by the discriminator's features."""

    family = "gan"
    roles = ("discriminator", "generator")
    chosen_by = "last"
    betas = (0.0, 0.99)
    steps = 3000

    Params = GanParams

    params: GanParams

    def __init__(self, input: InputSpec, bits: int, params: GanParams) -> None:
        super().__init__(input, bits, params, params.hidden)
        self.generator = grower_for(input, params.latent, params.channels, params.hidden)
        self.discriminator = Discriminator(input, params.channels, params.hidden)
        self.average = Average(self.generator)

    @property
    def learning_rate(self) -> float:
        return 1e-3 if is_picture(self.input) else 2e-3

    def parameters_of(self, role: str) -> Iterable[Parameter]:
        return self.generator.parameters() if role == "generator" else self.discriminator.parameters()

    def generated(self, x: Tensor) -> Tensor:
        """As many new items as there are in `x`, `(B, *input.shape)`, by the generator in training."""
        z = torch.randn(len(x), self.params.latent, device=x.device, dtype=x.dtype)
        return expectation(self.input.likelihood, self.generator(z))

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        x = batch.x
        if role == "generator":
            loss = generator_loss(self.discriminator(self.generated(x)), saturating=self.params.loss == "saturating")
            return loss, {"generator": loss}
        with torch.no_grad():
            fake = self.generated(x)
        return discriminator_step(self.discriminator, x, fake, self.params.r1)

    def after_step(self) -> None:
        self.average.update(self.generator, decay_for(_HALF_LIFE))

    def latent(self, x: Tensor) -> Tensor:
        """The discriminator's last hidden layer `(B, hidden)`."""
        return self.discriminator.hidden(x)

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        z = temperature * torch.randn(n, self.params.latent, generator=generator)
        return expectation(self.input.likelihood, self.average(z))
