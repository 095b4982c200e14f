"""Families with a continuous latent: how it is hashed, decoded and walked through.

A latent `(B, dim)` becomes bits through a rotation fitted on the latents of the training items (ITQ: Gong and
Lazebnik, CVPR 2011), which is saved with the weights; bits become a latent again by least squares.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from .base import FamilyParams, Model
from .inputs import InputSpec, Rows
from .parts.rotation import Rotation


class LatentModel(Model):
    """An encoder to a continuous latent of `dim` numbers, hashed by a rotation."""

    def __init__(self, input: InputSpec, bits: int, params: FamilyParams, dim: int) -> None:
        super().__init__(input, bits, params)
        self.rotation = Rotation(dim, bits)

    @abstractmethod
    def latent(self, x: Tensor) -> Tensor:
        """Latents `(B, dim)` of `x` `(B, *input.shape)`: a function of the item alone, nothing drawn at random."""

    def fit_hash(self, rows: Rows) -> None:
        self.rotation.fit(rows, lambda x: self.latent(x.to(self.device)), "itq")

    def encode(self, x: Tensor) -> Tensor:
        return self.rotation.logits(self.latent(x))


class LatentAutoencoder(LatentModel):
    """A latent that also decodes."""

    spherical: ClassVar[bool] = False
    """Whether paths between latents keep their norm, as suits a Gaussian prior in many dimensions."""

    @abstractmethod
    def expected(self, z: Tensor) -> Tensor:
        """The expected `x` `(B, *input.shape)` given latents `(B, dim)`."""

    def decode(self, bits: Tensor) -> Tensor:
        return self.expected(self.rotation.restore(bits))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.expected(self.latent(x))

    def interpolate(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        mix = slerp if self.spherical else torch.lerp
        share = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype)[:, None]
        return self.expected(mix(self.latent(a), self.latent(b), share))


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points on the great circle from `a` to `b`, `(B, dim)` each, at `share` `(B, 1)` of the way.

    Where the two are parallel the circle is not defined and the straight line is taken. Shoemake, SIGGRAPH 1985.
    """
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.acos()
    sine = angle.sin()
    straight = sine < 1e-4
    safe = torch.where(straight, torch.ones_like(sine), sine)
    curved = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / safe
    curved = torch.where(share == 0, a, torch.where(share == 1, b, curved))
    return torch.where(straight, torch.lerp(a, b, share), curved)
