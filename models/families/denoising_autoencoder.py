"""Denoising autoencoder: Vincent et al., "Stacked Denoising Autoencoders" (JMLR 2010).

Minimises E L(x, r(x~)) over corruptions x~ of x: Gaussian noise of a standard deviation drawn anew for each item,
and, for half of the items, a missing part. What is missing is known: a mask is a second input, so the same network
denoises and inpaints. For text the corruption is word dropout. Codes are signs of the rotated latent.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec
from ..latent import LatentAutoencoder
from ..layers import corrupt, dense, expectation, reconstruction_loss


class DenoisingAutoencoderParams(FamilyParams):
    latent: int = Field(64, ge=1, le=1024, description="dimensions of the code layer")
    hidden: int = Field(512, ge=8, le=8192, description="width of the hidden layers on either side")
    sigma: float = Field(0.5, ge=0, le=10, description="largest standard deviation of the noise")
    missing: float = Field(0.5, ge=0, lt=1, description="largest share of an item that is hidden")


class DenoisingAutoencoder(LatentAutoencoder):
    """A deterministic latent, learned by repairing; removes noise and fills holes."""

    family = "denoising-autoencoder"
    chosen_by = "loss"
    steps = 1700

    Params = DenoisingAutoencoderParams

    params: DenoisingAutoencoderParams

    def __init__(self, input: InputSpec, bits: int, params: DenoisingAutoencoderParams) -> None:
        super().__init__(input, bits, params, params.latent)
        width, latent = params.hidden, params.latent
        self.encoder = dense([2 * input.size, width, width, latent])
        self.decoder = dense([latent, width, width, input.size])

    def latent(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Latents `(B, latent)` of `x` whose part under `mask` (1 = missing) is not to be looked at."""
        if mask is None:
            mask = torch.zeros_like(x)
        return self.encoder(torch.cat([(x * (1 - mask)).flatten(1), mask.flatten(1)], dim=1))

    def repaired(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The expected clean item."""
        return self.expected(self.latent(x, mask))

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        x = batch.x
        noisy, mask = self._corrupted(x)
        reconstruction = reconstruction_loss(self.input.likelihood, self.decoder(self.latent(noisy, mask)), x)
        return reconstruction, {"reconstruction": reconstruction}

    def _corrupted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        each = (len(x), *[1] * (x.dim() - 1))
        if self.input.likelihood == "multinomial":
            return corrupt(x, "multinomial", self.params.missing), torch.zeros_like(x)
        noisy = x + torch.rand(each, device=x.device) * self.params.sigma * torch.randn_like(x)
        share = torch.rand(each, device=x.device) * self.params.missing
        scattered = (torch.rand_like(x) < share).float()
        mask = torch.where(torch.rand(each, device=x.device) < 0.5, self._hole(x), scattered)
        return noisy, mask * (torch.rand(each, device=x.device) < 0.5)

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

    def expected(self, z: Tensor) -> Tensor:
        return expectation(self.input.likelihood, self.decoder(z)).unflatten(1, self.input.shape)

    def denoise(self, x: Tensor) -> Tensor:
        return self.repaired(x)

    def inpaint(self, x: Tensor, mask: Tensor, *, steps: int, generator: Generator) -> Tensor:
        """The first step sees the hole, further ones polish the filled item; nothing is drawn at random."""
        filled = torch.where(mask > 0, self.repaired(x, mask), x)
        for _ in range(steps - 1):
            filled = torch.where(mask > 0, self.repaired(filled), x)
        return filled
