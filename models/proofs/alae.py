"""ALAE on small digits: do the two halves meet? Beside it the control without reciprocity, and style-based networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..data import Dataset, load
from ..families.alae import Alae
from .base import Finding, Findings, proof, split, trained
from .quality import Classifier, class_numbers, knn_accuracy, pictures

_DRAWS = 2000
_DENSE = {"generator": "dense", "latent": 40}
_STYLE = {"generator": "style", "channels": 12}
_BATCH = 64
_DENSE_STEPS, _STYLE_STEPS = 7500, 1500


@dataclass(frozen=True)
class Meeting:
    """How well encoder and generator fit each other, on items that neither has seen."""

    latent_error: float
    """E |w - E(G(w))|^2 over the variance of w, for drawn w: without the division a shrinking W would look good."""
    pixel_error: float
    """Squared error of reconstructions over that of the mean image."""
    agreement: float
    """Items whose reconstruction a classifier gives the class that it gives the item."""
    neighbours: float
    """Items whose nearest training item in W is of their class."""


@torch.no_grad()
def meeting(model: Alae, judge: Classifier, train: Dataset, test: Dataset) -> Meeting:
    """How well the model's halves meet, on `test`."""
    known, x = pictures(train), pictures(test)
    rebuilt = model.reconstruct(x)
    w = model.draw_latent(_DRAWS, generator=torch.Generator().manual_seed(0))
    error = (model.latent(model.expected(w)) - w).square().sum(1).mean()
    return Meeting(
        latent_error=float(error / w.var(0).sum()),
        pixel_error=float((rebuilt - x).square().sum() / (x - known.mean(0)).square().sum()),
        agreement=float((judge.labels(rebuilt) == judge.labels(x)).double().mean()),
        neighbours=knn_accuracy(model.latent(known), class_numbers(train), model.latent(x), class_numbers(test), 1),
    )


@proof("alae", seconds=340)
def alae(data: None, seed: int) -> Findings:
    """Digits rebuilt by an encoder that never compares pixels."""
    train, test = split(load("digits"), seed)
    judge = Classifier.fit(train, seed)

    def run(params: Mapping[str, Any], steps: int) -> Meeting:
        epochs = steps * _BATCH // int(0.9 * len(train))
        model = trained("alae", train, params, seed=seed, epochs=epochs, batch_size=_BATCH, device="cpu")
        assert isinstance(model, Alae)
        return meeting(model, judge, train, test)

    dense = run(_DENSE, _DENSE_STEPS)
    yield Finding("class agreement of reconstructions", dense.agreement, 0.85, "least")
    yield Finding("1-NN accuracy in W", dense.neighbours, 0.93, "least", published="MNIST: .938")
    yield Finding("latent error over the variance of W", dense.latent_error, 0.06)
    yield Finding("pixel error over the mean image's", dense.pixel_error)
    control = run({**_DENSE, "latent_weight": 0.0}, _DENSE_STEPS)
    ratio = dense.agreement / control.agreement
    yield Finding("class agreement over that without reciprocity", ratio, 4.0, "least")
    yield Finding("control without reciprocity: class agreement", control.agreement)
    yield Finding("control without reciprocity: latent error over the variance of W", control.latent_error)
    style = run(_STYLE, _STYLE_STEPS)
    yield Finding("style-based: class agreement", style.agreement)
    yield Finding("style-based: 1-NN accuracy in W", style.neighbours)
    yield Finding("style-based: latent error over the variance of W", style.latent_error)
    yield Finding("style-based: pixel error over the mean image's", style.pixel_error)
