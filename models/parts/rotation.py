"""From real latents to bits: centre, rotate, take signs.

`Rotation` serves the linear baselines and every family whose latent is continuous. Three ways to choose the
rotation: at random (LSH: Charikar, STOC 2002), along the principal axes (PCA-sign), and by iterative quantisation
(ITQ: Gong and Lazebnik, CVPR 2011), which turns the principal axes so that signs lose least. FAISS's ITQ does not
converge, so this one is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..inputs import Rows

Method = Literal["random", "pca", "itq"]

_BATCH = 1024
_ITQ_SAMPLE = 20_000
_ITQ_ROUNDS = 50
_EXACT_DIM = 2048
"""Up to this many dimensions the covariance is decomposed exactly; beyond, by subspace iteration."""


class Rotation(nn.Module):
    """An affine map from latents `(B, dim)` to logits `(B, bits)`, and back from bits by least squares."""

    mean: Tensor
    matrix: Tensor
    inverse: Tensor

    def __init__(self, dim: int, bits: int) -> None:
        super().__init__()
        self.dim, self.bits = dim, bits
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.zeros(dim, bits))
        self.register_buffer("inverse", torch.zeros(bits, dim))

    def logits(self, z: Tensor) -> Tensor:
        """Logits `(B, bits)` of latents `(B, dim)`."""
        return (z - self.mean) @ self.matrix

    def restore(self, bits: Tensor) -> Tensor:
        """The latents `(B, dim)` that bits `(B, bits)` of 0 and 1 stand for."""
        return (bits * 2 - 1) @ self.inverse + self.mean

    @torch.no_grad()
    def fit(self, rows: Rows, latent: Callable[[Tensor], Tensor], method: Method, *, seed: int = 0) -> None:
        """Choose the rotation for the latents of `rows`.

        With more bits than dimensions the latents are padded with zeros before they are rotated.
        """
        generator = torch.Generator().manual_seed(seed)
        mean = _mean(rows, latent, self.dim)
        if method == "random":
            matrix = torch.randn(self.dim, self.bits, generator=generator)
        else:
            axes = principal_axes(rows, latent, mean, min(self.dim, self.bits), generator)  # (dim, k)
            matrix = torch.cat([axes, axes.new_zeros(self.dim, self.bits - axes.shape[1])], dim=1)
        sample = _sample(rows, latent, generator) - mean  # (m, dim)
        if method == "itq":
            matrix = matrix @ itq(sample @ matrix, generator)
        elif self.bits > self.dim and method == "pca":  # zero columns would be constant bits
            matrix = matrix @ _orthogonal(self.bits, generator)
        signs = (sample @ matrix > 0).float() * 2 - 1
        ridge = torch.eye(self.bits) * (1e-3 * len(signs))
        inverse = torch.linalg.solve(signs.T @ signs + ridge, signs.T @ sample)
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)
        self.inverse.copy_(inverse)


def itq(v: Tensor, generator: torch.Generator, *, rounds: int = _ITQ_ROUNDS) -> Tensor:
    """The rotation R `(bits, bits)` that brings `v R` closest to its signs, from a random start.

    v: centred latents along principal axes, `(n, bits)`. Alternates B = sign(v R) and the orthogonal Procrustes
    solution R = U W' of v' B = U S W'.
    """
    rotation = _orthogonal(v.shape[1], generator)
    for _ in range(rounds):
        signs = torch.where(v @ rotation > 0, 1.0, -1.0)
        u, _, w = torch.linalg.svd(v.T @ signs)
        rotation = u @ w
    return rotation


def principal_axes(
    rows: Rows, latent: Callable[[Tensor], Tensor], mean: Tensor, k: int, generator: torch.Generator
) -> Tensor:
    """The `k` leading eigenvectors `(dim, k)` of the latents' covariance, a batch in memory at a time."""
    dim = len(mean)
    if dim <= _EXACT_DIM:
        covariance = torch.zeros(dim, dim, dtype=torch.float64)
        for z in _batches(rows, latent):
            centred = (z - mean).double()
            covariance += centred.T @ centred
        return torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :k].float()
    # Randomised subspace iteration: Halko, Martinsson and Tropp, SIAM Review 2011.
    basis = torch.randn(dim, min(dim, k + 16), generator=generator)
    for _ in range(4):
        product = torch.zeros_like(basis)
        for z in _batches(rows, latent):
            centred = z - mean
            product += centred.T @ (centred @ basis)
        basis = torch.linalg.qr(product).Q
    small = torch.zeros(basis.shape[1], basis.shape[1])
    for z in _batches(rows, latent):
        projected = (z - mean) @ basis
        small += projected.T @ projected
    return basis @ torch.linalg.eigh(small).eigenvectors.flip(1)[:, :k]


def _orthogonal(size: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator)).Q


def _batches(rows: Rows, latent: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    starts = range(0, len(rows), _BATCH)
    return (latent(rows.take(np.arange(at, min(at + _BATCH, len(rows))))).float().cpu() for at in starts)


def _mean(rows: Rows, latent: Callable[[Tensor], Tensor], dim: int) -> Tensor:
    total = torch.zeros(dim, dtype=torch.float64)
    for z in _batches(rows, latent):
        total += z.double().sum(0)
    return (total / len(rows)).float()


def _sample(rows: Rows, latent: Callable[[Tensor], Tensor], generator: torch.Generator) -> Tensor:
    places = torch.randperm(len(rows), generator=generator)[:_ITQ_SAMPLE]
    return torch.cat(list(_batches(rows.subset(places.sort().values.numpy()), latent)))
