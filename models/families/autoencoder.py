"""Deep autoencoder: Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks" (Science,
2006).

Minimises E L(x, r(x)), r(x) = decoder(encoder(x)), through a layer of few linear units: cross-entropy of grey values
for images, squared error for vectors and sounds, cross-entropy of word weights for texts. Where the paper stacks
restricted Boltzmann machines to start from and then turns to conjugate gradients, rectifiers and Adam do without.
Codes are signs of the rotated latent.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec
from ..latent import LatentAutoencoder
from ..parts.layers import dense, expectation, item_losses, reconstruction_loss


class AutoencoderParams(FamilyParams):
    latent: int = Field(30, ge=1, le=1024, description="units of the code layer")
    hidden: int = Field(512, ge=8, le=8192, description="width of the outer hidden layers; the inner ones have half")


class Autoencoder(LatentAutoencoder):
    """Few linear units between deep layers; a nonlinear principal component analysis."""

    family = "autoencoder"
    chosen_by = "loss"
    steps = 1700
    scored_by = "minus the loss of reconstruction"

    Params = AutoencoderParams

    params: AutoencoderParams

    def __init__(self, input: InputSpec, bits: int, params: AutoencoderParams) -> None:
        super().__init__(input, bits, params, params.latent)
        widths = [input.size, params.hidden, params.hidden // 2, params.latent]
        self.encoder = dense(widths)
        self.decoder = dense(widths[::-1])

    def latent(self, x: Tensor) -> Tensor:
        return self.encoder(x.flatten(1))

    def expected(self, z: Tensor) -> Tensor:
        return expectation(self.input.likelihood, self.decoder(z)).unflatten(1, self.input.shape)

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        x = batch.x
        reconstruction = reconstruction_loss(self.input.likelihood, self.decoder(self.latent(x)), x)
        return reconstruction, {"reconstruction": reconstruction}

    def score(self, x: Tensor) -> Tensor:
        return -item_losses(self.input.likelihood, self.decoder(self.latent(x)), x)
