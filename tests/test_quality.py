"""What the codes find: the thresholds of the walking skeleton, on real handwritten digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import measure
from models.base import Model, build
from models.data import Dataset, load
from models.families.denoising_autoencoder import DenoisingAutoencoder
from models.inputs import INPUTS
from models.train import TrainConfig, Trainer


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def trained(data: Dataset, family: str, bits: int, seed: int = 0, epochs: int | None = None) -> Model:
    model = build(family, INPUTS[data.kind].fit(data.items), bits, {}, seed=seed)
    for _ in Trainer(model, TrainConfig(seed=seed, epochs=epochs)).fit(data.items, data.labels):
        pass
    return model


def precision(model: Model, data: Dataset) -> float:
    """precision@10, every item against all others, ties in expectation."""
    codes = np.packbits(model.logits(data.items) > 0, axis=1)
    labels = np.array(data.labels, np.str_)
    relevant = measure.same_label(labels, labels)
    return measure.precision_at_k(codes, codes, relevant, 10, leave_out=np.arange(len(codes), dtype=np.int64))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_the_learned_hash_beats_itq_on_digits(digits: Dataset, seed: int) -> None:
    itq = {bits: precision(trained(digits, "itq", bits), digits) for bits in (32, 64)}
    learned = {bits: precision(trained(digits, "binary-autoencoder", bits, seed), digits) for bits in (32, 64)}
    assert itq[64] == pytest.approx(0.944, abs=0.01), "our own ITQ converges"
    assert itq[32] == pytest.approx(0.918, abs=0.01)
    assert learned[64] >= 0.94
    assert learned[64] >= itq[64]
    assert learned[32] >= itq[32]


def test_denoising_brings_held_out_digits_nearer_to_the_clean_ones(digits: Dataset) -> None:
    """sigma 0.3, on digits that training never saw."""
    order = np.random.default_rng(0).permutation(len(digits))
    held, kept = order[:300], order[300:]
    data = Dataset("part", "image", digits.items[kept], [digits.ids[place] for place in kept])
    model = trained(data, "denoising-autoencoder", 64, epochs=30)
    assert isinstance(model, DenoisingAutoencoder)
    with torch.inference_mode():
        clean = model.input.tensor(digits.items[held])
        noisy = clean + 0.3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        before = (noisy - clean).flatten(1).norm(dim=1)
        after = (model.denoise(noisy) - clean).flatten(1).norm(dim=1)
    assert float((after < before).float().mean()) >= 0.95


def test_ties_are_counted_in_expectation() -> None:
    """A query with three items at the same distance, of which two are relevant, and room for one."""
    database = np.array([[0b1], [0b10], [0b100], [0b111]], np.uint8)
    relevant = np.array([[True, True, False, True]])
    assert measure.precision_at_k(np.zeros((1, 1), np.uint8), database, relevant, 1) == pytest.approx(2 / 3)
    assert measure.precision_at_k(np.zeros((1, 1), np.uint8), database, relevant, 2) == pytest.approx(2 / 3)
    assert measure.precision_at_k(np.zeros((1, 1), np.uint8), database, relevant, 3) == pytest.approx(2 / 3)
    assert measure.precision_at_k(np.zeros((1, 1), np.uint8), database, relevant, 9) == pytest.approx(3 / 4)


def test_bit_health_of_known_codes() -> None:
    dead = measure.bit_health(np.zeros((4, 1), np.uint8))
    assert (dead.balance, dead.distinct, dead.correlation) == (0.0, 0.25, 1.0)
    every = measure.bit_health(np.arange(256, dtype=np.uint8)[:, None])
    assert (every.balance, every.distinct) == (1.0, 1.0)
    assert every.correlation == pytest.approx(0, abs=1e-6)
    twins = measure.bit_health(np.array([[0], [255]] * 5, np.uint8))
    assert twins.correlation == pytest.approx(1, abs=1e-6)
