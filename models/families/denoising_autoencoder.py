"""Denoising autoencoder: Vincent et al., "Stacked Denoising Autoencoders" (JMLR 2010); as a density estimator: Alain
and Bengio, "What Regularized Auto-Encoders Learn from the Data Generating Distribution" (ICLR 2013, JMLR 2014).

Minimises E ||r(x~) - x||^2 over corruptions x~ of x: Gaussian noise of a level sigma drawn anew for each item and, for
half of the items, a missing part. The missing part is known: a mask is a second input, so the same network denoises
and inpaints. For text the corruption is word dropout, the loss cross-entropy. Codes are of the latent of blind repair.

Repairing and weighing ask for different things of the same network, so it is told what it is for. Some of the items
come with their noise level and with exactly Gaussian noise: r(x~; sigma) is then the mean of clean items given x~, and
(r(x~; sigma) - x~) / sigma^2 the score of the density smoothed by that sigma, at whichever level is asked for (noise
conditional score networks: Song and Ermon, NeurIPS 2019). The others come as spoiled items do: nothing is said of the
level, half of the pictures are cut to their range, and sounds have their noise on the waveform. Every item counts
alike, in units of what the best linear denoiser leaves over at its level and of the spread of what is missing
(preconditioning: Karras et al., NeurIPS 2022).
With `least` = `sigma` there is one level, as in Alain and Bengio.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec
from ..parts.convolution import is_picture
from ..parts.layers import corrupt, reconstruction_loss
from ..parts.score_autoencoder import ScoreAutoencoder, falling


class DenoisingAutoencoderParams(FamilyParams):
    latent: int = Field(64, ge=1, le=1024, description="dimensions of the code layer")
    channels: int = Field(24, ge=1, le=512, description="width of the first convolution, for pictures and sound")
    hidden: int = Field(256, ge=8, le=8192, description="width of the two hidden layers on either side, elsewhere")
    sigma: float = Field(0.5, gt=0, le=10, description="largest standard deviation of the noise")
    least: float = Field(0.05, gt=0, le=10, description="smallest standard deviation of the noise")
    smoothing: float = Field(0.1, gt=0, le=10, description="noise level, between the two, at which densities are taken")
    told: float = Field(0.5, gt=0, lt=1, description="share of items that come with their noise level, for densities")
    missing: float = Field(0.5, ge=0, lt=1, description="largest share of an item that is hidden")
    holes: float = Field(0.5, ge=0, le=1, description="share of items of which a part is hidden")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.least <= self.smoothing <= self.sigma:
            raise ValueError("least <= smoothing <= sigma must hold")
        return self


class DenoisingAutoencoder(ScoreAutoencoder):
    """Learns by repairing; removes noise, fills holes, weighs and samples by the score that repairs give."""

    family = "denoising-autoencoder"
    chosen_by = "loss"
    steps = 1000

    Params = DenoisingAutoencoderParams

    params: DenoisingAutoencoderParams

    def __init__(self, input: InputSpec, bits: int, params: DenoisingAutoencoderParams) -> None:
        super().__init__(
            input, bits, params,
            latent=params.latent, channels=params.channels, hidden=params.hidden, seen=1, told=2,
        )  # fmt: skip

    @property
    def learning_rate(self) -> float:
        return 3e-3 if is_picture(self.input) else 1e-3

    @property
    def smoothing(self) -> float:
        return self.params.smoothing

    @property
    def levels(self) -> list[float]:
        return falling(self.params.sigma, self.params.least, 10)

    def _told(self, sigma: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """The level that the linear part assumes `(B, 1)`, and what the networks are told `(B, 2)`, from -1 to 1.

        Where `known` is 0 the level is not used: the linear part takes one between the largest and the smallest.
        """
        between = self.noise_in((self.params.sigma * self.params.least) ** 0.5)
        place = (sigma / between).log() / max(0.5 * math.log(self.params.sigma / self.params.least), 0.1)
        told = torch.cat([known, known * place], dim=1)
        return torch.where(known > 0, sigma, torch.full_like(sigma, between)), told

    def _blind(self, like: Tensor) -> tuple[Tensor, Tensor]:
        known = like.new_zeros(len(like), 1)
        return self._told(known + 1, known)

    def latent(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents `(B, latent)` of `x` whose part under `mask` (1 = missing) is not to be looked at."""
        return self._masked(x, torch.zeros_like(x) if mask is None else mask, *self._blind(x))

    def _masked(self, x: Tensor, mask: Tensor, sigma: Tensor, told: Tensor) -> Tensor:
        mean = self.linear.mean.unflatten(0, self.input.shape)
        hidden = mask.flatten(1).mean(1, keepdim=True)
        return self.coded(torch.where(mask > 0, mean, x), sigma, told, mask, hidden=hidden)

    def expected(self, z: Tensor) -> Tensor:
        return self.finished(self.decoded(z, *self._blind(z)))

    def repaired(self, x: Tensor, sigma: float) -> Tensor:
        level = x.new_full((len(x), 1), self.noise_in(sigma))
        given = self._blind(x) if self.words else self._told(level, torch.ones_like(level))
        return self.finished(self.decoded(self._masked(x, torch.zeros_like(x), *given), *given))

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        x = batch.x
        if self.words:
            given = self._blind(x)
            missing = corrupt(x, "multinomial", self.params.missing)
            out = self.decoded(self._masked(missing, torch.zeros_like(x), *given), *given)
            loss = reconstruction_loss("multinomial", out, x)
            return loss, {"reconstruction": loss}
        low, high = self.params.least**0.5, self.params.sigma**0.5
        sigma = (low + _spread_out(x) * (high - low)).square()
        known = (_spread_out(x) < self.params.told).to(x)
        noisy = torch.where(known > 0, x + sigma * torch.randn_like(x), self.input.spoiled(x, sigma))
        mask = self._hidden(x) * (_spread_out(x) < self.params.holes)
        sigma, known = sigma.flatten(1), known.flatten(1)
        given = self._told(sigma, known)
        out = self.decoded(self._masked(noisy, mask, *given), *given)
        hidden = mask.flatten(1).mean(1, keepdim=True)
        level = torch.maximum(sigma, given[0])  # nobody can do better blind than where the level is known
        expected = self.linear.error(level).square() + hidden * self.linear.spread.square()
        loss = ((out - x.flatten(1)).square().mean(1, keepdim=True) / expected).mean()
        return loss, {"reconstruction": loss}

    def _hidden(self, x: Tensor) -> Tensor:
        """A mask for each item, 1 where it is missing: a hole, or numbers here and there."""
        each = (len(x), *[1] * (x.dim() - 1))
        share = torch.rand(each, device=x.device) * self.params.missing
        scattered = (torch.rand_like(x) < share).to(x)
        return torch.where(torch.rand(each, device=x.device) < 0.5, self._hole(x), scattered)

    def _hole(self, x: Tensor) -> Tensor:
        """A rectangle (a run, for a vector) hidden from each item, with sides up to `missing` of the item's own."""
        mask = torch.ones_like(x)
        for axis in range(2 if x.dim() == 4 else 1, x.dim()):
            length = x.shape[axis]
            shape = [len(x)] + [1] * (x.dim() - 1)
            side = torch.rand(shape, device=x.device) * self.params.missing**0.5 * length
            start = torch.rand(shape, device=x.device) * (length - side)
            places = torch.arange(length, device=x.device).view([-1 if a == axis else 1 for a in range(x.dim())])
            mask = mask * ((places >= start) & (places < start + side))
        return mask

    def denoise(self, x: Tensor) -> Tensor:
        """The clean items behind `x` whose noise is of a level that nobody knows."""
        return self.reconstruct(x)

    def inpaint(self, x: Tensor, mask: Tensor, *, steps: int, generator: Generator) -> Tensor:
        """The first step sees the hole, further ones polish the filled item; nothing is drawn at random."""
        filled = torch.where(mask > 0, self.expected(self.latent(x, mask)), x)
        for _ in range(steps - 1):
            filled = torch.where(mask > 0, self.reconstruct(filled), x)
        return filled


def _spread_out(x: Tensor) -> Tensor:
    """Numbers in [0, 1), one for each item, shaped to multiply `x`: a batch has them evenly spread, in random order.

    A batch then sees all levels of noise, and its loss varies less (Kingma et al., NeurIPS 2021, appendix I).
    """
    strata = torch.randperm(len(x), device=x.device) + torch.rand(len(x), device=x.device)
    return (strata / len(x)).to(x).view(-1, *[1] * (x.dim() - 1))
