"""/train with labels and pairs: what is learned from reaches the model, and the model says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem

from .test_jobs import wait

FAMILY = "binary-autoencoder"


@pytest.fixture
def pairs() -> list[dict[str, Any]]:
    return [{"a": {"id": f"v{place}"}, "b": {"id": f"v{place + 3}"}, "same": True} for place in range(30)] + [
        {"a": {"id": "v0"}, "b": {"id": "v1"}, "same": False}
    ]


@pytest.fixture
def labelled(client: TestClient) -> TestClient:
    """A collection of vectors, two thirds of them with a label in an object of their payload."""
    rng = np.random.default_rng(0)
    client.post("/collections", json={"name": "marked", "model": "vectors-itq"})
    items = [
        {
            "id": f"v{place}",
            "vector": rng.normal(size=24).round(3).tolist(),
            "payload": {"is": {"kind": place % 3}, "tags": ["x"]} if place % 3 else {"tags": ["x"]},
        }
        for place in range(90)
    ]
    assert client.post("/ingest", json={"collection": "marked", "items": items}).status_code == 200
    return client


def ended(client: TestClient, response: Any) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    return wait(client, response.json()["id"], "succeeded", "failed")


def train(client: TestClient, **body: Any) -> Any:
    given = {"name": "told", "family": FAMILY, "bits": 16, "data": {"collection": "marked"}, "params": {"epochs": 2}}
    return client.post("/train", json={**given, **body})


def test_a_model_says_that_it_learned_from_labels(labelled: TestClient) -> None:
    job = ended(labelled, train(labelled, labels=True, data={"collection": "marked", "label": "is.kind"}))
    metrics = job["result"]["metrics"]
    assert (metrics["supervised"], metrics["labelled"]) == ("labels", 60)
    card = labelled.get("/models/told").json()
    assert card["metrics"]["supervised"] == "labels"
    assert "Learned from labels of 60 items" in card["card"]


def test_a_model_says_that_it_learned_from_pairs(labelled: TestClient, pairs: list[dict[str, Any]]) -> None:
    metrics = ended(labelled, train(labelled, pairs=pairs))["result"]["metrics"]
    assert (metrics["supervised"], metrics["labelled"]) == ("pairs", 33)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"labels": True}, "has no labels to learn from"),
        ({"labels": True, "data": {"collection": "marked", "label": "tags"}}, "holds a list or an object"),
        ({"pairs": [{"a": {"id": "v0"}, "b": {"id": "nobody"}, "same": True}]}, "has the id 'nobody'"),
    ],
    ids=str,
)
def test_what_cannot_be_learned_from_fails_and_leaves_no_model(
    labelled: TestClient, body: dict[str, Any], why: str
) -> None:
    job = ended(labelled, train(labelled, **body))
    assert job["error"]["status"] == 422
    assert why in job["error"]["detail"]
    assert_problem(labelled.get("/models/told"), 404, "unknown-model")


@pytest.mark.parametrize(
    "body",
    [
        {"labels": True, "family": "itq"},
        {"labels": 1},
        {"labels": True, "pairs": [{"a": {"id": "a"}, "b": {"id": "b"}, "same": True}]},
        {"pairs": []},
        {"pairs": [{"a": {"id": "a"}, "b": {"id": "b"}, "same": 1}]},
        {"pairs": [{"a": {"code": "00"}, "b": {"id": "b"}, "same": True}]},
        {"pairs": [{"a": {"id": ""}, "b": {"id": "b"}, "same": True}]},
        {"data": {"dataset": "digits", "label": "label"}},
        {"data": {"collection": "digits", "label": ""}},
    ],
    ids=str,
)
def test_what_is_refused_at_once(shared_client: TestClient, body: dict[str, Any]) -> None:
    before = len(shared_client.get("/jobs").json()["jobs"])
    assert_problem(train(shared_client, **{"data": {"collection": "digits"}, **body}), 422)
    assert len(shared_client.get("/jobs").json()["jobs"]) == before
