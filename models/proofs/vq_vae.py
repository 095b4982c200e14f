"""VQ-VAE with its priors: a codebook in full use, a PixelCNN over codes of pictures, a WaveNet over codes of sounds.

Bits a code are those of held-out items, under priors that have seen the training items only. (They are not bits a
dimension: the decoder has a Gaussian error, not a distribution over 256 values.)
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data import Dataset
from ..families.vq_vae import VqVae
from ..parts.codebook import usage
from ..synthetic import tones
from .base import Finding, Findings, proof, split, trained
from .quality import Classifier, frechet, pictures

_CODES = 128
_SAMPLES = 2000
_MELODIES = 1500
_TUNES: dict[str, Any] = {"codes": 64, "halvings": 1, "frame_codes": 1, "prior": "wavenet"}
"""One code for two frames of a melody, four a note: a frame has a window that may hold two notes."""


@proof("VQ-VAE", needs="images", seconds=200)
def vq_vae(data: Dataset, seed: int) -> Findings:
    """The codebook is used in full and reconstructs; without restarts, the control, it is not."""
    train, test = split(data, seed)
    recipe: dict[str, Any] = {"epochs": 14, "batch_size": 32, "rate": 4e-3, "channels": 32, "prior_share": 0.05}
    model = _trained(train, seed, **recipe)
    perplexity, used = _usage(model, train)
    yield Finding("used codes, share", used, 0.9, "least", "1.00")
    yield Finding(f"perplexity, of {_CODES}", perplexity, 64, "least", "92")
    yield Finding("squared error an image, held out", _error(model, test), 3.0, "most", "2.34")
    control = _trained(train, seed, **recipe, restart=0)
    lower, fewer = _usage(control, train)
    yield Finding("control, no restarts: perplexity", lower, perplexity, "most", "25")
    yield Finding("control, no restarts: used codes, share", fewer, published=".55")
    yield Finding("control, no restarts: squared error", _error(control, test), published="2.72")


@proof("PixelCNN prior", needs="images", seconds=220)
def pixelcnn_prior(data: Dataset, seed: int) -> Findings:
    """It predicts codes and makes pictures better than the codes' frequencies at each place, the control."""
    train, test = split(data, seed)
    model = _trained(train, seed, epochs=16, channels=32, prior_share=0.4)
    known, held_out = _codes(model, train), _codes(model, test)
    unigram = Unigram(known)
    bits = _bits(model, held_out)
    yield Finding("bits a code, held out", bits, unigram.bits(held_out) - 1.0, "most", "3.85")
    yield Finding("control, frequencies at each place: bits a code", unigram.bits(held_out), published="5.55")
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        made = model.sample(_SAMPLES, generator=generator)
        control = torch.cat([model.expected(part) for part in unigram.sample(_SAMPLES, generator).split(500)])
        repeated = torch.cat([model.reconstruct(part) for part in pictures(test).split(500)])
    classifier = Classifier.fit(train, seed)
    real = classifier.features(pictures(test))
    distances = [frechet(classifier.features(x), real) for x in (made, control, repeated)]
    yield Finding("cFID of samples", distances[0], 0.5 * distances[1], "most", "24.5")
    yield Finding("control: cFID of samples of frequencies", distances[1], published="107")
    yield Finding("cFID of reconstructions", distances[2])
    yield Finding("logits at or before a changed code that moved", _acausal(model, held_out[:1]), 0, "most", "0")


@proof("WaveNet prior", seconds=70)
def wavenet_prior(data: None, seed: int) -> Findings:
    """On melodies of a known chain: below the bigrams of its codes, and every code says which note is played."""
    train, train_notes = _melodies(_MELODIES, 2 * seed)
    test, test_notes = _melodies(_MELODIES // 4, 2 * seed + 1)
    model = cast(VqVae, trained("vq-vae", train, _TUNES, seed=seed, epochs=40, batch_size=64, patience=40))
    known, held_out = _codes(model, train), _codes(model, test)
    bigram = bigram_bits(known.flatten(1), held_out.flatten(1), _TUNES["codes"])
    yield Finding("bits a code, held out", _bits(model, held_out), bigram - 0.3, "most", "0.43")
    yield Finding("control, bigrams: bits a code", bigram, published="1.30")
    yield Finding("entropy of the melodies, bits a code", tones_entropy() / held_out[0].numel())
    named = _named(known.flatten(1), train_notes, held_out.flatten(1), test_notes)
    yield Finding("note known from one code, held out", named, 0.95, "least", "1.00")
    yield Finding("logits at or before a changed code that moved", _acausal(model, held_out[:1]), 0, "most", "0")
    _, used = _usage(model, train)
    yield Finding("used codes, share", used, published="1.00")


class Unigram:
    """How often each code comes at each position of maps `(n, rows, columns)`, plus one."""

    def __init__(self, codes: Tensor) -> None:
        counts = functional.one_hot(codes, _CODES).sum(0) + 1.0  # (rows, columns, codes)
        self.shares = counts / counts.sum(2, keepdim=True)

    def bits(self, codes: Tensor) -> float:
        chosen = self.shares.expand(len(codes), *self.shares.shape).gather(3, codes[..., None])
        return float(-chosen.log2().mean())

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        rows, columns, codes = self.shares.shape
        drawn = torch.multinomial(self.shares.view(-1, codes), n, replacement=True, generator=generator)
        return drawn.T.reshape(n, rows, columns)


def tones_entropy() -> float:
    """Bits of a melody: its first note, its transitions, its timbre. No model of its codes can need fewer."""
    chain = tones.transitions()
    share = np.full(tones.NOTES, 1 / tones.NOTES)
    total = np.log2(tones.NOTES) + np.log2(len(tones.TIMBRES))
    for _ in range(tones.NOTES - 1):
        total += float(-(share[:, None] * chain * np.log2(chain)).sum())
        share = share @ chain
    return float(total)


def _trained(
    train: Dataset, seed: int, *, epochs: int, batch_size: int = 64, rate: float = 3e-3, **params: Any
) -> VqVae:
    chosen = {"codes": _CODES, **params}
    config: dict[str, Any] = {"batch_size": batch_size, "learning_rate": rate, "patience": epochs}
    return cast(VqVae, trained("vq-vae", train, chosen, seed=seed, epochs=epochs, **config))


def _melodies(n: int, seed: int) -> tuple[Dataset, Tensor]:
    """Melodies and the notes `(n, notes)` they play."""
    sounds, labels, payloads = tones.melodies(n, seed)
    notes = torch.tensor([payload["notes"] for payload in payloads])
    return Dataset("melodies", "audio", sounds, [str(place) for place in range(n)], labels, payloads), notes


@torch.inference_mode()
def _codes(model: VqVae, data: Dataset) -> Tensor:
    """The codes `(n, rows, columns)` of all items."""
    x = model.input.tensor(data.items)
    return torch.cat([model.codes(part) for part in x.split(500)])


def _usage(model: VqVae, data: Dataset) -> tuple[float, float]:
    """Perplexity and used share of the codebook over all items."""
    counts = _codes(model, data).flatten().bincount(minlength=model.codebook.size)
    perplexity, used = usage(counts.double())
    return float(perplexity), float(used)


@torch.inference_mode()
def _error(model: VqVae, data: Dataset) -> float:
    x = pictures(data)
    return float(torch.cat([(model.reconstruct(p) - p).flatten(1).square().sum(1) for p in x.split(500)]).mean())


@torch.inference_mode()
def _bits(model: VqVae, codes: Tensor) -> float:
    """Bits a code of maps of codes under the model's prior."""
    ordered = model.ordered(codes)
    nats = torch.cat([model.prior.log_likelihood(part) for part in ordered.split(500)])
    return float(-nats.mean() / (codes[0].numel() * np.log(2)))


def bigram_bits(known: Tensor, held_out: Tensor, codes: int) -> float:
    """Bits a code of sequences `(n, T)` given the one before, with the smoothing that is best for the held-out ones."""
    first = known[:, 0].bincount(minlength=codes).double()
    pairs = (known[:, :-1] * codes + known[:, 1:]).flatten().bincount(minlength=codes**2).view(codes, codes).double()
    best = float("inf")
    for extra in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
        start = ((first + extra) / (first + extra).sum()).log2()[held_out[:, 0]].sum()
        after = ((pairs + extra) / (pairs + extra).sum(1, keepdim=True)).log2()
        total = start + after[held_out[:, :-1], held_out[:, 1:]].sum()
        best = min(best, float(-total / held_out.numel()))
    return best


def _named(known: Tensor, known_notes: Tensor, codes: Tensor, notes: Tensor) -> float:
    """The share of codes `(n, T)` whose commonest note in `known` is the one that is played."""
    each = codes.shape[1] // notes.shape[1]
    table = torch.zeros(int(known.max().maximum(codes.max())) + 1, tones.NOTES)
    played = known_notes.repeat_interleave(each, 1).flatten()
    table.index_put_((known.flatten(), played), torch.ones(len(played)), accumulate=True)
    return float((table.argmax(1)[codes] == notes.repeat_interleave(each, 1)).float().mean())


@torch.inference_mode()
def _acausal(model: VqVae, codes: Tensor) -> float:
    """How many logits at or before a code move when it changes: each code of `codes` `(1, rows, columns)` in turn."""
    ordered = model.ordered(codes)
    before = model.prior(ordered).flatten(2)
    moved = 0
    for t in range(ordered.numel()):
        changed = ordered.flatten().clone()
        changed[t] = (changed[t] + 1) % model.codebook.size
        after = model.prior(changed.view_as(ordered)).flatten(2)
        moved += int((after != before)[:, :, : t + 1].sum())
    return float(moved)
