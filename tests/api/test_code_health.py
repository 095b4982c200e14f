"""GET /collections/{collection}/health: what is measured, what is said of it, drift on real digits, the gauges."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem

from index import pack
from index.drift import CodeProfile, drift
from models.artefact import load_model, read_artefact, save_artefact
from models.data import Dataset, load
from service.app import create_app
from service.settings import Settings
from service.training import Training, train


def health_of(client: TestClient, collection: str) -> dict[str, Any]:
    response = client.get(f"/collections/{collection}/health")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def add_codes(client: TestClient, collection: str, codes: np.ndarray[Any, Any], prefix: str = "") -> None:
    items = [{"id": f"{prefix}{place}", "code": code.tobytes().hex()} for place, code in enumerate(codes)]
    response = client.post("/ingest", json={"collection": collection, "items": items})
    assert response.status_code == 200, response.text


def test_every_number_of_a_filled_collection(shared_client: TestClient) -> None:
    health = health_of(shared_client, "digits")
    assert (health["items"], health["bits"], health["model"]["name"]) == (300, 64, "digits-hash")
    assert health["status"] == health["findings"][0]["severity"]
    assert {finding["what"] for finding in health["findings"]} == {
        "equal codes", "dead bits", "balance", "correlation", "effective bits", "radius", "drift",
    }  # fmt: skip
    assert all((finding["advice"] is None) == (finding["severity"] == "ok") for finding in health["findings"])
    assert len(health["balance"]["ones"]) == len(health["entropy"]["per_bit"]) == 64
    assert 1 < health["entropy"]["effective_bits"] <= health["entropy"]["total"] <= 64
    assert health["radius"]["steps"][-1]["mean"] == 299
    assert not health["buckets"]["in_use"]
    assert health["drift"]["training_items"] == 300
    assert health["drift"]["all"]["score"] <= 1, "these are the very items that it was trained on"
    assert health["no_drift"] is None


@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_small_collections_of_equal_codes(client: TestClient, n: int) -> None:
    client.post("/collections", json={"name": "c", "bits": 128})
    if n:
        add_codes(client, "c", np.zeros((n, 16), np.uint8))
    health = health_of(client, "c")
    assert (health["items"], health["codes"]["distinct"]) == (n, min(n, 1))
    assert "model" in (health["no_drift"] or "")
    assert health["drift"] is None
    assert health["status"] == ("bad" if n == 40 else "ok")


def test_it_is_measured_once_and_again_after_a_change(client: TestClient) -> None:
    client.post("/collections", json={"name": "c", "bits": 64})
    add_codes(client, "c", np.arange(16, dtype=np.uint8).reshape(2, 8))
    first = health_of(client, "c")
    assert health_of(client, "c") == first
    add_codes(client, "c", np.ones((1, 8), np.uint8), "more")
    second = health_of(client, "c")
    assert second["items"] == 3
    assert second["sequence"] > first["sequence"]
    client.delete("/collections/c")
    assert_problem(client.get("/collections/c/health"), 404, "unknown-collection")
    client.post("/collections", json={"name": "c", "bits": 32})
    assert (health_of(client, "c")["items"], health_of(client, "c")["bits"]) == (0, 32)


def test_damage_is_told_of(client: TestClient) -> None:
    bad = [3, 17, 40, 63]
    client.post("/collections", json={"name": "c", "bits": 64})
    bits = np.random.default_rng(0).integers(0, 2, (500, 64))
    bits[:, bad] = 1
    add_codes(client, "c", np.packbits(bits.astype(np.uint8), axis=1))
    health = health_of(client, "c")
    assert health["dead_bits"] == bad
    worst = health["findings"][0]
    assert (worst["severity"], worst["what"], worst["value"], worst["limit"]) == ("warning", "dead bits", 4, 0)
    assert "3, 17, 40, 63" in worst["detail"]
    assert "fewer bits" in worst["advice"]


def test_a_model_without_a_profile_says_so(data_dir: Path) -> None:
    """A model saved before profiles were, or by other means, answers as ever; only drift is not known."""
    folder = next(path for path in (data_dir / "models" / "digits-hash").iterdir() if path.is_dir())
    artefact, model = read_artefact(folder), load_model(folder)
    assert artefact.codes is not None
    shutil.rmtree(folder)
    mark = save_artefact(model, folder, metrics=artefact.metrics, training=artefact.config["training"], title="t")
    assert mark == artefact.fingerprint, "the profile is no part of what the model is"
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        health = health_of(client, "digits")
        assert health["drift"] is None
        assert "train it again" in health["no_drift"]
        assert client.post("/search", json={"collection": "digits", "query": {"id": "digit-0000"}}).status_code == 200


# -- drift on real data --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CodeProfile, Any, Dataset, np.ndarray[Any, Any]]:
    """A model of half the digits: its profile, itself, all digits, and the places of the half it has not seen."""
    digits = load("digits")
    order = np.random.default_rng(0).permutation(len(digits))
    seen = order[: len(order) // 2]
    half = Dataset("half", digits.kind, [digits.items[place] for place in seen], [str(place) for place in seen])
    folder = tmp_path_factory.mktemp("drift") / "model"
    for _ in train(Training("half", "binary-autoencoder", 64, {"epochs": 8, "hidden": 64}), half, folder):
        pass
    stored = read_artefact(folder).codes
    assert stored is not None
    return CodeProfile.from_dict(stored, 64), load_model(folder), digits, order[len(order) // 2 :]


@pytest.mark.slow
def test_unseen_digits_are_no_drift_and_other_pictures_are(
    trained: tuple[CodeProfile, Any, Dataset, np.ndarray[Any, Any]],
) -> None:
    """Of 60 draws from what training did not see, at least 95 read "ok"; other classes and pictures never do."""
    profile, model, digits, unseen = trained
    assert profile.items == len(digits) // 2
    codes = pack(model.logits(digits.items))
    rng = np.random.default_rng(1)
    scores = [
        drift(profile, codes[rng.choice(unseen, int(rng.integers(50, 300)), replace=False)], seed=number).score
        for number in range(60)
    ]
    assert np.mean(np.array(scores) <= 1) >= 0.95, scores
    labels = np.array(digits.labels)
    sevens = drift(profile, codes[labels == "7"])
    assert sevens.score > 5
    assert sevens.stability > 0.25
    without = drift(profile, codes[unseen][~np.isin(labels[unseen], ["0", "1", "2"])])
    assert 1 < without.score < sevens.score
    inverted = drift(profile, pack(model.logits([255 - item for item in digits.items[:300]])))
    assert inverted.score > 5
    assert inverted.strange > 0.2


def test_arriving_items_that_are_others_are_told_of(client: TestClient) -> None:
    """The collection of digits goes on with inverted ones: the newest are bad, with what to do."""
    from models.images import encode_png

    digits = load("digits")
    files = [("files", (f"inverted-{place}.png", encode_png(255 - digits.items[place]))) for place in range(250)]
    assert client.post("/ingest", data={"collection": "digits"}, files=files).status_code == 200
    health = health_of(client, "digits")
    assert health["status"] == "bad"
    newest = next(finding for finding in health["findings"] if finding["detail"].startswith("the newest"))
    assert newest["severity"] == "bad"
    assert "re-encode" in newest["advice"]
    assert health["drift"]["recent"]["items"] == 200


# -- gauges --------------------------------------------------------------------------------------------------------


def gauges(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("hammingbird_co")
    }


@pytest.fixture
def eager(data_dir: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(data_dir=data_dir, health_every_s=0))) as found:
        yield found


def test_the_gauges_follow_the_collection(eager: TestClient) -> None:
    gauges(eager)  # has everything examined

    def until(label: str, value: float) -> dict[str, float]:
        deadline = time.monotonic() + 20
        while (found := gauges(eager)).get(label) != value:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    found = until('hammingbird_code_items{collection="digits"}', 300)
    health = health_of(eager, "digits")
    said = {
        "hammingbird_code_effective_bits": health["entropy"]["effective_bits"],
        "hammingbird_code_correlation": health["correlation"]["mean"],
        "hammingbird_code_distinct": health["codes"]["distinct"],
        "hammingbird_code_dead_bits": len(health["dead_bits"]),
    }
    for name, value in said.items():
        assert found[f'{name}{{collection="digits"}}'] == pytest.approx(value, rel=1e-4)
    assert found['hammingbird_code_drift_score{collection="digits",window="all"}'] < 1
    assert found['hammingbird_code_results_mean{collection="digits",radius="8"}'] > 0
    assert all(math.isfinite(value) for value in found.values())
    eager.delete("/collections/digits/items/digit-0000")
    until('hammingbird_code_items{collection="digits"}', 299)
    eager.delete("/collections/digits")
    assert not any('"digits"' in label for label in gauges(eager))


def test_the_reply_is_strict_json(shared_client: TestClient) -> None:
    text = shared_client.get("/collections/vectors/health").text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
