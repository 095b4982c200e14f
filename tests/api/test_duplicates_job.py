"""/collections/{c}/duplicates: groups equal those of a brute force, whole in a file, cut in the result."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from starlette.testclient import TestClient
from support import assert_problem

from index import Catalogue, CollectionConfig, Item, hamming, sidecar
from index import whole as wholes
from service.app import create_app
from service.settings import Settings
from service.work.duplicates import run

from .test_jobs import wait


def clustered(n: int, seed: int = 0) -> Any:
    """Codes `(n, 8)`: small clusters and much noise."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (n // 5, 8)).astype(np.uint8)
    return centres[rng.integers(0, n // 5, n)] ^ np.packbits(rng.random((n, 64)) < 0.03, axis=1)


def expected(ids: list[str], codes: Any, radius: int) -> tuple[int, list[set[str]]]:
    """The number of pairs, and the groups."""
    near = hamming(codes[:, None], codes[None]) <= radius
    labels = connected_components(near)[1]
    groups = [{ids[place] for place in np.flatnonzero(labels == label)} for label in range(labels.max() + 1)]
    return int(np.triu(near, 1).sum()), [group for group in groups if len(group) > 1]


def store(tmp_path: Path, codes: Any, ids: list[str]) -> tuple[Catalogue, Path]:
    catalogue = Catalogue(tmp_path / "collections", copy_from=100)
    made = catalogue.create(CollectionConfig("c", 64, None, True, "2026-01-01T00:00:00Z"))
    made.put_codes(ids, codes)
    return catalogue, tmp_path / "collections" / "c" / "items.db"


def spec(path: Path, radius: int, **more: Any) -> dict[str, Any]:
    told = {"max_groups": 1000, "max_ids": 10_000, "threads": 2, "draft": str(path.parent / "groups-x.new")}
    return {"collection": "c", "store": str(path), "radius": radius, **told, **more}


def result_of(told: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The child's result, and the lines of its file."""
    *_, last = run(told)
    draft = Path(told["draft"])
    lines = [json.loads(line) for line in draft.read_text().splitlines()]
    draft.unlink()
    return last["result"], lines


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.nice", lambda by: 0)  # this process is not a child of its own


@pytest.mark.parametrize("radius", [0, 2, 5])
def test_groups_equal_the_brute_force(tmp_path: Path, radius: int) -> None:
    """With a copy of the codes beside the store, older than the last changes, and without one."""
    codes = clustered(1200)
    ids = [f"i{place}" for place in np.random.default_rng(1).permutation(1200)]
    catalogue, path = store(tmp_path, codes, ids)
    collection = catalogue.get("c")
    collection.merge()
    assert (path.parent / sidecar.NAME).exists()
    collection.delete(ids[:100])
    collection.put([Item(ids[200], codes[100].tobytes(), {"text": "é"})])
    now_ids = ids[100:200] + ids[201:] + [ids[200]]
    now = np.concatenate([codes[100:200], codes[201:], codes[100:101]])
    pairs, groups = expected(now_ids, now, radius)
    result, lines = result_of(spec(path, radius))
    assert (result["pairs"], result["items"], result["groups_total"]) == (pairs, 1100, len(groups))
    assert sorted(sorted(line["ids"]) for line in lines) == sorted(sorted(group) for group in groups)
    assert [line["size"] for line in lines] == sorted((len(group) for group in groups), reverse=True)
    assert all(line["size"] == len(line["ids"]) for line in lines)
    order = {id: place for place, id in enumerate(now_ids)}
    assert all(line["ids"] == sorted(line["ids"], key=order.__getitem__) for line in lines), "the first stored first"
    assert result["items_in_groups"] == sum(map(len, groups))
    assert (result["groups"], result["complete"]) == ([{**line, "complete": True} for line in lines], True)
    catalogue.close()


def test_the_result_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where groups are named in parts, one of them larger than a part."""
    monkeypatch.setattr(wholes, "_NAMED", 7)
    codes = np.zeros((60, 8), np.uint8)
    codes[30:, 0] = 255
    codes[50:, 1:] = np.random.default_rng(0).integers(0, 256, (10, 7))
    ids = [f"i{place:02d}" for place in range(60)]
    catalogue, path = store(tmp_path, codes, ids)
    result, lines = result_of(spec(path, 0))
    assert [line["ids"] for line in lines] == [ids[:30], ids[30:50]]
    assert (result["groups_total"], result["largest"], result["complete"]) == (2, 30, True)
    result, _ = result_of(spec(path, 0, max_groups=1))
    assert (len(result["groups"]), result["groups_total"], result["complete"]) == (1, 2, False)
    result, _ = result_of(spec(path, 0, max_ids=35))
    assert [(group["size"], group["ids"], group["complete"]) for group in result["groups"]] == [
        (30, ids[:30], True),
        (20, ids[30:35], False),
    ]
    assert not result["complete"]
    result, lines = result_of(spec(path, 0, max_groups=0))
    assert (result["groups"], len(lines)) == ([], 2)
    catalogue.close()


def test_what_is_gone_before_it_is_named_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.repeat(np.arange(40, dtype=np.uint8) * 6, 3)[:, None].repeat(8, axis=1)
    ids = [f"i{place:03d}" for place in range(120)]
    catalogue, path = store(tmp_path, codes, ids)
    read = wholes.Whole.read

    def and_then(cls: Any, at: Path) -> Any:
        found = read(at)
        catalogue.get("c").delete([ids[0], ids[3], ids[4], ids[6], ids[7], ids[8]])
        return found

    monkeypatch.setattr(wholes.Whole, "read", classmethod(and_then))
    monkeypatch.setattr(wholes, "_NAMED", 2)
    result, lines = result_of(spec(path, 0))
    assert lines[0]["ids"] == ids[1:3]
    assert lines[1]["ids"] == ids[9:12]
    assert (result["groups_total"], result["items_in_groups"]) == (38, 37 * 3 + 2)
    catalogue.close()


def test_an_empty_collection_has_no_groups(tmp_path: Path) -> None:
    catalogue, path = store(tmp_path, np.zeros((0, 8), np.uint8), [])
    result, lines = result_of(spec(path, 3))
    assert (result["groups_total"], result["pairs"], result["groups"], result["complete"], lines) == (
        0,
        0,
        [],
        True,
        [],
    )
    catalogue.close()


# -- through the service -------------------------------------------------------------------------------------------


def find(client: TestClient, collection: str = "codes", **body: Any) -> Any:
    return client.post(f"/collections/{collection}/duplicates", json={"radius": 2, **body})


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    """A client of a service with 900 codes in `codes`."""
    client.post("/collections", json={"name": "codes", "bits": 64})
    items = [{"id": f"i{place}", "code": code.tobytes().hex()} for place, code in enumerate(clustered(900))]
    assert client.post("/ingest", json={"collection": "codes", "items": items}).status_code == 200
    return client


def test_a_job_from_beginning_to_end(filled: TestClient) -> None:
    """Its groups; that the next job takes their place; that they go with the collection; that a search goes on."""
    reply = find(filled)
    assert reply.status_code == 202
    job = reply.json()
    assert (job["kind"], job["state"]) == ("duplicates", "queued")
    assert filled.post("/search", json={"collection": "codes", "query": {"id": "i0"}}).status_code == 200
    done = wait(filled, job["id"], "succeeded", "failed")
    assert done["state"] == "succeeded", done
    assert done["progress"]["done"] == 1
    pairs, groups = expected([f"i{place}" for place in range(900)], clustered(900), 2)
    assert (done["result"]["pairs"], done["result"]["groups_total"]) == (pairs, len(groups))
    url = f"/jobs/{job['id']}/groups"
    whole = filled.get(url)
    assert whole.headers["content-type"] == "application/x-ndjson"
    lines = whole.text.splitlines()
    assert [set(json.loads(line)["ids"]) for line in lines[:100]] == [
        set(group["ids"]) for group in done["result"]["groups"]
    ]
    assert sorted(map(sorted, groups)) == sorted(sorted(json.loads(line)["ids"]) for line in lines)
    assert filled.get(url, params={"start": 2, "limit": 3}).text.splitlines() == lines[2:5]
    assert filled.get(url, params={"start": len(lines)}).text == ""
    second = find(filled, radius=0, max_groups=0).json()["id"]
    assert wait(filled, second, "succeeded")["result"]["groups"] == []
    assert "took their place" in assert_problem(filled.get(url), 404, "no-groups")["detail"]
    assert filled.get(f"/jobs/{second}/groups").status_code == 200
    filled.delete("/collections/codes")
    assert_problem(filled.get(f"/jobs/{second}/groups"), 404, "no-groups")


@pytest.mark.parametrize(
    ("collection", "body", "status", "words"),
    [
        ("codes", {"radius": 65}, 422, "0 to 64"),
        ("codes", {"radius": -1}, 422, ""),
        ("codes", {"max_groups": 1001}, 422, "max_groups"),
        ("nobody", {}, 404, "nobody"),
    ],
)
def test_what_is_refused(filled: TestClient, collection: str, body: Any, status: int, words: str) -> None:
    assert words in assert_problem(find(filled, collection, **body), status)["detail"]
    assert filled.get("/jobs").json()["jobs"] == []
    assert_problem(filled.get("/jobs/nobody/groups"), 404, "unknown-job")


def test_a_job_that_is_cancelled_leaves_nothing(filled: TestClient, data_dir: Path) -> None:
    """Cancelled while it waits, while it runs, and left half-written by a service that was killed."""
    engine = filled.app.state.engine  # type: ignore[attr-defined]
    rng = np.random.default_rng(3)
    engine.catalogue.get("codes").put_codes(
        [f"m{place}" for place in range(300_000)], rng.integers(0, 256, (300_000, 8)).astype(np.uint8)
    )
    running, waiting = find(filled, radius=20).json()["id"], find(filled).json()["id"]
    deadline = time.monotonic() + 60
    while not filled.get(f"/jobs/{running}").json()["progress"] and time.monotonic() < deadline:
        time.sleep(0.05)
    for id in (waiting, running):
        assert filled.delete(f"/jobs/{id}").json()["state"] == "cancelled"
    problem = assert_problem(filled.get(f"/jobs/{running}/groups"), 404, "no-groups")
    assert "cancelled" in problem["detail"]
    last = find(filled, radius=0).json()["id"]
    assert wait(filled, last, "succeeded", "failed")["state"] == "succeeded"
    folder = data_dir / "collections" / "codes"
    assert [path.name for path in folder.glob("groups-*")] == [f"groups-{last}.ndjson"]


def test_what_a_killed_service_left_half_written_is_removed(data_dir: Path) -> None:
    half = data_dir / "collections" / "digits" / "groups-killed.new"
    half.write_text("{")
    with TestClient(create_app(Settings(data_dir=data_dir))) as client:
        assert not half.exists()
        assert client.get("/collections").json()["damaged"] == []
