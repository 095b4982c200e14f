"""What a radius means: the curve against exactly known truth, and the promise of target_precision on other queries."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from starlette.testclient import TestClient
from support import assert_problem, png

from index import Catalogue, CollectionConfig, Item, hamming
from index.distances import counts_of
from models.data import load
from models.sounds import Sound
from service.app import create_app
from service.augment import augmented
from service.calibration import curve_of, interval
from service.settings import Settings
from service.work.calibrate import run

from .test_jobs import wait

BITS = 64
APART = 0.08
"""The chance that a bit differs between two of a group; between others it is a half."""


def grouped(groups: int, each: int, seed: int) -> tuple[Any, Any]:
    """Codes `(groups * each, 8)` and the group of each; any two of a group differ in a bit with probability APART."""
    rng = np.random.default_rng(seed)
    flipped = (1 - np.sqrt(1 - 2 * APART)) / 2
    centres = rng.random((groups, BITS)) < 0.5
    labels = np.repeat(np.arange(groups), each)
    return np.packbits(centres[labels] ^ (rng.random((groups * each, BITS)) < flipped), axis=1), labels


def truth(groups: int, each: int) -> tuple[Any, Any, Any]:
    """The expected precision, recall and number of results at every radius."""
    near, far = (binom.cdf(np.arange(BITS + 1), BITS, share) for share in (APART, 0.5))
    right, wrong = (each - 1) * near, (groups - 1) * each * far
    return right / (right + wrong), near, right + wrong


def store(tmp_path: Path, codes: Any, labels: Any, name: str = "c") -> Path:
    catalogue = Catalogue(tmp_path / "collections")
    made = catalogue.create(CollectionConfig(name, BITS, None, True, "2026-01-01T00:00:00Z"))
    made.put(
        [
            Item(f"i{place}", code.tobytes(), {"a": {"group": int(label)}})
            for place, (code, label) in enumerate(zip(codes, labels, strict=True))
        ]
    )
    catalogue.close()
    return tmp_path / "collections" / name / "items.db"


def calibrated(path: Path, **asked: Any) -> dict[str, Any]:
    told = {"collection": "c", "store": str(path), "threads": 2, "queries": 1000, "strength": 1.0, "seed": 0}
    *_, last = run({**told, "by": "labels", "field": "a.group", **asked})
    found: dict[str, Any] = last["result"]
    return found


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.nice", lambda by: 0)  # this process is not a child of its own


# -- the numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 32, 64, 72, 128, 256, 512])
def test_counts_equal_the_brute_force(bits: int) -> None:
    rng = np.random.default_rng(bits)
    codes, queries = (rng.integers(0, 256, (n, bits // 8)).astype(np.uint8) for n in (150, 70))
    queries[0] = codes[5]
    skip = np.concatenate([[5], np.full(69, -1)])
    classes, own = (rng.integers(-1, 4, n).astype(np.int32) for n in (150, 70))
    found = np.concatenate(list(counts_of(bits, codes, queries, skip=skip, classes=classes, own=own)))
    distances = hamming(queries[:, None], codes[None])
    for q in range(70):
        counted = np.arange(150) != skip[q]
        for row, chosen in enumerate(
            (counted, counted & (classes >= 0), counted & (classes == own[q]) & (classes >= 0))
        ):
            assert np.array_equal(found[q, row], np.bincount(distances[q, chosen], minlength=bits + 1)), (q, row)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Results of one query go together: the plain interval of so many coin tosses would miss far more often."""
    rng = np.random.default_rng(11)
    tries, queries, share = 1500, 60, 0.8
    held = plain = 0
    for _ in range(tries):
        found = rng.integers(0, 30, (queries, 1))
        easy = rng.beta(share * 3, (1 - share) * 3, (queries, 1))
        right = rng.binomial(found, easy)
        p, low, high = (float(values[0]) for values in interval(right, found))
        assert low < p < high
        held += low <= share <= high
        n = int(found.sum())
        half = 1.96 * np.sqrt(p * (1 - p) / n)
        plain += p - half <= share <= p + half
    assert held / tries > 0.93
    assert plain / tries < 0.8


def test_the_interval_where_all_or_nothing_is_right() -> None:
    found = np.array([[1, 7, 0], [1, 9, 0], [0, 4, 0]])
    share, low, high = interval(found, found)
    assert (share[0], high[0], share[1], high[1]) == (1, 1, 1, 1)
    assert low[0] == pytest.approx(0.025 ** (1 / 2)), "two queries, whatever they found"
    assert low[1] == pytest.approx(0.025 ** (1 / 3))
    assert np.isnan([share[2], low[2], high[2]]).all()
    share, low, high = interval(0 * found, found)
    assert (share[1], low[1]) == (0, 0)
    assert high[1] == pytest.approx(1 - 0.025 ** (1 / 3))
    alone = interval(np.array([[3]]), np.array([[4]]))
    assert 0 < alone[1][0] < 0.75 < alone[2][0] < 1


def test_by_labels_the_curve_is_the_known_one(tmp_path: Path) -> None:
    groups, each = 150, 8
    codes, labels = grouped(groups, each, 1)
    found = calibrated(store(tmp_path, codes, labels))
    precision, recall, results = truth(groups, each)
    assert (found["by"], found["items"], found["queries"], found["queries_held_out"]) == ("labels", 1200, 500, 500)
    rows = found["curve"]
    assert [row["radius"] for row in rows] == list(range(len(rows)))
    assert rows[-1]["results"] == 1199
    inside = {"precision": [], "recall": [], "held_out": []}  # type: ignore[var-annotated]
    for row in rows:
        radius = row["radius"]
        assert row["results"] == pytest.approx(results[radius], rel=0.05, abs=0.1)
        inside["recall"].append(row["recall_low"] <= recall[radius] <= row["recall_high"])
        if row["pairs"]:
            inside["precision"].append(row["precision_low"] <= precision[radius] <= row["precision_high"])
        if row["held_out"]["pairs"]:
            own = row["held_out"]
            inside["held_out"].append(own["precision_low"] <= precision[radius] <= own["precision_high"])
    assert all(np.mean(values) > 0.85 for values in inside.values()), inside
    assert calibrated(store(tmp_path / "b", codes, labels), seed=0)["curve"] == rows, "the same seed, the same curve"
    some = labels.astype(object)
    assert calibrated(store(tmp_path / "d", codes, some), queries=50)["queries"] == 25


def test_by_pairs_the_curve_is_the_known_one(tmp_path: Path) -> None:
    codes, labels = grouped(200, 4, 2)
    path = store(tmp_path, codes, labels)
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 800, (2, 4000))
    b[:2000] = a[:2000] // 4 * 4 + (a[:2000] + rng.integers(1, 4, 2000)) % 4  # half of them are of one group
    pairs = [
        [codes[one].tobytes().hex(), codes[other].tobytes().hex(), bool(labels[one] == labels[other])]
        for one, other in zip(a, b, strict=True)
    ]
    found = calibrated(path, by="pairs", pairs=pairs, fingerprint=None)
    near, far = (binom.cdf(np.arange(BITS + 1), BITS, share) for share in (APART, 0.5))
    assert (found["queries"], found["queries_held_out"]) == (2000, 2000)
    inside = [
        row["precision_low"]
        <= near[row["radius"]] / (near[row["radius"]] + far[row["radius"]])
        <= row["precision_high"]
        for row in found["curve"]
        if row["pairs"]
    ]
    assert np.mean(inside) > 0.85
    _, _, results = truth(200, 4)
    row = found["curve"][24]
    assert row["results"] == pytest.approx(results[24], rel=0.15)


def test_a_curve_ends_where_nothing_more_is_found() -> None:
    within = np.array([[0, 1, 2, 2, 2], [0, 0, 2, 2, 2]])
    half = np.array([True, False])
    rows = curve_of(within, within, within[:, -1], within, half)
    assert [row["radius"] for row in rows] == [0, 1, 2]
    assert (rows[0]["precision"], rows[1]["precision"], rows[1]["held_out"]["precision"]) == (None, 1, None)


@pytest.mark.parametrize("field", ["missing", "a", "own"])
def test_labels_that_say_nothing(tmp_path: Path, field: str) -> None:
    from models.errors import DataError

    codes, _ = grouped(5, 3, 1)
    path = store(tmp_path, codes, np.arange(15))
    with pytest.raises(DataError, match="payload field"):
        calibrated(path, field=field)


# -- items changed a little ----------------------------------------------------------------------------------------


def test_what_is_changed_stays_near_and_is_never_the_same() -> None:
    rng = np.random.default_rng(4)
    picture = rng.integers(0, 256, (30, 20, 3)).astype(np.uint8)
    small = rng.integers(0, 256, (8, 8, 1)).astype(np.uint8)
    for item in (picture, small):
        changed = augmented("image", item, rng)
        assert (changed.shape, changed.dtype) == (item.shape, np.uint8)
        assert not np.array_equal(changed, item)
        assert np.corrcoef(changed.ravel(), item.ravel())[0, 1] > 0.3
    vector = rng.normal(size=24).astype(np.float32)
    changed = augmented("vector", vector, rng)
    assert changed.dtype == np.float32
    assert 0 < np.abs(changed - vector).max() < 0.3
    assert augmented("vector", np.zeros(3, np.float32), rng).tolist() == [0, 0, 0]
    text = "the quick brown fox jumps over the lazy dog"
    for strength in (1.0, 4.0):
        words = augmented("text", text, rng, strength).split()
        assert 0 < len(words) < 9
        assert set(words) <= set(text.split())
    assert augmented("text", "alone", rng) == "alone"
    sound = Sound(np.sin(np.arange(2000) / 9).astype(np.float32), 4000)
    changed = augmented("audio", sound, rng)
    assert (len(changed.samples), changed.rate, changed.samples.dtype) == (2000, 4000, np.float32)
    assert not np.array_equal(changed.samples, sound.samples)


# -- through the service -------------------------------------------------------------------------------------------


def calibrate(client: TestClient, collection: str = "digits", **body: Any) -> Any:
    return client.post(f"/collections/{collection}/calibrate", json=body)


def search(client: TestClient, collection: str = "digits", **body: Any) -> Any:
    return client.post("/search", json={"collection": collection, "query": {"id": "digit-0000"}, **body})


@pytest.fixture(scope="module")
def split() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Real digits as items: 900 to store, and 400 that no one has seen."""
    data = load("digits")
    assert data.labels is not None
    items = [
        {"id": id, "image": png(image), "payload": {"label": label}}
        for id, image, label in zip(data.ids, data.items, data.labels, strict=True)
    ]
    order = np.random.default_rng(6).permutation(len(items))
    return [items[place] for place in order[:900]], [items[place] for place in order[900:1300]]


@pytest.fixture(scope="module")
def digits(prepared: Path, tmp_path_factory: pytest.TempPathFactory, split: Any) -> Iterator[TestClient]:
    """A client of a service with `all-digits`, which the first test calibrates."""
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("calibration") / "data"))
    with TestClient(create_app(Settings(data_dir=root)), raise_server_exceptions=False) as found:
        found.post("/collections", json={"name": "all-digits", "model": "digits-hash"})
        body = {"collection": "all-digits", "items": split[0]}
        assert found.post("/ingest", json=body).json()["created"] == 900
        done = wait(found, calibrate(found, "all-digits", queries=600).json()["id"], "succeeded", "failed")
        assert done["state"] == "succeeded", done
        assert set(done["result"]["radius_for"]) == {"0.8", "0.9", "0.95", "0.99"}
        yield found


def test_the_promised_precision_holds_for_queries_that_took_no_part(digits: TestClient, split: Any) -> None:
    """Real digits, calibrated by their labels; then searched by 400 that are not stored."""
    curve = digits.get("/collections/all-digits/calibration").json()
    assert (curve["by"], curve["field"], curve["model"]["name"]) == ("labels", "label", "digits-hash")
    best = max(row["precision_low"] or 0 for row in curve["curve"])
    checked = 0
    for target in (0.5, 0.65, 0.8, 0.9):
        if target > best:
            continue
        searches = [
            {"collection": "all-digits", "query": {"image": item["image"]}, "target_precision": target, "limit": 10_000}
            for item in split[1]
        ]
        replies = []
        for start in range(0, len(searches), 200):
            replies += digits.post("/search/batch", json={"searches": searches[start : start + 200]}).json()["results"]
        assert {reply["radius"] for reply in replies} == {replies[0]["radius"]}
        row = curve["curve"][replies[0]["radius"]]
        assert row["precision_low"] >= target
        assert all((later["precision_low"] or 0) < target for later in curve["curve"][row["radius"] + 1 :])
        right = np.array(
            [
                [sum(hit["payload"]["label"] == item["payload"]["label"] for hit in reply["hits"])]
                for reply, item in zip(replies, split[1], strict=True)
            ]
        )
        found = np.array([[reply["total"]] for reply in replies])
        share, low, high = (float(values[0]) for values in interval(right, found))
        assert share >= target or high >= target, "the precision is what was asked for"
        assert low <= row["precision_high"], "and what was stated, within both intervals"
        assert high >= row["precision_low"]
        checked += 1
    assert checked >= 2, best


def test_target_precision_in_place_of_a_radius(digits: TestClient) -> None:
    problem = assert_problem(search(digits, target_precision=0.5), 409, "not-calibrated")
    assert "/calibrate" in problem["detail"]
    assert_problem(digits.get("/collections/digits/calibration"), 404, "not-calibrated")
    curve = digits.get("/collections/all-digits/calibration").json()["curve"]
    some = search(digits, "all-digits", query={"code": "00" * 8}, target_precision=0.5, k=3).json()
    assert len(some["hits"]) <= 3
    assert some["radius"] == max(row["radius"] for row in curve if (row["precision_low"] or 0) >= 0.5)
    assert "radius" not in search(digits, k=3).json()
    problem = assert_problem(search(digits, "all-digits", query={"code": "00" * 8}, target_precision=1.0), 422)
    assert problem["type"].endswith("precision-out-of-reach")
    best = max((row["precision_low"] or 0, row["radius"]) for row in curve)
    assert f"radius {best[1]}" in problem["detail"]
    assert f"{best[0]:.3f}" in problem["detail"]
    assert_problem(search(digits, target_precision=0.5, radius=3), 422, "invalid-request")
    for bad in (0, 1.1, -1, "0.5"):
        assert_problem(search(digits, target_precision=bad), 422, "invalid-request")


def test_a_calibration_lasts_and_belongs_to_its_model(data_dir: Path) -> None:
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        wait(client, calibrate(client, "vectors").json()["id"], "succeeded")
        before = client.get("/collections/vectors/calibration").json()
        collection = client.app.state.engine.catalogue.get("vectors")  # type: ignore[attr-defined]
        assert collection.noted(f"calibration/{before['model']['fingerprint']}")["curve"] == before["curve"]
        assert collection.noted("calibration/another") is None
    query = {"code": "00" * 4}
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        assert client.get("/collections/vectors/calibration").json() == before
        assert search(client, "vectors", query=query, target_precision=0.5).status_code == 200
        client.delete("/collections/vectors")
        client.post("/collections", json={"name": "vectors", "model": "vectors-itq"})
        assert_problem(search(client, "vectors", query=query, target_precision=0.5), 409, "not-calibrated")


@pytest.mark.parametrize(
    "collection",
    ["digits", pytest.param("python-docs", marks=pytest.mark.slow), pytest.param("vectors", marks=pytest.mark.slow)],
)
def test_without_any_label(client: TestClient, collection: str) -> None:
    """Each kind of item, changed a little: near changes are found sooner than other items."""
    done = wait(client, calibrate(client, collection, by="augmentation").json()["id"], "succeeded", "failed")
    assert done["state"] == "succeeded", done
    found = client.get(f"/collections/{collection}/calibration").json()
    assert found["by"] == "augmentation"
    assert found["queries"] + found["queries_held_out"] == found["items"]
    last = found["curve"][-1]
    assert last["recall"] == 1
    assert last["precision"] == pytest.approx(1 / found["items"], rel=0.01), "one right answer among all items"
    sensible = next(row for row in found["curve"] if row["recall"] >= 0.5)
    assert sensible["results"] < found["items"] / 3


def test_by_pairs_of_any_input(client: TestClient, datasets: Any) -> None:
    data = datasets["digits"]
    pairs = [
        {"a": {"image": png(data.items[place])}, "b": {"id": data.ids[place + shift]}, "same": shift == 0}
        for place in range(40)
        for shift in (0, 5)
    ]
    done = wait(client, calibrate(client, pairs=pairs).json()["id"], "succeeded", "failed")
    assert done["state"] == "succeeded", done
    found = client.get("/collections/digits/calibration").json()
    assert (found["by"], found["queries"], found["curve"][0]["precision"]) == ("pairs", 40, 1)
    pairs[7]["a"] = {"image": "AAAA"}
    problem = assert_problem(calibrate(client, pairs=pairs), 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == "/pairs/7/a"
    pairs[7]["a"] = {"id": "nobody"}
    assert_problem(calibrate(client, pairs=pairs), 422, "invalid-request")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"by": "pairs"}, "pairs"),
        ({"by": "augmentation", "field": "label"}, "field"),
        ({"by": "labels", "pairs": [{"a": {"code": "00" * 8}, "b": {"code": "00" * 8}, "same": True}] * 2}, "pairs"),
        ({"pairs": [{"a": {"code": "00" * 8}, "b": {"code": "00" * 8}, "same": True}] * 2}, "some must belong"),
        (
            {
                "pairs": [{"a": {"code": "00"}, "b": {"code": "00" * 8}, "same": True}] * 2
                + [{"a": {"code": "00" * 8}, "b": {"code": "00" * 8}, "same": False}]
            },
            "pair 0, a",
        ),
        ({"queries": 5001}, "max_calibration_queries"),
        ({"queries": 1}, ""),
        ({"strength": 9}, ""),
    ],
)
def test_what_is_refused(shared_client: TestClient, body: Any, words: str) -> None:
    assert words in assert_problem(calibrate(shared_client, **body), 422, "invalid-request")["detail"]


def test_what_cannot_be_calibrated(client: TestClient) -> None:
    client.post("/collections", json={"name": "codes", "bits": 64})
    assert_problem(calibrate(client, "codes", by="augmentation"), 422, "invalid-request")
    assert_problem(calibrate(client, "nobody"), 404, "unknown-collection")
    job = wait(client, calibrate(client, "codes").json()["id"], "failed")
    assert "0 of 0 items" in job["error"]["detail"]
    job = wait(client, calibrate(client, field='we"ird').json()["id"], "failed")
    assert job["error"]["status"] == 422
