"""The proof of the denoising autoencoder as a repairer: noise and holes, against restorers that learn little.

Blur and PCA get the best setting found on the test items themselves, so the comparison favours them. Noise is
Gaussian and, in a second measurement, cut to the range of pixels, as it is in any picture that is sent. Corruptions
are drawn once, from the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ..data import Dataset
from ..families.denoising_autoencoder import DenoisingAutoencoder
from .base import Finding, Findings, proof, split, trained

_SIGMA = 0.5
_PCA = (10, 20, 30, 40, 60, 80, 120)
_BLUR = (0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0)


_HOLES = {"told": 0.05, "sigma": 0.25, "least": 0.05, "holes": 1.0}
"""Mostly clean items of which a part is always missing; chosen on a validation part of the training items."""


@proof("denoising-autoencoder", needs="images", seconds=140)
def denoising(data: Dataset, seed: int) -> Findings:
    """Noise removed and holes filled, a model for each, against blur, PCA and the mean."""
    train, test = split(data, seed)
    model = _model(train, {"told": 0.1}, seed, epochs=18)
    known, clean = (model.input.tensor(part.items) for part in (train, test))
    generator = torch.Generator().manual_seed(seed)

    for how, sigma, published in (
        ("noise 0.5", 0.5, "19.42, best of blur and PCA 16.96"),
        ("noise 0.5 cut to the range", 0.5, "9.38 noisy"),
        ("noise 0.25", 0.25, ""),
        ("noise 0.7, never trained on", 0.7, ""),
    ):
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        if "cut" in how:
            noisy = noisy.clamp(0, 1)
        ours = psnr(_denoised(model, noisy), clean)
        blur = max(psnr(_blurred(noisy, width).clamp(0, 1), clean) for width in _BLUR)
        pca = _best_pca(known, noisy, clean)
        gate = max(blur, pca) + 1.5 if sigma == _SIGMA else None
        yield Finding(f"PSNR at {how}, dB", ours, gate, "least", published)
        yield Finding(f"PSNR of the best of blur and PCA at {how}, dB", max(blur, pca))

    model = _model(train, _HOLES, seed, epochs=18)
    mean = known.mean(0, keepdim=True).expand_as(clean)
    box = _box(clean)
    yield Finding(
        "hole of a third of each side: MSE against that of the mean item",
        _hole_error(_filled(model, clean, box), clean, box) / _hole_error(mean, clean, box),
        0.5,
        "most",
        ".0658 / .176 = .37",
    )
    scattered = (torch.rand(clean.shape, generator=generator) < 0.5).float()
    yield Finding(
        "half of the pixels missing: MSE against that of the mean item",
        _hole_error(_filled(model, clean, scattered), clean, scattered) / _hole_error(mean, clean, scattered),
        0.5,
        "most",
        ".0110 / .0674 = .16",
    )


def _model(train: Dataset, params: Mapping[str, float], seed: int, *, epochs: int) -> DenoisingAutoencoder:
    model = trained("denoising-autoencoder", train, params, seed=seed, epochs=epochs, batch_size=64, learning_rate=4e-3)
    assert isinstance(model, DenoisingAutoencoder)
    return model


def psnr(x: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels for pixels in [0, 1], from the error over all items."""
    return -10 * math.log10(float((x - clean).square().mean()))


@torch.inference_mode()
def _denoised(model: DenoisingAutoencoder, x: Tensor) -> Tensor:
    return torch.cat([model.denoise(part) for part in x.split(256)])


@torch.inference_mode()
def _filled(model: DenoisingAutoencoder, x: Tensor, mask: Tensor) -> Tensor:
    """`x` repaired where `mask` is 1; what is there is not shown to the model."""
    generator = torch.Generator()
    spoiled = torch.where(mask > 0, 0.5, x)
    return torch.cat(
        [
            model.inpaint(part, hidden, steps=1, generator=generator)
            for part, hidden in zip(spoiled.split(256), mask.split(256), strict=True)
        ]
    )


def _box(x: Tensor) -> Tensor:
    """A hole in the middle, a third of each side: 9 x 9 of 28 x 28."""
    mask = torch.zeros_like(x)
    height, width = x.shape[2] // 3, x.shape[3] // 3
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    mask[:, :, top : top + height, left : left + width] = 1
    return mask


def _hole_error(x: Tensor, clean: Tensor, mask: Tensor) -> float:
    return float(((x - clean).square() * mask).sum() / mask.sum())


def _blurred(x: Tensor, width: float) -> Tensor:
    blurred: NDArray[np.float32] = gaussian_filter(x.numpy(), (0, 0, width, width))
    return torch.from_numpy(blurred)


def _best_pca(known: Tensor, noisy: Tensor, clean: Tensor) -> float:
    """The PSNR of projections onto the leading principal axes of the training items, for the best number of them."""
    mean = known.flatten(1).mean(0)
    _, axes = torch.linalg.eigh((known.flatten(1) - mean).T @ (known.flatten(1) - mean))
    centred = noisy.flatten(1) - mean
    projections = (axes[:, -k:] for k in _PCA if k < axes.shape[0])
    return max(psnr((centred @ a @ a.T + mean).clamp(0, 1), clean.flatten(1)) for a in projections)
