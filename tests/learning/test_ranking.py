"""Vectors: the ranking objective by hand, and codes that find more of what is near than ITQ, whatever the pile."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from models.base import Batch, build
from models.batches import Batches
from models.data import load
from models.inputs import VectorInput
from models.objectives.ranking import NEAREST, Ranking, misranking, nearness
from models.parts.started import Started
from models.supervision import Supervision
from models.train import TrainConfig, Trainer


def pile(n: int, dim: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Embeddings as they come: few directions matter, items lie in groups, lengths are equal."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n // 8 + 1, 12)).repeat(8, 0)[:n] + 0.7 * rng.normal(size=(n, 12))
    x = np.tanh(latent @ rng.normal(size=(12, dim))) + 0.2 * rng.normal(size=(n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def trained(items: np.ndarray[Any, Any], bits: int, family: str = "binary-autoencoder", **config: Any) -> Trainer:
    model = build(family, VectorInput.fit(items), bits, {})
    trainer = Trainer(model, TrainConfig(device="cpu", **config))
    for _ in trainer.fit(items):
        pass
    return trainer


def test_nearness_is_a_softmax_as_wide_as_the_gap_to_the_tenth() -> None:
    rng = np.random.default_rng(0)
    x, pool = (torch.from_numpy(rng.normal(size=(n, 3)).astype(np.float32)) for n in (2, 30))
    own = torch.tensor([4, -1])
    pool[4] = x[0]
    for row, at in zip(nearness(x, pool, own).tolist(), (0, 1), strict=True):
        squared = [math.inf if place == own[at] else float((x[at] - c).square().sum()) for place, c in enumerate(pool)]
        near = sorted(squared)[:NEAREST]
        want = np.exp([(near[0] - d) / (0.3 * (near[-1] - near[0])) for d in squared])
        assert row == pytest.approx((want / want.sum()).tolist(), abs=1e-5)


def test_misranking_is_zero_for_codes_that_say_it_all_and_never_less() -> None:
    pool = torch.tensor([[1.0, 1, 1], [1, 1, -1], [-1, -1, -1], [1, -1, 1]])
    logits, own, scale = torch.tensor([[2.0, 0.5, -1]]), torch.tensor([3]), torch.tensor([0.7, 1.3])
    agreement = torch.tensor([[1.5, 3.5, -1.5]])
    told = torch.cat([(agreement * 0.7).softmax(1), torch.zeros(1, 1)], 1)
    soft_only = misranking(told, logits, torch.zeros(1, 3), pool, own, scale)
    even = math.log(3) + float((told * told.clamp_min(1e-30).log()).sum())
    assert float(soft_only) == pytest.approx(0.5 * even, abs=1e-6)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        target = torch.randn(1, 4, generator=generator).masked_fill(torch.arange(4) == 3, -math.inf).softmax(1)
        signs = torch.randn(1, 3, generator=generator).sign()
        assert float(misranking(target, signs, signs, pool, own, scale)) >= -1e-6


@pytest.mark.parametrize("n", [2, 3, 11, 40])
def test_ranking_takes_pools_of_any_size_and_twins(n: int) -> None:
    x = torch.zeros(n, 5) if n % 2 else torch.randn(n, 5, generator=torch.Generator().manual_seed(0))
    encode = torch.nn.Linear(5, 8)
    loss = Ranking(8)(Batch(x, pool=x, own=torch.arange(n)), encode, torch.sigmoid)
    (gradient,) = torch.autograd.grad(loss, [encode.weight])
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert float(Ranking(8)(Batch(x), encode, torch.sigmoid)) == 0


def test_the_pool_holds_what_is_near_and_says_where_an_item_itself_is(monkeypatch: pytest.MonkeyPatch) -> None:
    items = pile(300, 8)
    model = build("binary-autoencoder", VectorInput.fit(items), 16, {})
    monkeypatch.setattr(type(model), "pool", 128)
    rows = model.input.rows(items)
    near = np.linalg.norm(items[:, None] - items[None], axis=2).argsort(1)[:, 1:51]
    for most, among in ((20_000, 300), (200, 200)):
        monkeypatch.setattr("models.batches._MOST_RANKED", most)
        batches = Batches(model, rows, None, 32, np.random.default_rng(0))
        seen = set()
        assert batches.items == among
        for batch in batches:
            assert batch.pool is not None
            assert batch.own is not None
            assert 64 < len(batch.pool) <= 128
            there = batch.own >= 0
            assert torch.equal(batch.pool[batch.own[there]], batch.x[there])
            absent = batch.x[~there]
            assert not any((batch.pool == x).all(1).any() for x in absent)
            seen |= {tuple(x) for x in batch.x.tolist()}
        assert len(seen) == among
    places = {tuple(x): place for place, x in enumerate(rows.take(np.arange(300)).tolist())}
    pool = {places[tuple(x)] for x in batch.pool.tolist()}
    of_these = set(near[[places[tuple(x)] for x in batch.x.tolist()]].ravel().tolist())
    assert len(pool & of_these) >= len(pool) / 2
    known = Supervision.from_labels([str(place % 5) for place in range(300)])
    assert Batches(model, rows, known, 32, np.random.default_rng(0)).items == 300, "what is labelled is all used"


def test_it_begins_as_itq_and_is_held_to_it_the_more_the_fewer_items_there_are() -> None:
    holds = []
    for n in (100, 400):
        items = pile(n, 20)
        itq = build("itq", VectorInput.fit(items), 16, {})
        rows = itq.input.rows(items)
        torch.manual_seed(3)
        itq.fit_hash(rows)
        model = build("binary-autoencoder", itq.input, 16, {})
        model.prepare(rows)
        started = model.encoder
        assert isinstance(started, Started)
        x = model.input.tensor(items)
        logits = model.eval().encode(x).detach()
        assert np.array_equal(model.logits(items) > 0, itq.logits(items) > 0)
        assert float(started.moved(x, logits)) == pytest.approx(0, abs=1e-9)
        assert float(started.moved(x, logits + 2)) == pytest.approx(4, rel=1e-4)
        assert torch.allclose(model.decode(torch.eye(16)), itq.decode(torch.eye(16)), atol=1e-5)
        holds.append(started.hold)
    assert holds == [5, 1.25]


@pytest.mark.parametrize("bits", [16, 96], ids=["fewer bits than numbers", "more bits than numbers"])
def test_it_finds_more_of_what_is_near_than_itq(bits: int) -> None:
    items = load("digits").items[:1200].reshape(1200, -1).astype(np.float32)
    learned, itq = trained(items, bits, epochs=12, learning_rate=1e-2), trained(items, bits, "itq")
    assert learned.metrics["retrieval"] > itq.metrics["retrieval"] + 0.02
    assert learned.metrics["best_epoch"] > 0


def test_where_nothing_better_is_learned_it_stays_as_it_began() -> None:
    items = np.random.default_rng(0).normal(size=(60, 30)).astype(np.float32)
    trainer = trained(items, 32, epochs=2, learning_rate=0.9)
    itq = trained(items, 32, "itq")
    assert trainer.metrics["retrieval"] >= itq.metrics["retrieval"]
    if trainer.metrics["best_epoch"] == 0:
        assert np.array_equal(trainer.model.logits(items) > 0, itq.model.logits(items) > 0)


@pytest.mark.parametrize("shape", ["twenty", "one number", "twins", "constant columns", "few items, many bits", "huge"])
def test_it_asks_nothing_of_a_pile(shape: str) -> None:
    rng = np.random.default_rng(0)
    items = {
        "twenty": rng.normal(size=(20, 7)),
        "one number": rng.normal(size=(50, 1)),
        "twins": np.repeat(rng.normal(size=(3, 9)), 20, axis=0),
        "constant columns": np.concatenate([np.full((60, 5), 7.0), rng.normal(size=(60, 3))], axis=1),
        "few items, many bits": rng.normal(size=(24, 6)),
        "huge": 1e12 * rng.normal(size=(40, 6)),
    }[shape].astype(np.float32)
    model = trained(items, 128 if "bits" in shape else 16, epochs=3).model
    assert np.isfinite(model.logits(items)).all()
    assert np.isfinite(model.decode(torch.ones(2, model.bits)).detach().numpy()).all()


def test_a_dense_encoder_asked_for_begins_anywhere_and_ranks_nothing() -> None:
    items = pile(100, 10)
    model = build("binary-autoencoder", VectorInput.fit(items), 16, {"hidden": 32, "encoder": "dense"})
    assert not model.pool
    assert not model.begins_fitted
    assert [tuple(p.shape) for p in model.encoder.parameters()] == [(32, 10), (32,), (16, 32), (16,)]
