"""Generative adversarial networks beside variational autoencoders: how many modes each covers, how sharp each is.

The grid of 25 Gaussians has standard deviation 0.05 and spacing 1. A sample is of high quality within four standard
deviations of a centre; a mode is covered once such samples make up a tenth of its fair share of all samples.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base import Model
from ..data import Dataset
from .base import Finding, Findings, proof, smaller, split, trained
from .quality import Classifier, class_distance, frechet, pictures, sharpness

CENTRES = torch.tensor(list(itertools.product(range(-2, 3), repeat=2)), dtype=torch.float32)  # (25, 2)
SPREAD = 0.05
_POINTS = 10_000
_SAMPLES = 2000
"""As many samples as there are test images where they are compared with those."""


def grid(n: int, seed: int) -> Dataset:
    """`n` points from 25 Gaussians of equal weight, labelled by the one they are from."""
    rng = np.random.default_rng(seed)
    modes = rng.integers(len(CENTRES), size=n)
    points = CENTRES.numpy()[modes] + SPREAD * rng.normal(size=(n, 2))
    ids = [str(place) for place in range(n)]
    return Dataset("gaussians", "vector", points.astype(np.float32), ids, [str(mode) for mode in modes])


@dataclass(frozen=True)
class Coverage:
    """Which share of samples is of high quality, how many modes they cover, how unevenly (KL from uniform, nats)."""

    modes: int
    quality: float
    divergence: float


def coverage(x: Tensor) -> Coverage:
    """Coverage of the grid by samples `(n, 2)`."""
    distance, nearest = torch.cdist(x, CENTRES).min(1)
    good = distance <= 4 * SPREAD
    counts = torch.bincount(nearest[good], minlength=len(CENTRES)).double()
    share = counts / counts.sum().clamp_min(1)
    divergence = torch.special.xlogy(share, share * len(CENTRES)).sum()
    covered = counts >= 0.1 * len(x) / len(CENTRES)
    return Coverage(int(covered.sum()), float(good.double().mean()), float(divergence))


def samples(model: Model, n: int) -> Tensor:
    """`n` samples `(n, *shape)` of a model that has the capability, in the model's own terms."""
    with torch.inference_mode():
        return model.sample(n, generator=torch.Generator().manual_seed(0))  # type: ignore[operator]


@proof("gan", seconds=65)
def gan_modes(data: None, seed: int) -> Findings:
    """With R1 a GAN covers the grid of 25 Gaussians as a VAE does; without it, it drops modes."""
    points = grid(_POINTS, seed)
    games = {"latent": 4, "hidden": 128}
    systems: dict[str, tuple[str, dict[str, Any], int | None, tuple[str, str, str]]] = {
        "GAN with R1": ("gan", {**games, "r1": 0.3}, 24, ("25", "<= .08", ".40 to .47")),
        "VAE": ("vae", {"latent": 4, "hidden": 128}, 24, ("25", ".008", ".61 to .63")),
        "plain GAN (control)": ("gan", {**games, "r1": 0}, None, ("15 to 22", "", ".54 to .79")),
        "saturating GAN (control)": ("gan", {**games, "r1": 0, "loss": "saturating"}, None, ("19 to 23", "", "")),
    }
    for name, (family, params, least, (modes, divergence, quality)) in systems.items():
        model = trained(family, points, params, seed=seed, epochs=50, batch_size=128)
        x = torch.from_numpy(np.stack(model.input.restore(samples(model, _POINTS))))
        found = coverage(x)
        yield Finding(f"{name}: modes of 25", found.modes, least, "least", modes)
        yield Finding(f"{name}: KL of the mode histogram", found.divergence, published=divergence)
        yield Finding(f"{name}: samples of high quality", found.quality, published=quality)


@proof("gan", needs="images", seconds=100)
def gan_against_vae(data: Dataset, seed: int) -> Findings:
    """Samples of a GAN and of a VAE: closeness to the data, sharpness, classes."""
    train, test = split(smaller(data, 16), seed)
    classifier = Classifier.fit(train, seed)
    real = pictures(test)
    real_features, real_labels = classifier.features(real), classifier.labels(real)
    yield Finding("training images: cFID", frechet(classifier.features(pictures(train)), real_features), None)
    for name, family, epochs in (("GAN", "gan", 12), ("VAE", "vae", 40)):
        x = samples(trained(family, train, seed=seed, epochs=epochs, batch_size=64), _SAMPLES)
        yield Finding(f"{name}: cFID of samples", frechet(classifier.features(x), real_features))
        yield Finding(f"{name}: sharpness over that of images", sharpness(x) / sharpness(real))
        distance = class_distance(classifier.labels(x), real_labels, classifier.classes)
        yield Finding(f"{name}: total variation between class histograms", distance)
