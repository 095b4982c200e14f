"""The measures of retrieval against a slow, obvious twin of each, ties and empty answers included."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from support import vectors

from models import measure
from models.base import build
from models.data import Dataset
from models.errors import DataError
from models.inputs import INPUTS
from models.retrieval import exact, oversampling, protocol
from models.retrieval.judge import DEFINITIONS, Judge
from models.retrieval.ranking import DEEPEST, Ranking, nearest
from models.train import Trainer

BITS = 8


def case(seed: int, items: int = 6) -> tuple[Any, Any]:
    """Few distances, so that there are ties; in every second case nothing is relevant or nothing is near."""
    rng = np.random.default_rng(seed)
    distances = rng.integers(3 if seed % 4 == 1 else 0, 5, (3, items)).astype(np.int16)
    relevant = rng.random((3, items)) < (0.0 if seed % 4 == 3 else 0.5)
    return distances, relevant


def average_precision(relevant: Any, deepest: int) -> float:
    hits, total = 0, 0.0
    for rank, one in enumerate(relevant[:deepest], start=1):
        if one:
            hits += 1
            total += hits / rank
    return total / hits if hits else 0.0


@pytest.mark.parametrize("seed", range(8))
def test_precision_is_the_mean_over_every_way_of_breaking_ties(seed: int) -> None:
    distances, relevant = case(seed)
    leave_out = np.array([0, 3, 5])
    for out in (None, leave_out):
        ranking = Ranking.of(distances, relevant, BITS, out)
        for k in (1, 2, 4, 5, 100):
            found = ranking.precision(k)
            for q in range(3):
                kept = [i for i in range(6) if out is None or i != out[q]]
                shares = [
                    relevant[q, sorted(order, key=lambda i: distances[q, i])[:k]].mean() for order in permutations(kept)
                ]
                expected = [np.mean(shares), min(shares), max(shares)]
                assert [values[q] for values in found] == pytest.approx(expected), (seed, k, q, out)


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_that_of_one_stable_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    distances, relevant = case(seed, 40)
    monkeypatch.setattr("models.retrieval.ranking.DEEPEST", 7)
    ranking = Ranking.of(distances, relevant, BITS, np.array([-1, 2, 39]))
    for q, out in enumerate((-1, 2, 39)):
        order = [i for i in np.argsort(distances[q], kind="stable") if i != out]
        assert ranking.average_all[q] == pytest.approx(average_precision(relevant[q, order], 40))
        assert ranking.average_first[q] == pytest.approx(average_precision(relevant[q, order], 7))
    assert DEEPEST == 1000


@pytest.mark.parametrize("seed", range(8))
def test_within_a_radius(seed: int) -> None:
    distances, relevant = case(seed)
    ranking = Ranking.of(distances, relevant, BITS, None)
    for radius in range(5):
        precision, recall, empty = ranking.within(radius)
        for q in range(3):
            inside = distances[q] <= radius
            hits = int((inside & relevant[q]).sum())
            assert precision[q] == (hits / inside.sum() if inside.any() else 0)
            assert recall[q] == (hits / relevant[q].sum() if relevant[q].any() else 0)
            assert empty[q] == (not inside.any())


def test_a_curve_is_precision_and_recall_at_each_cutoff() -> None:
    distances, relevant = case(0)
    ranking = Ranking.of(distances, relevant, BITS, None)
    precision, recall = ranking.curve([1, 3, 6])
    assert precision == pytest.approx([ranking.precision(k)[0].mean() for k in (1, 3, 6)])
    hits = [ranking.precision(k)[0] * k for k in (1, 3, 6)]
    assert recall == pytest.approx([(found / np.maximum(relevant.sum(1), 1)).mean() for found in hits])


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_among_the_candidates(seed: int) -> None:
    """In expectation over ties before the rerank; after it, what sorting everything twice gives."""
    rng = np.random.default_rng(seed)
    items, queries = 150, 4
    bits = rng.random((items, BITS)) < 0.5
    logits = rng.normal(size=(queries, BITS)).astype(np.float32)
    distances = ((logits > 0)[:, None] != bits[None]).sum(2).astype(np.int16)
    leave_out = np.array([0, 7, 149, 33]) if seed % 2 else np.full(queries, -1)
    near = np.array([[i for i in rng.permutation(items) if i != out][:2] for out in leave_out])
    ranking = Ranking.of(distances, np.zeros(distances.shape, np.bool_), BITS, leave_out)
    soft = oversampling.by_soft_rerank(logits, bits.astype(np.int8) * 2 - 1, distances, near, leave_out)
    for factor in oversampling.FACTORS:
        found = oversampling.by_hamming(ranking, distances, near, factor)
        take = factor * 2
        for q in range(queries):
            others = [i for i in range(items) if i != leave_out[q]]
            chances = []
            for one in near[q]:
                before = sum(distances[q, i] < distances[q, one] for i in others)
                tied = sum(distances[q, i] == distances[q, one] for i in others)
                chances.append(min(max((take - before) / tied, 0), 1))
            assert found[q] == pytest.approx(np.mean(chances))
            pool = sorted(others, key=lambda i: distances[q, i])[: 10 * take]
            cost = {i: np.abs(logits[q])[(logits[q] > 0) != bits[i]].astype(np.float64).sum() for i in pool}
            best = sorted(pool, key=lambda i: round(cost[i], 5))[:take]
            assert soft[factor][q] == np.isin(near[q], best).mean()


def test_the_nearest_codes_in_order() -> None:
    distances = np.random.default_rng(0).integers(0, 9, (5, 60)).astype(np.int16)
    out = np.array([-1, 0, 59, 30, -1])
    found = nearest(distances, out, BITS, 59)
    for q in range(5):
        order = [i for i in np.argsort(distances[q], kind="stable") if i != out[q]]
        assert found[q].tolist() == order[:59]


@pytest.mark.parametrize("bits", [8, 16, 64, 72, 136])
def test_distances_of_every_width(bits: int) -> None:
    rng = np.random.default_rng(bits)
    a, b = rng.integers(0, 256, (7, bits // 8)).astype(np.uint8), rng.integers(0, 256, (9, bits // 8)).astype(np.uint8)
    expected = (np.unpackbits(a, axis=1)[:, None] != np.unpackbits(b, axis=1)[None]).sum(2)
    assert np.array_equal(measure.distances(a, b), expected)


def test_blocks_cover_all_queries_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(b.start, b.stop) for b in measure.blocks(7, 10, 30)] == [(0, 3), (3, 6), (6, 7)]
    assert [(b.start, b.stop) for b in measure.blocks(2, 100, 30)] == [(0, 1), (1, 2)]
    codes = np.random.default_rng(0).integers(0, 256, (50, 2)).astype(np.uint8)
    relevant = np.random.default_rng(1).random((50, 50)) < 0.3
    whole = measure.precision_at_k(codes, codes, relevant, 5, leave_out=np.arange(50))
    monkeypatch.setattr(measure, "blocks", lambda q, n: iter([slice(0, 9), slice(9, 50)]))
    assert measure.precision_at_k(codes, codes, relevant, 5, leave_out=np.arange(50)) == pytest.approx(whole)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("left_out", [False, True])
def test_the_input_itself_ranked(monkeypatch: pytest.MonkeyPatch, sparse: bool, left_out: bool) -> None:
    monkeypatch.setattr(exact, "_AT_ONCE", 100)  # more than one block
    rng = np.random.default_rng(0)
    database = rng.normal(size=(30, 5)).astype(np.float32)
    queries = database[:8] if left_out else rng.normal(size=(8, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 8), rng.integers(0, 3, 30)
    out = np.arange(8) if left_out else None
    rows = (csr_matrix(queries), csr_matrix(database)) if sparse else (queries, database)
    found = exact.rank(*rows, labels, [1, 4, 10], 3, out)
    distances = (
        np.square(queries[:, None] - database[None]).sum(2),
        -(queries @ database.T) / np.linalg.norm(database, axis=1) / np.linalg.norm(queries, axis=1)[:, None],
    )
    for one, by in zip(found, distances, strict=True):
        for q in range(8):
            order = [i for i in np.argsort(by[q]) if not left_out or i != q]
            hits = labels[1][order] == labels[0][q]
            assert one.nearest[q].tolist() == order[:3]
            assert one.found[q].tolist() == [hits[:k].sum() for k in (1, 4, 10)]
            assert one.relevant[q] == hits.sum()
            assert one.average_all[q] == pytest.approx(average_precision(hits, 30))
            assert one.average_first[q] == pytest.approx(average_precision(hits, 1000))


# -- protocols and the judge ---------------------------------------------------------------------------------------


def test_the_protocols() -> None:
    data, other = vectors(100), vectors(20, seed=1)
    every = protocol.all_against_all(data)
    assert every.leave_out is not None
    limited = every.limited(10)
    assert limited.leave_out is not None
    assert [data.ids[place] for place in limited.leave_out] == limited.queries.ids
    assert (len(limited.queries), len(limited.database)) == (10, 100)
    assert every.limited(100) is every
    assert protocol.held_out(data, other).queries is other
    halves = protocol.random_split(data)
    assert (len(halves.database), len(halves.queries)) == (80, 10)
    assert not set(halves.database.ids) & set(halves.queries.ids)
    assert protocol.random_split(data).queries.ids == halves.queries.ids
    with pytest.raises(DataError, match="at least 10"):
        protocol.random_split(vectors(9))
    with pytest.raises(DataError, match="must be alike"):
        protocol.held_out(data, Dataset("texts", "text", ["a"], ["0"]))


def judged(protocol: protocol.Protocol, ks: list[int], bits: int = 16) -> tuple[Judge, Any]:
    data = protocol.database
    model = build("itq", INPUTS[data.kind].fit(data.items), bits, {})
    for _ in Trainer(model, model_config()).fit(data.items):
        pass
    judge = Judge(protocol, ks)
    return judge, judge.judge(model)


def model_config() -> Any:
    from models.train import TrainConfig

    return TrainConfig(seed=0)


def test_a_judge_measures_all_that_is_defined() -> None:
    _, verdict = judged(protocol.all_against_all(vectors(120)), [5, 500])
    scores = verdict.scores
    for name in DEFINITIONS:
        measured = (name.replace("@k", "@5").replace("radius_r", "radius_2").replace("mx", "4x"),)
        assert name == "training_s" or measured[0] in scores, name
    assert scores["precision@5_worst"] <= scores["precision@5"] <= scores["precision@5_best"]
    assert 0.9 < scores["precision@5"] <= 1, "clusters are found"
    assert scores["precision@500"] == pytest.approx(scores["precision@500_best"]), "all are taken"
    assert scores["neighbours@10x_soft"] >= scores["neighbours@1x_soft"]
    curve = verdict.curves
    assert len(curve["cutoffs"]) == len(curve["precision"]) == len(curve["recall"])
    assert curve["recall"][-1] == pytest.approx(1)
    assert len(curve["radius_precision"]) == 17


def test_a_judge_agrees_with_precision_at_k_and_the_ceiling_is_the_features() -> None:
    data, queries = vectors(150), vectors(40, seed=0)
    judge, verdict = judged(protocol.held_out(data, queries), [7])
    near = np.square(np.asarray(queries.items)[:, None] - np.asarray(data.items)[None]).sum(2).argsort(1)[:, :7]
    assert data.labels is not None
    assert queries.labels is not None
    relevant = measure.same_label(np.array(queries.labels), np.array(data.labels))
    ceiling = judge.ceilings["float L2"].scores
    assert ceiling["precision@7"] == pytest.approx(np.take_along_axis(relevant, near, axis=1).mean())
    assert ceiling["map@1000"] == pytest.approx(ceiling["map@all"]), "a thousand are all"
    model = build("itq", INPUTS["vector"].fit(data.items), 16, {})
    for _ in Trainer(model, model_config()).fit(data.items):
        pass
    codes = [np.packbits(model.logits(part.items) > 0, axis=1) for part in (queries, data)]
    assert verdict.scores["precision@7"] == pytest.approx(measure.precision_at_k(*codes, relevant, 7))


def test_without_labels_what_is_left_is_the_neighbours() -> None:
    data = vectors(60)
    judge, verdict = judged(protocol.all_against_all(Dataset("v", "vector", data.items, data.ids)), [10])
    assert not judge.ceilings
    assert not verdict.curves
    assert not [name for name in verdict.scores if "precision" in name or "map" in name]
    assert 0 < verdict.scores["neighbours@4x"] <= 1
