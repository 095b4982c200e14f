"""The VAE-GAN beside a VAE and beside itself trained on one summed loss (Larsen et al., ICML 2016).

A learned measure of likeness shows in samples that are closer to the data and as sharp, at a *larger* pixel error: a
smaller one would mean that the measure is not used. Summed into one loss for all networks, the feature loss teaches
the discriminator to see nothing, which is why the family has three.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from ..base import Batch, Model, Terms
from ..data import Dataset
from ..families.vae_gan import VaeGan, VaeGanParams
from ..inputs import INPUTS
from ..train import TrainConfig, Trainer
from .base import Finding, Findings, proof, smaller, split, trained
from .gan import samples
from .quality import Classifier, frechet, pictures, sharpness

_EPOCHS = 9
_VAE_EPOCHS = 40
_BATCH = 32


class SummedVaeGan(VaeGan):
    """All three losses added up and given to one optimiser for everything."""

    roles = ("everything",)

    def parameters_of(self, role: str) -> Iterable[Parameter]:
        return (parameter for part in VaeGan.roles for parameter in super(SummedVaeGan, self).parameters_of(part))

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        losses = [super(SummedVaeGan, self).loss(batch, part) for part in VaeGan.roles]
        terms = {name: value for _, terms in losses for name, value in terms.items()}
        return torch.stack([loss for loss, _ in losses]).sum(), terms


@dataclass(frozen=True)
class Quality:
    """Of samples: cFID, and sharpness over that of images. Of reconstructions: class agreement, squared error."""

    distance: float
    sharpness: float
    agreement: float
    error: float


class Judge:
    """Compares what models make with held-out images."""

    def __init__(self, train: Dataset, test: Dataset, seed: int) -> None:
        self.classifier = Classifier.fit(train, seed)
        self.real = pictures(test)
        self.features = self.classifier.features(self.real)
        self.labels = self.classifier.labels(self.real)

    @torch.inference_mode()
    def __call__(self, model: Model) -> Quality:
        x = samples(model, len(self.real))
        back = torch.cat([model.reconstruct(part) for part in self.real.split(500)])  # type: ignore[operator]
        return Quality(
            distance=frechet(self.classifier.features(x), self.features),
            sharpness=sharpness(x) / sharpness(self.real),
            agreement=float((self.classifier.labels(back) == self.labels).float().mean()),
            error=float((back - self.real).square().flatten(1).sum(1).mean()),
        )


@proof("vae-gan", needs="images", seconds=250)
def vae_gan(data: Dataset, seed: int) -> Findings:
    """Samples closer to the data and sharper than a VAE's, at a larger pixel error; classes kept."""
    train, test = split(smaller(data, 16), seed)
    judge = Judge(train, test, seed)
    yield Finding("training images: cFID", frechet(judge.classifier.features(pictures(train)), judge.features))
    vae = judge(trained("vae", train, seed=seed, epochs=_VAE_EPOCHS, batch_size=_BATCH))
    own = judge(trained("vae-gan", train, seed=seed, epochs=_EPOCHS, batch_size=_BATCH))
    yield Finding("cFID of samples", own.distance, published="5.87")
    yield Finding("cFID of samples over the VAE's", own.distance / vae.distance, 0.6, "most", ".32")
    yield Finding("sharpness of samples off that of images", abs(own.sharpness - 1), 0.15, "most", ".003")
    yield Finding("class agreement of reconstructions", own.agreement, 0.88, "least", ".915")
    yield Finding("pixel error over the VAE's", own.error / vae.error, 3.0, "most", "2.5")
    yield Finding("VAE: cFID of samples", vae.distance, published="18.5")
    yield Finding("VAE: sharpness of samples over that of images", vae.sharpness, 0.7, "most", ".60")
    yield Finding("VAE: class agreement of reconstructions", vae.agreement, published=".944")
    yield Finding("VAE: pixel error", vae.error, published="1.05")
    summed = judge(_summed(train, seed))
    yield Finding("one summed loss (control): cFID over the VAE's", summed.distance / vae.distance, published="1.6")
    yield Finding("one summed loss (control): sharpness over that of images", summed.sharpness, published=".39")
    yield Finding("one summed loss (control): class agreement", summed.agreement, published=".922")
    yield Finding("one summed loss (control): pixel error over the VAE's", summed.error / vae.error, published="4.8")


def _summed(train: Dataset, seed: int) -> Model:
    spec = INPUTS["image"].fit(train.items)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SummedVaeGan(spec, 32, VaeGanParams())
    for _ in Trainer(model, TrainConfig(seed=seed, epochs=_EPOCHS, batch_size=_BATCH)).fit(train.items, train.labels):
        pass
    return model.eval()
