"""The variational autoencoder's bound and likelihood, and posterior collapse found where it is (and only there)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ..data import Dataset
from ..families.vae import Vae
from ..parts.variational import binarised
from .base import Finding, Findings, proof, split, trained
from .quality import pictures

_LATENT = 20
_SAMPLES = 100
_AUTOREGRESSIVE: dict[str, Any] = {"decoder": "autoregressive", "channels": 16, "layers": 3, "warm_up_steps": 0}
_EXAMINED = 1000


@proof("vae", needs="images", seconds=110)
def vae(data: Dataset, seed: int) -> Findings:
    """Bound and importance-weighted likelihood in nats, active units, and what a wrong latent costs.

    Held-out pictures are made black and white once, at random thresholds from a fixed seed. A VAE whose KL counts
    thirtyfold is the control: it must collapse.
    """
    train, test = split(data, seed)
    x = black_and_white(test)
    model = _trained(train, seed, epochs=100)
    elbo, likelihood = _bounds(model, x)
    found = model.examine(x[:_EXAMINED])
    published = "of MNIST-60k: 89.8 by IW-200 (pythae)"
    yield Finding("-ELBO, nats", -elbo, 106, "most", "101.7 on MNIST-10k")
    yield Finding(f"-log likelihood by {_SAMPLES} weighted draws, below -ELBO", likelihood - elbo, 2, "least", "4.0")
    yield Finding(f"-log likelihood by {_SAMPLES} weighted draws", -likelihood, published=published)
    yield Finding("active units", found.active_units, 8, "least", "11 of 20")
    yield Finding("reconstruction from z~p less that from z~q, nats", found.gap, 200, "least", "521")
    yield Finding("KL, nats", found.total_kl, published="19.9")
    yield Finding(f"mutual information, at most log {found.items} = 6.9", found.information)
    control = _trained(train, seed, epochs=10, beta=30.0).examine(x[:_EXAMINED])
    yield Finding("control, KL x 30: active units", control.active_units)
    yield Finding("control, KL x 30: reconstruction from z~p less that from z~q", control.gap)


@proof("vae", needs="images", seconds=200)
def posterior_collapse(data: Dataset, seed: int) -> Findings:
    """A decoder that predicts pixel from pixel ignores its latent; the diagnosis says so, and free bits cure it."""
    train, test = split(data, seed)
    x = black_and_white(test)[:_EXAMINED]
    dense = _trained(train, seed, epochs=15).examine(x)
    yield Finding("dense decoder flagged", dense.collapsed, 0, "most")
    yield Finding("dense decoder: KL", dense.total_kl, published="19.9")
    reports = {}
    for name, cure in (("plain", {}), ("free bits", {"free_bits": 0.25}), ("warm-up", {"warm_up_steps": 300})):
        params = {**_AUTOREGRESSIVE, **cure}
        reports[name] = report = _trained(train, seed, epochs=2, batch_size=32, **params).examine(x)
        yield Finding(f"autoregressive, {name}: -ELBO", report.reconstruction + report.total_kl)
        yield Finding(f"autoregressive, {name}: reconstruction gap", report.gap)
        yield Finding(f"autoregressive, {name}: active units", report.active_units)
        yield Finding(f"autoregressive, {name}: mutual information", report.information)
    plain = reports["plain"]
    yield Finding("autoregressive decoder flagged", plain.collapsed, 1, "least")
    yield Finding("autoregressive decoder: KL", plain.total_kl, 6, "most", "4.0")
    yield Finding("KL raised by free bits", reports["free bits"].total_kl - plain.total_kl, 1.5, "least", "+2.6")
    yield Finding("KL raised by warm-up", reports["warm-up"].total_kl - plain.total_kl, published="none in 110 s")


def black_and_white(data: Dataset) -> Tensor:
    """The images of `data` as pixels of 0 and 1, always the same ones."""
    x = pictures(data)
    return binarised(x, torch.rand(x.shape, generator=torch.Generator().manual_seed(0)))


def _trained(train: Dataset, seed: int, *, epochs: int, batch_size: int = 128, **params: Any) -> Vae:
    chosen = {"latent": _LATENT, "hidden": 400, "binarise": True, **params}
    model = trained("vae", train, chosen, seed=seed, epochs=epochs, batch_size=batch_size, patience=epochs)
    return cast(Vae, model)


@torch.inference_mode()
def _bounds(model: Vae, x: Tensor) -> tuple[float, float]:
    """The ELBO, a mean over draws, and the importance-weighted bound: means over `x`, in nats."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(10, len(x), _LATENT, generator=generator)
    elbo = torch.stack([model.log_weights(x, each).mean() for each in noise]).mean()
    return float(elbo), float(model.log_likelihood(x, _SAMPLES, generator).mean())
