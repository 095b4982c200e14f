"""/train and /jobs: a spawned child, progress, events, cancelling, and what is refused."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support import assert_problem

from service.app import create_app
from service.jobs import JobStore
from service.settings import Settings


def wait(client: TestClient, id: str, *states: str, timeout_s: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/jobs/{id}").json()
        if job["state"] in states:
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def events(client: TestClient, id: str) -> Iterator[dict[str, Any]]:
    with client.stream("GET", f"/jobs/{id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def train(client: TestClient, **body: Any) -> Any:
    given = {"name": "new", "family": "vae", "bits": 32, "data": {"collection": "digits"}, "params": {"epochs": 3}}
    return client.post("/train", json={**given, **body})


def test_a_training_ends_in_a_model(client: TestClient) -> None:
    response = train(client, seed=3)
    assert response.status_code == 202
    job = response.json()
    fields = {"id", "kind", "state", "progress", "result", "error", "created_at", "updated_at"}
    assert set(job) == {*fields, "subject"}
    assert job["subject"] == {"model": "new", "family": "vae", "collection": "digits"}
    seen = list(events(client, job["id"]))
    assert seen[-1]["state"] == "succeeded", seen[-1]
    assert [event["state"] for event in seen] == sorted(
        (event["state"] for event in seen), key=["queued", "running", "succeeded"].index
    )
    assert {"epoch", "epochs", "losses", "retrieval", "bit_balance", "eta_s"} <= set(seen[-1]["progress"])
    assert seen[-1]["result"]["model"]["name"] == "new"
    card = client.get("/models/new").json()
    assert (card["family"], card["bits"]) == ("vae", 32)
    assert card["fingerprint"] == seen[-1]["result"]["model"]["fingerprint"]
    assert client.get("/jobs").json()["jobs"][0]["id"] == job["id"]
    again = train(client, seed=3).json()
    assert wait(client, again["id"], "succeeded")["result"]["model"]["version"] == 2
    assert client.get("/models/new").json()["fingerprint"] == card["fingerprint"], "the same seed gives the same model"


def test_a_width_is_proposed_where_none_is_given(client: TestClient) -> None:
    job = train(client, family="itq", bits="auto", params={}).json()
    seen = list(events(client, job["id"]))
    assert seen[-1]["state"] == "succeeded", seen[-1]
    assert set(seen[-1]["progress"]) >= {"bits", "why", "found", "sharing", "dimension", "sampled", "items"}
    chosen = seen[-1]["result"]["metrics"]["bits_chosen"]
    assert chosen == seen[-1]["progress"]
    card = client.get("/models/new").json()
    assert card["bits"] == chosen["bits"]
    assert card["metrics"]["bits_chosen"]["why"].startswith(f"{chosen['bits']} bits, ")
    assert f"The width was chosen: {chosen['why']}" in card["card"]
    refused = train(client, bits="many")
    assert [fault["pointer"] for fault in assert_problem(refused, 422)["errors"]] == ["/bits"]


def test_a_training_can_be_cancelled(client: TestClient) -> None:
    first = train(client, params={"epochs": 100_000, "patience": 100_000}).json()
    waiting = train(client, name="waiting").json()
    wait(client, first["id"], "running")
    assert client.delete(f"/jobs/{waiting['id']}").json()["state"] == "cancelled"
    assert client.delete(f"/jobs/{first['id']}").json()["state"] == "cancelled"
    third = train(client, name="third").json()
    assert wait(client, third["id"], "succeeded", "failed")["state"] == "succeeded"
    assert client.get(f"/jobs/{first['id']}").json()["state"] == "cancelled"
    assert client.delete(f"/jobs/{third['id']}").json()["state"] == "succeeded", "what has ended stays as it is"
    assert_problem(client.get("/models/new"), 404, "unknown-model")
    assert_problem(client.get("/models/waiting"), 404, "unknown-model")


def test_a_training_that_fails_says_why(client: TestClient) -> None:
    client.post("/collections", json={"name": "codes", "bits": 64})
    job = train(client, data={"collection": "codes"}).json()
    error = wait(client, job["id"], "failed")["error"]
    assert error["type"] == "urn:hammingbird:problem:invalid-data"
    assert "keeps no inputs" in error["detail"]


def test_a_stop_interrupts_what_runs(data_dir: Path) -> None:
    """reliability.md C4, the part about the job's state"""
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        running = train(client, params={"epochs": 100_000, "patience": 100_000}).json()["id"]
        waiting = train(client).json()["id"]
        wait(client, running, "running")
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        assert client.get(f"/jobs/{running}").json()["state"] == "interrupted"
        assert client.get(f"/jobs/{waiting}").json()["state"] == "interrupted"
        assert_problem(client.get("/models/new"), 404, "unknown-model")


def test_too_many_jobs_are_refused(data_dir: Path) -> None:
    with TestClient(create_app(Settings(data_dir=data_dir, max_jobs_waiting=1))) as client:
        long = {"epochs": 100_000, "patience": 100_000}
        running = train(client, params=long).json()
        wait(client, running["id"], "running")
        waiting = train(client, params=long)
        assert waiting.status_code == 202
        refused = train(client, params=long)
        assert "max_jobs_waiting" in assert_problem(refused, 429, "overloaded")["detail"]
        assert refused.headers["retry-after"]
        client.delete(f"/jobs/{waiting.json()['id']}")
        assert train(client, params=long).status_code == 202, "a cancelled job does not wait"


def test_a_job_that_cannot_be_started_does_not_stop_the_others(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("service.runner.sys.executable", "/nowhere/python")
        job = train(client).json()
        assert wait(client, job["id"], "failed")["error"]["type"] == "urn:hammingbird:problem:job-failed"
    job = train(client).json()
    assert wait(client, job["id"], "succeeded", "failed")["state"] == "succeeded"


def test_a_job_cancelled_while_its_child_starts_is_ended(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen

    def slowly(*arguments: Any, **options: Any) -> Any:
        child = start(*arguments, **options)
        client.delete(f"/jobs/{client.get('/jobs').json()['jobs'][0]['id']}")
        children.append(child)
        return child

    children: list[Any] = []
    monkeypatch.setattr("service.runner.subprocess.Popen", slowly)
    job = train(client, params={"epochs": 100_000, "patience": 100_000}).json()
    assert wait(client, job["id"], "cancelled")["state"] == "cancelled"
    deadline = time.monotonic() + 20
    while not children or children[0].poll() is None:
        assert time.monotonic() < deadline, "the child goes on"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "Bad Name"}, 422),
        ({"family": "nobody"}, 422),
        ({"bits": 63}, 422),
        ({"bits": 2**30}, 422),
        ({"bits": "many"}, 422),
        ({"bits": True}, 422),
        ({"bits": None}, 422),
        ({"params": {"epochs": 0}}, 422),
        ({"params": {"latent": 0}}, 422),
        ({"params": {"unknown": 1}}, 422),
        ({"params": {"learning_rate": "fast"}}, 422),
        ({"data": {}}, 422),
        ({"data": {"collection": "digits", "dataset": "digits"}}, 422),
        ({"data": {"collection": "nobody"}}, 404),
        ({"data": {"dataset": "/etc/passwd"}}, 422),
        ({"data": {"dataset": "nobody"}}, 422),
        ({"seed": -1}, 422),
    ],
    ids=str,
)
def test_trainings_that_are_refused(shared_client: TestClient, body: dict[str, Any], status: int) -> None:
    before = len(shared_client.get("/jobs").json()["jobs"])
    assert_problem(train(shared_client, **body), status)
    assert len(shared_client.get("/jobs").json()["jobs"]) == before


def test_unknown_jobs(shared_client: TestClient) -> None:
    for method, path in (("GET", "/jobs/x"), ("DELETE", "/jobs/x"), ("GET", "/jobs/x/events")):
        assert_problem(shared_client.request(method, path), 404, "unknown-job")


def test_jobs_of_an_earlier_version_are_still_there(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as db:
        db.execute(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, progress TEXT NOT NULL,"
            " result TEXT NOT NULL, error TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT"
        )
        db.execute("INSERT INTO jobs VALUES ('old', 'train', 'succeeded', '{}', 'null', 'null', '2026', '2026')")
    for _ in range(2):
        with closing(JobStore(tmp_path / "jobs.db")) as store:
            new = store.add("duplicates", {"collection": "digits"})
            assert store.get(new)["subject"] == {"collection": "digits"}
            assert (store.get("old")["state"], store.get("old")["subject"]) == ("succeeded", {})
