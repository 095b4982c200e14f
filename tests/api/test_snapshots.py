"""Snapshots: one file, on another machine, with the same answers; and nothing at all where a byte of it is wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import shutil
import sqlite3
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, png

from index.catalogue import STORE_FILE
from models.data import Dataset
from service import archive, manifest
from service.app import create_app
from service.engine import key_of
from service.errors import SnapshotRefused
from service.settings import Settings
from service.training import Training, train

TAR = {"content-type": "application/x-tar"}


def client_of(root: Path, **settings: Any) -> TestClient:
    return TestClient(create_app(Settings(data_dir=root, **settings)), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def source(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The machine that snapshots are made on."""
    root = shutil.copytree(prepared, tmp_path_factory.mktemp("source") / "data")
    with client_of(Path(root)) as client:
        assert client.post("/collections/digits/indexes", json={"field": "label"}).is_success
        yield client


@pytest.fixture(scope="module")
def made(source: TestClient) -> tuple[dict[str, Any], bytes]:
    """A snapshot of digits: what was said of it, and the file."""
    reply = source.post("/collections/digits/snapshots", params={"name": "before"})
    assert reply.status_code == 201, reply.text
    file = source.get("/collections/digits/snapshots/before")
    assert file.status_code == 200
    return reply.json(), file.content


@pytest.fixture
def other(tmp_path: Path) -> Iterator[TestClient]:
    """Another machine, with nothing on it."""
    with client_of(tmp_path / "other") as client:
        yield client


def upload(client: TestClient, data: bytes, **params: Any) -> Any:
    return client.post("/snapshots/restore", params=params, content=data, headers=TAR)


def untouched(client: TestClient) -> bool:
    """Whether there is nothing on it: to be seen, or left lying about."""
    root = client.app.state.engine.settings.data_dir  # type: ignore[attr-defined]
    left = [str(path.relative_to(root)) for path in root.rglob("*")]
    seen = client.get("/collections").json()["collections"] + client.get("/models").json()["models"]
    return not seen and set(left) <= {"collections", "models", "lock", "jobs.db", "jobs.db-wal", "jobs.db-shm"}


def answers(client: TestClient, name: str, *, cursors: bool = True) -> list[Any]:
    """What a collection says, in every way of asking. cursors: they are good for the collection of one name only."""
    image = png(np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4)
    searches: list[dict[str, Any]] = [
        {"query": {"id": "digit-0006"}, "k": 20},
        {"query": {"image": image}, "k": 7, "radius": 30},
        {"query": {"image": image}, "radius": 24, "limit": 10},
        {"query": {"image": image}, "k": 15, "rerank": "soft"},
        {"query": {"id": "digit-0006"}, "k": 10, "filter": {"label": {"$in": [3, "3", 5, "5"]}}},
        {"query": {"code": "00" * 8}, "radius": 64, "count_only": True},
    ]
    found: list[Any] = []
    for search in searches:
        cursor = None
        while True:
            body = {"collection": name, "include": ["payload", "code"], **search}
            reply = client.post("/search", json=body if cursor is None else {**body, "cursor": cursor})
            assert reply.status_code == 200, reply.text
            part = reply.json()
            found.append([part[field] for field in ("model", "code", "hits", "total", "complete")])
            cursor = part["cursor"]
            found.append(cursor if cursors else None)
            if cursor is None:
                break
    info = client.get(f"/collections/{name}").json()
    items = client.get(f"/collections/{name}/items", params={"limit": 1000, "include": "input"}).json()
    return [
        found,
        {key: info[key] for key in ("bits", "model", "items", "keep_inputs", "created_at", "indexes")},
        items,
    ]


def test_a_snapshot_answers_on_another_machine_as_here(
    source: TestClient, made: tuple[dict[str, Any], bytes], other: TestClient
) -> None:
    said, data = made
    assert said["checksum"] == hashlib.sha256(data).hexdigest()
    assert (said["name"], said["size"], said["items"]) == ("before", len(data), 300)
    assert said["model"] == source.get("/collections/digits").json()["model"]
    reply = upload(other, data)
    assert reply.status_code == 201, reply.text
    body = reply.json()
    assert [one["name"] for one in body["collections"]] == ["digits"]
    assert body["replaced"] == []
    assert body["models"] == [{**said["model"], "added": True, "archived_as": "digits-hash:1"}]
    assert answers(other, "digits") == answers(source, "digits")
    card = other.get("/models/digits-hash").json()
    assert card == source.get("/models/digits-hash").json()
    # It lives on: written to, snapshotted again, the model in use.
    item = {"id": "new", "code": "12" * 8}
    assert other.post("/ingest", json={"collection": "digits", "items": [item]}).json()["created"] == 1
    assert_problem(other.delete("/models/digits-hash:1"), 409, "in-use")
    assert other.app.state.engine.catalogue.get("digits").check().faults == ()  # type: ignore[attr-defined]
    assert other.post("/collections/digits/snapshots").json()["items"] == 301


def test_a_calibration_comes_along(client: TestClient, other: TestClient) -> None:
    """What a radius means is kept with the collection, and so `target_precision` finds there what it finds here."""
    job = client.post("/collections/digits/calibrate", json={"by": "labels", "queries": 100}).json()
    deadline = time.monotonic() + 60
    while (now := client.get(f"/jobs/{job['id']}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert now["state"] == "succeeded", now
    client.post("/collections/digits/snapshots", params={"name": "x"})
    assert upload(other, client.get("/collections/digits/snapshots/x").content).status_code == 201
    url = "/collections/digits/calibration"
    curve = client.get(url).json()
    assert other.get(url).json() == curve
    best = max(row["precision_low"] or 0 for row in curve["curve"])
    search = {"collection": "digits", "query": {"id": "digit-0006"}, "target_precision": best * 0.9}
    here, there = (one.post("/search", json=search) for one in (client, other))
    assert (here.status_code, here.json()["hits"]) == (200, there.json()["hits"])


def test_what_was_restored_is_there_after_a_restart(made: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    with client_of(tmp_path / "data") as client:
        assert upload(client, made[1], collection="copy").status_code == 201
        before = answers(client, "copy")
    with client_of(tmp_path / "data") as client:
        assert answers(client, "copy") == before


def test_the_file_is_a_tar_that_says_what_is_in_it(made: tuple[dict[str, Any], bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(made[1])) as tar:
        names = tar.getnames()
        found = tar.extractfile("manifest.json")
        assert found is not None
        said = json.load(found)
        for member in said["members"]:
            content = tar.extractfile(member["name"])
            assert content is not None
            data = content.read()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (member["size"], member["sha256"])
    mark = said["models"][0]["fingerprint"]
    assert names[:2] == ["manifest.json", "collections/digits/items.db"]
    assert names[2:] == [f"models/{mark}/{name}" for name in said["models"][0]["files"]]
    assert {"config.json", "model.safetensors", "checksums.json"} <= set(said["models"][0]["files"])
    assert said["format"] == 1


def test_listing_fetching_deleting(source: TestClient, made: tuple[dict[str, Any], bytes]) -> None:
    said, data = made
    url = "/collections/digits/snapshots"
    second = source.post(url).json()
    listed = source.get(url).json()
    assert listed == {"snapshots": [second, said], "damaged": []}
    file = source.get(f"{url}/before")
    assert file.headers["content-type"] == "application/x-tar"
    assert file.headers["content-disposition"] == 'attachment; filename="digits-before.tar"'
    digest = base64.b64encode(bytes.fromhex(said["checksum"])).decode()
    assert file.headers["repr-digest"] == f"sha-256=:{digest}:"
    part = source.get(f"{url}/before", headers={"range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, data[100:300])
    assert_problem(source.post(url, params={"name": "before"}), 409, "snapshot-exists")
    assert source.delete(f"{url}/{second['name']}").status_code == 204
    assert source.get(url).json()["snapshots"] == [said]
    assert_problem(source.get(f"{url}/{second['name']}"), 404, "unknown-snapshot")
    assert_problem(source.delete(f"{url}/{second['name']}"), 404, "unknown-snapshot")
    assert_problem(source.post("/collections/nobody/snapshots"), 404, "unknown-collection")
    assert_problem(source.get("/collections/nobody/snapshots"), 404, "unknown-collection")
    for name in ("..", "%2e%2e%2fdigits%2fbefore", "A", "", "x" * 64, "a%00"):  # H9
        assert source.get(f"{url}/{name}").status_code in (200, 307, 404)
        assert source.post(url, params={"name": name}).status_code in (201, 422)


def test_a_collection_comes_back_after_it_was_deleted(client: TestClient) -> None:
    before, bare = answers(client, "digits"), answers(client, "digits", cursors=False)
    assert client.post("/collections/digits/snapshots", params={"name": "last"}).status_code == 201
    assert_problem(client.post("/collections/digits/restore", json={"snapshot": "last"}), 409, "collection-exists")
    assert client.delete("/collections/digits").status_code == 204
    assert client.delete("/models/digits-hash").status_code == 204
    assert [one["name"] for one in client.get("/collections/digits/snapshots").json()["snapshots"]] == ["last"]
    reply = client.post("/collections/digits/restore", json={"snapshot": "last"})
    assert reply.status_code == 201, reply.text
    assert answers(client, "digits") == before
    second = client.post("/collections/twin/restore", json={"snapshot": "last", "source": "digits"})
    assert second.json()["models"][0]["added"] is False
    assert answers(client, "twin", cursors=False) == bare
    assert_problem(client.post("/collections/twin/restore", json={"snapshot": "last"}), 404, "unknown-snapshot")


def test_a_number_that_is_taken_by_another_model(
    made: tuple[dict[str, Any], bytes], prepared: Path, tmp_path: Path
) -> None:
    """The model comes in as the next version of its name; the collection knows it by that."""
    root = tmp_path / "data"
    shutil.copytree(prepared / "models" / "digits-vae", root / "models" / "digits-hash")
    with client_of(root) as client:
        taken = client.get("/models/digits-hash:1").json()["fingerprint"]
        model = upload(client, made[1]).json()["models"][0]
        assert (model["version"], model["archived_as"], model["added"]) == (2, "digits-hash:1", True)
        assert client.get("/models/digits-hash:1").json()["fingerprint"] == taken
        assert client.get("/collections/digits").json()["model"] == {
            "name": "digits-hash",
            "version": 2,
            "fingerprint": made[0]["model"]["fingerprint"],
        }
        image = {"image": png(np.zeros((8, 8, 1), np.uint8))}
        assert client.post("/search", json={"collection": "digits", "query": image}).json()["total"] == 10


def test_aliases_come_along_where_they_are_free(client: TestClient, other: TestClient) -> None:
    for alias in ("champion", "kept"):
        client.put(f"/models/digits-hash/aliases/{alias}", json={"version": 1})
    name = client.post("/collections/digits/snapshots").json()["name"]
    data = client.get(f"/collections/digits/snapshots/{name}").content
    assert upload(other, data).status_code == 201
    assert other.get("/models/digits-hash@kept").json()["aliases"] == ["champion", "kept"]


def test_a_collection_without_a_model(client: TestClient, other: TestClient) -> None:
    client.post("/collections", json={"name": "bare", "bits": 128})
    items = [{"id": f"i{n}", "code": f"{n:032x}", "payload": {"n": n}} for n in range(50)]
    client.post("/ingest", json={"collection": "bare", "items": items})
    said = client.post("/collections/bare/snapshots", params={"name": "x"}).json()
    assert said["model"] is None
    assert upload(other, client.get("/collections/bare/snapshots/x").content).json()["models"] == []
    search = {"collection": "bare", "query": {"code": "0" * 32}, "radius": 3, "include": ["payload"]}
    assert other.post("/search", json=search).json()["hits"] == client.post("/search", json=search).json()["hits"]


# -- beside everything else --------------------------------------------------------------------------------------------


def test_a_snapshot_made_beside_writers_is_one_committed_state(client: TestClient, other: TestClient) -> None:
    """Every batch puts the same number into both of two items; no snapshot may hold two different ones."""
    client.post("/collections", json={"name": "pairs", "bits": 64})
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            items = [{"id": id, "code": f"{number:016x}", "payload": {"n": number}} for id in ("a", "b")]
            more = [{"id": f"m{number}-{n}", "code": f"{n:016x}"} for n in range(20)]
            assert client.post("/ingest", json={"collection": "pairs", "items": items + more}).is_success

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        for number in range(4):
            time.sleep(0.05)
            said = client.post("/collections/pairs/snapshots", params={"name": f"s{number}"}).json()
            data = client.get(f"/collections/pairs/snapshots/s{number}").content
            assert upload(other, data, collection=f"pairs{number}").status_code == 201
            items = other.get(f"/collections/pairs{number}/items", params={"limit": 2}).json()["items"]
            first, second = (item["payload"]["n"] for item in items)
            assert first == second
            assert other.get(f"/collections/pairs{number}").json()["items"] == 2 + 20 * first == said["items"]
            seen.add(first)
        assert len(seen) == 4
    finally:
        stop.set()
        writer.join()


def test_replacing_swaps_under_load(client: TestClient) -> None:
    """Searches and writes go on all the while: 2xx only, each answer wholly from before or wholly from after."""
    client.post("/collections", json={"name": "swap", "bits": 64})

    def items(payload: str) -> list[dict[str, Any]]:
        return [{"id": f"i{n}", "code": f"{n:016x}", "payload": {"of": payload}} for n in range(40)]

    client.post("/ingest", json={"collection": "swap", "items": items("old")})
    client.post("/collections/swap/snapshots", params={"name": "old"})
    client.post("/ingest", json={"collection": "swap", "items": items("new")})
    stop, states, failures = threading.Event(), [], []

    def search() -> None:
        while not stop.is_set():
            body = {"collection": "swap", "query": {"code": "0" * 16}, "k": 40, "include": ["payload"]}
            reply = client.post("/search", json=body)
            if reply.status_code != 200:
                failures.append(reply.text)
                return
            states.append("".join(sorted({hit["payload"]["of"] for hit in reply.json()["hits"]})))

    def write() -> None:
        while not stop.is_set():
            reply = client.post("/ingest", json={"collection": "swap", "items": [{"id": "far", "code": "f" * 16}]})
            if reply.status_code != 200:
                failures.append(reply.text)

    threads = [threading.Thread(target=target) for target in (search, search, write)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    reply = client.post("/collections/swap/restore", json={"snapshot": "old", "replace": True})
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert reply.status_code == 201, reply.text
    assert reply.json()["replaced"] == ["swap"]
    assert failures == []
    assert set(states) == {"new", "old"}
    assert states.index("old") > 0
    collection = client.app.state.engine.catalogue.get("swap")  # type: ignore[attr-defined]
    assert collection.check().faults == ()
    folder = client.app.state.engine.settings.data_dir / "collections"  # type: ignore[attr-defined]
    assert [path.name for path in folder.glob(".*")] == []


def test_one_at_a_time(client: TestClient) -> None:
    with client.app.state.engine.snapshots.alone():  # type: ignore[attr-defined]
        for reply in (client.post("/collections/digits/snapshots"), upload(client, b"x")):
            assert_problem(reply, 429, "overloaded")
            assert reply.headers["retry-after"]


# -- what is not right -------------------------------------------------------------------------------------------------


def attempt(client: TestClient, data: bytes) -> str:
    """What the refusal of `data` says; it must leave nothing."""
    detail: str = assert_problem(upload(client, data), 422, "snapshot-refused")["detail"]
    assert untouched(client)
    return detail


def places(data: bytes) -> list[tuple[int, str]]:
    """A place in each part of the file, and what a refusal must name where a byte there is wrong."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar.getmembers():
            start, end = member.offset_data, member.offset_data + member.size
            found += [(start - 512 + at, member.name) for at in (0, 100, 124, 140, 148, 156, 157, 257, 345, 511)]
            found += [(at, member.name) for at in (start, (start + end) // 2, end - 1)]
            found += [(end, member.name)] if end % 512 else []
        found += [(end + (-end % 512), "follows the last member"), (len(data) - 1, "follows the last member")]
    return found


def test_any_byte_that_is_wrong_is_found_and_nothing_is_left(
    made: tuple[dict[str, Any], bytes], other: TestClient
) -> None:
    """F4: a flipped byte in a header, a member, what fills up a block, the end: refused, naming the member."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201
    rng = random.Random(seed)
    data = made[1]
    cases = places(data) + [(rng.randrange(len(data)), "") for _ in range(20)]
    for place, name in cases:
        damaged = bytearray(data)
        damaged[place] ^= rng.randrange(1, 256)
        assert name in attempt(other, bytes(damaged)), place
    assert upload(other, data).status_code == 201


def test_a_file_that_is_cut_or_goes_on(made: tuple[dict[str, Any], bytes], other: TestClient) -> None:
    """F4"""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201
    data = made[1]
    cuts = [0, 1, 511, 512, 513, len(data) - 1, len(data) - 512, len(data) - 1024]
    for cut in cuts + [random.Random(seed).randrange(len(data)) for _ in range(8)]:
        assert "the file ends" in attempt(other, data[:cut])
    for more in (b"\0", b"x", bytes(512), data):
        assert "follows the last member" in attempt(other, data + more)
    assert "manifest" in attempt(other, data[512:])


def rewritten(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The archive with another manifest, sealed as it should be, and the same members."""
    reading = io.BytesIO(data)
    said = archive.Reading(reading).manifest.model_dump()
    rest = data[reading.tell() :]
    change(said)
    text = manifest._sealed(said)
    return archive._header("manifest.json", len(text)) + text + bytes(-len(text) % 512) + rest


def _put(*path: Any) -> Callable[[dict[str, Any]], None]:
    *parents, last, value = path

    def change(said: Any) -> None:
        for part in parents:
            said = said[part]
        if last == "append":
            said.append(value)
        else:
            said[last] = value

    return change


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "newer": (_put("format", 2), "format 2, this program reads 1"),
    "another name for a member": (_put("members", 0, "name", "../../evil"), "members"),
    "absolute": (_put("members", 0, "name", "/etc/passwd"), "members"),
    "extra": (_put("members", "append", {"name": "x", "size": 1, "sha256": "0" * 64}), "members"),
    "huge": (_put("members", 0, "size", 2**62), ""),
    "negative": (_put("members", 0, "size", -1), "size"),
    "smaller": (_put("members", 0, "size", 4096), "collections/digits/items.db"),
    "a number of another type": (_put("members", 0, "size", True), "size"),
    "a name that climbs": (_put("collections", 0, "name", "../x"), "name"),
    "more items": (_put("collections", 0, "items", 301), "does not hold what the manifest says"),
    "another sequence": (_put("collections", 0, "sequence", 77), "does not hold what the manifest says"),
    "no model": (_put("collections", 0, "models", []), "does not hold what the manifest says"),
    "a model that is not there": (_put("collections", 0, "models", ["0" * 64]), "missing"),
    "a model's name": (_put("models", 0, "name", ".."), "name"),
    "a file of another kind": (_put("models", 0, "files", "append", "weights.pkl"), "members"),
    "a file that climbs": (_put("models", 0, "files", 0, "../../config.json"), "members"),
    "a file less": (_put("models", 0, "files", []), "members"),
    "a version": (_put("models", 0, "version", 0), "version"),
    "unknown field": (_put("extra", 1), "unknown field"),
    "too deep": (_put("models", 0, "aliases", [[[]]]), "aliases"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_cannot_be_meant(made: tuple[dict[str, Any], bytes], other: TestClient, case: str) -> None:
    change, said = MANIFESTS[case]
    data = rewritten(made[1], change)
    if case == "huge":
        assert_problem(upload(other, data), 413, "too-large")
        assert_problem(upload(other, rewritten(made[1], _put("members", 0, "size", 200 << 30))), 507, "disk-full")
        assert untouched(other)
    else:
        assert said in attempt(other, data)


def test_members_that_no_snapshot_has(made: tuple[dict[str, Any], bytes], other: TestClient, tmp_path: Path) -> None:
    """Links, devices, folders, extended headers, the same twice, another order: nothing of it is looked at."""
    with tarfile.open(fileobj=io.BytesIO(made[1])) as tar:
        kept = [(member, tar.extractfile(member).read()) for member in tar.getmembers()]  # type: ignore[union-attr]

    def packed(place: int, info: tarfile.TarInfo, content: bytes = b"", format: int = tarfile.GNU_FORMAT) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
            for number, (member, data) in enumerate(kept):
                if number == place:
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                tar.addfile(member, io.BytesIO(data))
        return buffer.getvalue()

    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"Z"):
        for name in ("collections/digits/items.db", "../out", "/tmp/out", "manifest.json"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            for place in (0, 1):
                attempt(other, packed(place, info))
    long = tarfile.TarInfo("x" * 5000)
    assert "manifest" in attempt(other, packed(0, long, b"x"))
    assert "manifest" in attempt(other, packed(0, long, b"x", tarfile.PAX_FORMAT))
    assert "a file called 'collections/digits/items.db'" in attempt(other, packed(2, kept[1][0], kept[1][1]))
    assert not Path("/tmp/out").exists()
    # A header that states eight exabytes; nothing is set aside for them.
    giant = archive._header("manifest.json", 2**62)
    assert "at most" in attempt(other, giant + made[1][512:])
    negative = archive._header("manifest.json", -512)
    assert "does not begin with" in attempt(other, negative + made[1][512:])


def with_store(data: bytes, tmp_path: Path, *statements: str, version: int | None = None) -> bytes:
    """The archive with its store changed by SQL, everything sealed as it should be."""
    said = archive.Reading(io.BytesIO(data)).manifest
    folder = tmp_path / f"forged-{os.urandom(4).hex()}"
    folder.mkdir()
    places = {member.name: folder / str(place) for place, member in enumerate(said.members)}
    archive.Reading(source := io.BytesIO(data)).extract(places)
    assert not source.read()
    store = places["collections/digits/items.db"]
    with closing(sqlite3.connect(store, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            db.execute(statement)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    members = [archive.member_of(member.name, places[member.name]) for member in said.members]
    target = folder / "forged.tar"
    archive.write(target, said.model_copy(update={"members": members}), list(places.values()))
    return target.read_bytes()


FORGED = {
    "trigger": ("CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; END", "schema"),
    "view": ("CREATE VIEW v AS SELECT 1", "schema"),
    "table": ("CREATE TABLE more (x)", "schema"),
    "virtual": ("CREATE VIRTUAL TABLE f USING fts5(x)", "schema"),
    "index": ("CREATE INDEX hidden ON items (payload)", "schema"),
    "lost index": ("DROP INDEX field_6c6162656c_equal", "schema"),
    "schema": ("UPDATE sqlite_schema SET sql = replace(sql, 'UNIQUE', '') WHERE name = 'items'", ""),
    "code": ("UPDATE items SET code = zeroblob(8) WHERE id = 'digit-0000'", "not what was written"),
    "width": ("UPDATE items SET code = zeroblob(4) WHERE id = 'digit-0000'", "not what was written"),
    "payload": ("UPDATE items SET payload = '{}' WHERE id = 'digit-0000'", "not what was written"),
    "input": ("UPDATE items SET input = x'00' WHERE id = 'digit-0000'", ""),
    "lost": ("DELETE FROM items WHERE id = 'digit-0000'", "300 items were stored"),
    "state": ("DELETE FROM state", "lost its state"),
    "settings": ("DELETE FROM meta WHERE name = 'keep_inputs'", "settings"),
    "newer": ("PRAGMA user_version = 99", "schema version 99"),
    "other application": ("PRAGMA application_id = 1", "not written by Hammingbird"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_store_that_is_forged(
    made: tuple[dict[str, Any], bytes], other: TestClient, tmp_path: Path, case: str
) -> None:
    """Its checksums are right, so what is in it has to be looked at; and its schema before that."""
    statement, said = FORGED[case]
    detail = attempt(other, with_store(made[1], tmp_path, statement))
    assert "collections/digits/items.db" in detail
    assert said in detail


def test_an_input_that_unpacks_to_more_than_could_have_come_in(
    made: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    import zlib

    bomb = zlib.compress(bytes(50 << 20), 9)
    data = with_store(made[1], tmp_path, f"UPDATE items SET input = x'{bomb.hex()}' WHERE id = 'digit-0000'")
    with client_of(tmp_path / "data", max_body_bytes=1 << 20) as client:
        assert "larger than 1,048,576 bytes (max_body_bytes)" in attempt(client, data)


def test_an_upload_beyond_its_limit(made: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    """H4: by what is declared, by what the file says of itself; the ordinary limit of a body does not hold for it."""
    data = made[1]
    with client_of(tmp_path / "small", max_snapshot_bytes=len(data) - 1) as client:
        assert "max_snapshot_bytes" in assert_problem(upload(client, data), 413, "too-large")["detail"]
        parts = [data[start : start + 10_000] for start in range(0, len(data), 10_000)]
        chunked = client.post("/snapshots/restore", content=iter(parts), headers=TAR)
        assert "max_snapshot_bytes" in assert_problem(chunked, 413, "too-large")["detail"]
        assert untouched(client)
    with client_of(tmp_path / "exact", max_snapshot_bytes=len(data), max_body_bytes=65_536) as client:
        assert client.post("/snapshots/restore", content=iter(parts), headers=TAR).status_code == 201
        assert_problem(client.post("/snapshots/restore", content=data, headers={"content-type": "text/plain"}), 413)
        assert_problem(client.post("/snapshots/restore", content=b"x", headers={"content-type": "text/plain"}), 415)


def test_a_failure_while_it_is_published_takes_back_the_model(
    made: tuple[dict[str, Any], bytes], other: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(other.app.state.engine.catalogue), "adopt", fail)  # type: ignore[attr-defined]
    assert_problem(upload(other, made[1]), 507, "disk-full")
    assert other.get("/models").json()["models"] == []
    assert other.get("/collections").json()["collections"] == []
    monkeypatch.undo()
    assert upload(other, made[1]).json()["models"][0]["version"] == 1


def test_a_damaged_snapshot_is_listed_as_such(client: TestClient) -> None:
    said = client.post("/collections/digits/snapshots", params={"name": "hurt"}).json()
    path = client.app.state.engine.snapshots.get("digits", "hurt")  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    listed = client.get("/collections/digits/snapshots").json()
    assert listed["snapshots"] == []
    assert [one["name"] for one in listed["damaged"]] == ["hurt"]
    reply = client.post("/collections/back/restore", json={"snapshot": "hurt", "source": "digits"})
    assert "manifest.json" in assert_problem(reply, 422, "snapshot-refused")["detail"]
    assert said["name"] == "hurt"


def test_a_collection_that_is_damaged_makes_no_snapshot(data_dir: Path) -> None:
    """Promise 5: a copy of damage is not a snapshot; and the snapshot from before mends it."""
    with client_of(data_dir) as client:
        client.post("/collections/digits/snapshots", params={"name": "sound"})
        before = answers(client, "digits")
    store = data_dir / "collections" / "digits" / STORE_FILE
    with closing(sqlite3.connect(store)) as db:
        db.execute("UPDATE items SET payload = '{\"label\": 0}' WHERE id = 'digit-0006'")
        db.commit()
    with client_of(data_dir) as client:
        assert_problem(client.post("/collections/digits/snapshots"), 503, "store-damaged")
        assert len(list((data_dir / "snapshots" / "digits").iterdir())) == 2
        reply = client.post("/collections/digits/restore", json={"snapshot": "sound", "replace": True})
        assert reply.json()["replaced"] == ["digits"]
        assert answers(client, "digits") == before
    with closing(sqlite3.connect(store)) as db:
        db.execute("DELETE FROM state")
        db.commit()
    with client_of(data_dir) as client:
        assert client.get("/collections").json()["damaged"][0]["name"] == "digits"
        body = {"snapshot": "sound"}
        assert_problem(client.post("/collections/digits/restore", json=body), 409, "collection-exists")
        assert client.post("/collections/digits/restore", json={**body, "replace": True}).status_code == 201
        assert answers(client, "digits") == before


def test_reading_takes_its_parts_as_they_come(made: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    """A source may give fewer bytes than it is asked for, and is never asked for more than is set aside."""

    class Drops:
        def __init__(self) -> None:
            self.file = io.BytesIO(made[1])

        def read(self, size: int, /) -> bytes:
            assert 0 < size <= 1 << 20
            return self.file.read(min(size, 777))

    archive.Reading(Drops()).extract({})
    with pytest.raises(SnapshotRefused):
        archive.Reading(io.BytesIO(b"")).extract({})


def test_the_codes_of_two_models(client: TestClient, other: TestClient, datasets: dict[str, Dataset]) -> None:
    """A collection that keeps an earlier model's codes takes both along, and can go back where it is restored."""
    engine = client.app.state.engine  # type: ignore[attr-defined]
    collection = engine.catalogue.get("vectors")
    draft = engine.registry.draft("vectors-lsh")
    for _ in train(Training("vectors-lsh", "lsh", 64, {}), datasets["vectors"], draft):
        pass
    entry = engine.registry.add("vectors-lsh", draft)
    old = collection.generations.all()[0]
    new = collection.generations.begin(key_of(entry), 64)
    items = {item.id: item for item in collection.scan()}
    vectors = {id: np.frombuffer(item.input, "<f4") for id, item in items.items()}
    with collection._live.state() as (reader, _):
        keys = dict(reader.db.execute("SELECT id, key FROM items").fetchall())
    codes = engine.encode(engine.registry.load(entry), list(vectors.values()))
    half = client.post("/collections/vectors/snapshots", params={"name": "half"}).json()
    assert half["model"]["name"] == "vectors-itq"
    assert collection.generations.fill(new.number, [keys[id] for id in vectors], codes) == 300
    collection.generations.flip(new.number)
    made = client.post("/collections/vectors/snapshots", params={"name": "both"}).json()
    assert made["model"]["name"] == "vectors-lsh"
    reply = upload(other, client.get("/collections/vectors/snapshots/both").content).json()
    assert [model["name"] for model in reply["models"]] == ["vectors-lsh", "vectors-itq"]
    search = {"collection": "vectors", "query": {"id": "v7"}, "k": 9}
    assert other.post("/search", json=search).json()["hits"] == client.post("/search", json=search).json()["hits"]
    for engine in (client.app.state.engine, other.app.state.engine):  # type: ignore[attr-defined]
        engine.catalogue.get("vectors").generations.flip(old.number)
        assert engine.catalogue.get("vectors").check().faults == ()
    assert other.post("/search", json=search).json()["hits"] == client.post("/search", json=search).json()["hits"]
    # A second model that has not made all of its codes yet is left out.
    reply = upload(other, client.get("/collections/vectors/snapshots/half").content, collection="half").json()
    assert [model["name"] for model in reply["models"]] == ["vectors-itq"]
    assert other.app.state.engine.catalogue.get("half").check().faults == ()  # type: ignore[attr-defined]
