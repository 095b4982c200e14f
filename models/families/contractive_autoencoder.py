"""Contractive autoencoder: Rifai et al., "Contractive Auto-Encoders" (ICML 2011); Alain and Bengio, "What Regularized
Auto-Encoders Learn from the Data Generating Distribution" (ICLR 2013, JMLR 2014).

Minimises, summed over the numbers of an item,

    ||r(x) - x||^2 + sigma^2 ||d r / d x||_F^2      contraction "reconstruction" (Alain and Bengio)
    ||r(x) - x||^2 + sigma^2 ||d z / d x||_F^2      contraction "encoder" (Rifai et al.)

The first has r(x) = x + sigma^2 d log p / dx + o(sigma^2), so repairs are a score field; the second only points towards
denser places, and its log-ratios are in no known unit. Encoder and decoder share the axes of their linear part, as
Rifai et al. tie weights: a decoder that is free to enlarge would undo the contraction. The norm is estimated without
bias by Hutchinson's probes, one backward pass each; how repairs pass through the latent is told in
`score_autoencoder`. Texts take sigma in units of the spread of one word's weight.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec
from ..parts.density import hutchinson
from ..parts.score_autoencoder import ScoreAutoencoder


class ContractiveAutoencoderParams(FamilyParams):
    latent: int = Field(64, ge=1, le=1024, description="dimensions of the code layer")
    channels: int = Field(16, ge=1, le=512, description="width of the first convolution, for pictures and sound")
    hidden: int = Field(128, ge=8, le=8192, description="width of the two hidden layers on either side, elsewhere")
    sigma: float = Field(0.1, gt=0, le=10, description="how far the contraction reaches: the noise level of the score")
    contraction: Literal["reconstruction", "encoder"] = Field(
        "reconstruction", description="whose derivative is kept small; only that of the reconstruction gives a score"
    )
    probes: int = Field(1, ge=1, le=64, description="random directions in which the derivative is measured")


class ContractiveAutoencoder(ScoreAutoencoder):
    """Repairs that resist small changes of the item; weighs and samples by the score that they give."""

    family = "contractive-autoencoder"
    chosen_by = "loss"
    steps = 2000

    Params = ContractiveAutoencoderParams

    params: ContractiveAutoencoderParams

    def __init__(self, input: InputSpec, bits: int, params: ContractiveAutoencoderParams) -> None:
        super().__init__(input, bits, params, latent=params.latent, channels=params.channels, hidden=params.hidden)

    @property
    def smoothing(self) -> float:
        return self.params.sigma

    @property
    def levels(self) -> list[float]:
        return [self.params.sigma] * 10  # one level is all it knows: the chain is as long as an annealed one

    def _told(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The noise level `(B, 1)`, and what the networks are told: nothing, as it never changes."""
        return x.new_full((len(x), 1), self.noise_in(self.params.sigma)), x.new_empty(len(x), 0)

    def latent(self, x: Tensor) -> Tensor:
        return self.coded(x, *self._told(x))

    def expected(self, z: Tensor) -> Tensor:
        return self.finished(self.decoded(z, *self._told(z)))

    def repaired(self, x: Tensor, sigma: float) -> Tensor:
        """r(x); `sigma` can only be the level that the model was trained for."""
        return self.reconstruct(x)

    def denoise(self, x: Tensor) -> Tensor:
        return self.reconstruct(x)

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        with torch.enable_grad():
            x = batch.x.detach().requires_grad_()
            z = self.latent(x)
            out = self.decoded(z, *self._told(x))
            if self.words:  # clamping is left out elsewhere: its derivative would be zero
                out = self.finished(out)
            contracted = z if self.params.contraction == "encoder" else out
            norm = hutchinson(contracted, x, self.params.probes).mean()
        error = (out - x.flatten(1)).square().sum(1).mean()
        penalty = self.noise_in(self.params.sigma) ** 2 * norm
        unit = self.input.size * self.linear.error(self._told(x[:1])[0]).square().mean()
        return (error + penalty) / unit, {"reconstruction": error / unit, "contraction": penalty / unit}
