"""The proof of search by sound: what a code keeps of a sound, against chance, ITQ, and codes of silence.

A reconstruction is judged as what it is, a waveform: it is analysed anew, its spectrogram compared with that of the
original (spectral convergence: the distance over the norm), and its code searched for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..audio import AudioInput
from ..base import Model
from ..data import Dataset
from ..errors import DataError
from ..families.denoising_autoencoder import DenoisingAutoencoder
from ..families.vq_vae import VqVae
from ..latent import LatentAutoencoder
from ..measure import distances, precision_at_k, same_label
from ..sounds import Sound
from ..spectrogram import convergence
from .base import Finding, Findings, proof, split, trained
from .vq_vae import bigram_bits

_K = 10
_BITS = 64
_NOISE_DB = 10.0
"""How much louder than the noise the sound is that is to be cleaned."""


@proof("binary-autoencoder", needs="sounds", seconds=30)
def sound_search(data: Dataset, seed: int) -> Findings:
    """Sounds found by sound: unseen recordings searched in the codes of others, and what comes back from a latent"""
    if data.labels is None:
        raise DataError("a search for the same kind of sound needs labels: put the sounds into a folder each")
    train, test = split(data, seed)
    search = Search(trained("binary-autoencoder", train, bits=_BITS, seed=seed), train, test)
    found = search.precision(search.model, test.items)
    itq = search.precision(trained("itq", train, bits=_BITS, seed=seed), test.items)
    yield Finding("precision@10 of unseen sounds", found, min(3 * search.chance, (1 + search.chance) / 2), "least")
    yield Finding("precision@10 at chance", search.chance)
    yield Finding("precision@10 of ITQ", itq)

    spec = search.spec
    x = spec.tensor(test.items)
    yield search.apart("a spectrogram turned into a sound", spec.restore(x), 0.2)
    model = trained("vae", train, bits=_BITS, seed=seed)
    assert isinstance(model, LatentAutoencoder)
    made = spec.restore(_reconstructed(model, model.input.tensor(test.items)))
    mean = spec.restore(spec.tensor(train.items).mean(0, keepdim=True))
    silence = search.apart("the mean sound", mean * len(test), None)
    yield silence
    yield search.apart("a VAE's reconstruction", made, 0.7 * silence.value)
    again = search.precision(search.model, made)
    yield Finding("precision@10 of the VAE's reconstructions, against that of the sounds", again / found, 0.85, "least")


@proof("denoising-autoencoder", needs="sounds", seconds=80)
def sound_repair(data: Dataset, seed: int) -> Findings:
    """Sounds repaired: white noise taken out of the waveform, and a gap of a tenth filled"""
    train, test = split(data, seed)
    model = trained("denoising-autoencoder", train, {"told": 0.1}, bits=_BITS, seed=seed, batch_size=32)
    assert isinstance(model, DenoisingAutoencoder)
    spec = model.input
    assert isinstance(spec, AudioInput)
    rng = np.random.default_rng(seed)
    clean = [spec.shrink(item) for item in test.items]
    noisy = [_with_noise(sound, rng) for sound in clean]
    with torch.inference_mode():
        cleaned = [
            spec.restore_like(x[None], sound) for x, sound in zip(model.denoise(spec.tensor(noisy)), noisy, strict=True)
        ]
    before, after = (
        float(np.mean([_snr(a, b) for a, b in zip(given, clean, strict=True)])) for given in (noisy, cleaned)
    )
    yield Finding(
        "signal-to-noise ratio of the cleaned waveform above that of the noisy one, dB", after - before, 1.0, "least"
    )

    gap = np.zeros(spec.length, np.bool_)
    middle, half = spec.length // 2, spec.length // 20
    gap[middle - half : middle + half] = True
    holed = [Sound(np.where(gap, 0, sound.samples).astype(np.float32), sound.rate) for sound in clean]
    cells = spec.missing_frames(gap)
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(seed)
        filled = [
            spec.spliced(model.inpaint(x[None], cells, steps=1, generator=generator), sound, gap)
            for x, sound in zip(spec.tensor(holed), holed, strict=True)
        ]
    wanted = spec.spectrum(clean)
    there = float(convergence(spec.spectrum(holed), wanted).mean())
    yield Finding("spectral convergence with a gap", there)
    yield Finding(
        "spectral convergence once it is filled",
        float(convergence(spec.spectrum(filled), wanted).mean()),
        there,
        "most",
    )
    kept = all(np.array_equal(a.samples[~gap], b.samples[~gap]) for a, b in zip(filled, holed, strict=True))
    yield Finding("share of sounds whose known samples are unchanged", float(kept), 1.0, "least")


@proof("VQ-VAE with a WaveNet prior", needs="sounds", seconds=60)
def sound_prior(data: Dataset, seed: int) -> Findings:
    """Sounds written as codes and drawn anew: what comes back, and what the prior makes, judged by the search."""
    if data.labels is None:
        raise DataError("what is drawn is judged by the labels of its neighbours: put the sounds into a folder each")
    train, test = split(data, seed)
    search = Search(trained("binary-autoencoder", train, bits=_BITS, seed=seed), train, test)
    model = trained("vq-vae", train, {"prior": "wavenet"}, bits=_BITS, seed=seed, batch_size=16)
    assert isinstance(model, VqVae)
    x = model.input.tensor(test.items)
    with torch.inference_mode():
        codes = model.ordered(model.codes(x))
        bits = -model.prior.log_likelihood(codes).mean() / (codes[0].numel() * math.log(2))
        again = model.input.restore(model.reconstruct(x))
        drawn = model.input.restore(model.sample(len(test), generator=torch.Generator().manual_seed(seed)))
        known = torch.cat([model.ordered(model.codes(part)) for part in model.input.tensor(train.items).split(64)])
    bigram = bigram_bits(known, codes, model.params.codes)
    yield Finding("bits a code, held out", float(bits), bigram - 0.3, "most")
    yield Finding("control, bigrams: bits a code", bigram)
    found = search.precision(search.model, test.items)
    yield Finding("precision@10 of reconstructions over that of sounds", search.precision(search.model, again) / found)
    yield Finding("ten nearest of one label, sounds", search.agreement(list(test.items)))
    yield Finding("ten nearest of one label, drawn from the prior", search.agreement(drawn))
    shares = search.shares(drawn)
    yield Finding("labels that are drawn at least once, share", float((shares > 0).mean()))


class Search:
    """Held-out sounds, the sounds to search among, and how well codes find the same label."""

    def __init__(self, model: Model, train: Dataset, test: Dataset) -> None:
        assert isinstance(model.input, AudioInput)
        self.model, self.spec, self._train, self._test = model, model.input, train, test
        self._relevant = same_label(np.array(test.labels), np.array(train.labels))
        self.chance = float(self._relevant.mean())

    def precision(self, model: Model, queries: Sequence[Sound] | NDArray[np.float32]) -> float:
        """Precision@10 of `queries`, which stand for the test items, among the training items."""
        codes, known = (np.packbits(model.logits(items) > 0, axis=1) for items in (queries, self._train.items))
        return precision_at_k(codes, known, self._relevant, _K)

    def agreement(self, queries: Sequence[Sound]) -> float:
        """The share of the commonest label among the ten nearest training items of each of `queries`, in the mean."""
        return float(self._commonest(queries).max(1).mean())

    def shares(self, queries: Sequence[Sound]) -> NDArray[np.float64]:
        """For each label, the share of `queries` among whose ten nearest it is the commonest."""
        winners = self._commonest(queries).argmax(1)
        return np.bincount(winners, minlength=len(set(self._train.labels or ()))) / len(winners)

    def _commonest(self, queries: Sequence[Sound]) -> NDArray[np.float64]:
        """The shares `(q, labels)` of the labels among the ten nearest training items."""
        codes, known = (np.packbits(self.model.logits(items) > 0, axis=1) for items in (queries, self._train.items))
        near = np.argsort(distances(codes, known), axis=1, kind="stable")[:, :_K]
        names, numbers = np.unique(np.array(self._train.labels), return_inverse=True)
        shares: NDArray[np.float64] = (numbers[near][:, :, None] == np.arange(len(names))).mean(1)
        return shares

    def apart(self, what: str, made: Sequence[Sound], most: float | None) -> Finding:
        """The mean spectral convergence of sounds made after the test items."""
        value = float(convergence(self.spec.spectrum(made), self.spec.spectrum(self._test.items)).mean())
        return Finding(f"spectral convergence of {what}", value, most)


@torch.inference_mode()
def _reconstructed(model: LatentAutoencoder, x: Tensor) -> Tensor:
    return model.reconstruct(x)


def _with_noise(sound: Sound, rng: np.random.Generator) -> Sound:
    level = np.sqrt(np.square(sound.samples).mean()) * 10 ** (-_NOISE_DB / 20)
    return Sound((sound.samples + level * rng.normal(size=len(sound.samples))).astype(np.float32), sound.rate)


def _snr(sound: Sound, clean: Sound) -> float:
    """Decibels of `clean` over what `sound` adds to it."""
    error = np.square(sound.samples - clean.samples).sum()
    return float(10 * np.log10(np.square(clean.samples).sum() / max(error, 1e-12)))
