"""NVAE: what a hierarchy of latents is worth, in nats of black and white pictures of 16 x 16.

The same network with one group at each scale is the control, trained for as long; a flat VAE is the yardstick. At this
size of data a hierarchy is not expected to beat a flat VAE, only to come near it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..base import build
from ..data import Dataset
from ..families.nvae import Nvae
from ..families.vae import Vae
from ..inputs import INPUTS
from ..parts.variational import binarised, importance_weighted
from ..train import TrainConfig, Trainer
from .base import Finding, Findings, proof, smaller, split
from .quality import pictures

_SIDE = 16
_BATCH = 64
_NET = {"channels": 8, "latents": 4, "expansion": 2, "binarise": True}
_DRAWS, _WEIGHTED, _WEIGHTED_ITEMS = 4, 50, 500
_ALIVE = 0.5
"""Nats below which a group counts as collapsed."""


@dataclass(frozen=True)
class _Bound:
    """Nats of the test pictures under a model, and how its training went."""

    model: Nvae | Vae
    elbo: float
    weighted: float
    seconds: float
    finite: float
    """The share of progress reports whose losses were all finite."""


@proof("nvae", needs="images", seconds=550)
def nvae_hierarchy(data: Dataset, seed: int) -> Findings:
    """NVAE: two groups at each scale against one at equal time, and against a flat VAE, in nats."""
    train, test = split(smaller(data, _SIDE), seed)
    x = pictures(test)
    x = binarised(x, torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)))
    deep = _bound("nvae", {**_NET, "groups": (2, 2)}, train, x, seed, epochs=20)
    yield Finding("share of progress reports with a finite loss", deep.finite, 1.0, "least")
    yield from _groups(deep, x)
    yield Finding("-ELBO, 2+2 groups, nats", deep.elbo, published="78.01 (28 x 28, importance-weighted)")
    yield Finding(f"importance-weighted bound, 2+2 groups, {_WEIGHTED} draws, nats", deep.weighted)
    yield Finding("training of 2+2 groups, seconds", deep.seconds)

    shallow = _bound("nvae", {**_NET, "groups": (1, 1)}, train, x, seed, epochs=35)  # as long as 20 of the other
    yield Finding("-ELBO, 1+1 groups, nats", shallow.elbo)
    yield Finding(f"importance-weighted bound, 1+1 groups, {_WEIGHTED} draws, nats", shallow.weighted)
    yield Finding("training of 1+1 groups, seconds", shallow.seconds)
    yield Finding("-ELBO of 2+2 groups less that of 1+1", deep.elbo - shallow.elbo, -0.4)

    flat = _bound("vae", {"latent": 20, "hidden": 400, "binarise": True}, train, x, seed, epochs=80)
    yield Finding("-ELBO, flat VAE, nats", flat.elbo)
    yield Finding(f"importance-weighted bound, flat VAE, {_WEIGHTED} draws, nats", flat.weighted)
    yield Finding("training of the flat VAE, seconds", flat.seconds)
    yield Finding("-ELBO of 2+2 groups less that of the flat VAE", deep.elbo - flat.elbo, 1.5)


def _groups(bound: _Bound, x: Tensor) -> Findings:
    """The KL of each group, coarse to fine, and the share of those that are used."""
    model = bound.model
    assert isinstance(model, Nvae)
    with torch.no_grad():
        kl = model.costs(x, torch.Generator().manual_seed(0))[1].mean(0).tolist()
    for place, (nats, shape) in enumerate(zip(kl, model.ladder.shapes, strict=True), start=1):
        yield Finding(f"KL of group {place}, at {shape[1]} x {shape[2]}, nats", nats)
    dead = [str(place) for place, nats in enumerate(kl, start=1) if nats < _ALIVE]
    listed = f"collapsed: {', '.join(dead)}" if dead else "none collapsed"
    yield Finding(f"share of groups with a KL of {_ALIVE} nat or more; {listed}", 1 - len(dead) / len(kl), 0.6, "least")


def _bound(family: str, params: Mapping[str, Any], train: Dataset, x: Tensor, seed: int, *, epochs: int) -> _Bound:
    """Train a model and measure what it says of black and white pictures `x`."""
    started = time.monotonic()
    steps = epochs * int(len(train) * 0.9 / _BATCH)
    warm = {"warm_up_steps": int(0.3 * steps)} if family == "nvae" else {}
    model = build(family, INPUTS["image"].fit(train.items), 32, {**params, **warm}, seed=seed)
    assert isinstance(model, Nvae | Vae)
    config = TrainConfig(seed=seed, epochs=epochs, batch_size=_BATCH, patience=epochs)
    reports = [all(map(math.isfinite, step.losses.values())) for step in Trainer(model, config).fit(train.items)]
    seconds = time.monotonic() - started
    model.eval()
    with torch.no_grad():
        elbo = torch.stack([_log_weights(model, x, draw) for draw in range(_DRAWS)]).mean()
        some = x[:_WEIGHTED_ITEMS]
        weighted = importance_weighted(_log_weights(model, some, draw) for draw in range(_WEIGHTED)).mean()
    return _Bound(model, -float(elbo), -float(weighted), seconds, sum(reports) / len(reports))


def _log_weights(model: Nvae | Vae, x: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model, Nvae):
        return torch.cat([model.log_weights(part, generator) for part in x.split(250)])
    return model.log_weights(x, torch.randn(len(x), model.params.latent, generator=generator))
