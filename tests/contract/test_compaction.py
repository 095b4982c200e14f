"""Compacting leaves nothing on disk of what was deleted, and keeps everything else."""

from __future__ import annotations

import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collecting import COPY, assert_holds, by_id, make, opened, some, uses_its_copy

from index import (
    EmbeddedCollection,
    Item,
    sidecar,
    store,
)
from index.errors import StoreBusy, StoreFull


class Secrets:
    """Items of which every part can be recognised on disk, some of them deleted or replaced."""

    def __init__(self, collection: EmbeddedCollection) -> None:
        rng = np.random.default_rng(13)
        items = [
            Item(rng.bytes(16).hex(), rng.bytes(32), {"word": rng.bytes(16).hex(), "n": n}, "text", rng.bytes(100))
            for n in range(200)
        ]
        codes = {rng.bytes(16).hex(): rng.bytes(32) for _ in range(200)}
        collection.index_field("word")
        collection.put(items)
        collection.put_codes(list(codes), np.frombuffer(b"".join(codes.values()), np.uint8).reshape(-1, 32))
        collection.merge()
        replaced = [Item(item.id, rng.bytes(32), {"n": item.payload["n"]}) for item in items[150:]]
        collection.put(replaced)
        collection.delete([item.id for item in items[:50]])
        collection.delete(list(codes)[:100])
        collection.delete_where({"n": {"$lt": 100}})
        self.kept = by_id([*items[100:150], *replaced, *(Item(id, code) for id, code in list(codes.items())[100:])])
        self.gone = [part for item in items[:100] for part in (item.id.encode(), *self.parts(item))]
        self.gone += [part for item in items[150:] for part in self.parts(item)]
        self.gone += [part for id, code in list(codes.items())[:100] for part in (id.encode(), code)]

    def parts(self, item: Item) -> list[bytes]:
        assert item.payload is not None
        assert item.input is not None
        return [item.code, item.payload["word"].encode(), item.input, zlib.compress(item.input, 1)]

    def on_disk(self, root: Path) -> list[tuple[str, bytes]]:
        """What of the deleted is in which file; codes also by half, as a page may cut them."""
        wanted = self.gone + [part[:16] for part in self.gone] + [part[-16:] for part in self.gone]
        files = {path.name: path.read_bytes() for path in (root / "things").iterdir()}
        return [(name, part) for name, data in files.items() for part in wanted if part in data]


def searched(collection: EmbeddedCollection, items: dict[str, Item]) -> list[Any]:
    """A sample of answers of every kind."""
    answers = []
    for item in list(items.values())[::40]:
        for asked in ({"k": 20}, {"radius": 120, "limit": 500}, {"k": 5, "filter": {"n": {"$gte": 120}}}):
            page = collection.search(np.frombuffer(item.code, np.uint8), codes=True, **asked)
            answers.append((list(page.hits), page.total))
    return answers


@pytest.mark.parametrize("copy_from", [1, 1 << 40], ids=["with a copy", "without"])
def test_compacting_leaves_nothing_of_what_was_deleted(tmp_path: Path, copy_from: int) -> None:
    """No byte of the codes, ids, payloads and inputs, in any file; and all else is as it was."""
    collection = make(tmp_path, 256, copy_from=copy_from)
    secrets = Secrets(collection)
    before = searched(collection, secrets.kept)
    assert secrets.on_disk(tmp_path), "then this test tests nothing"
    collection.compact()
    assert secrets.on_disk(tmp_path) == []
    for _ in range(2):
        assert_holds(collection, secrets.kept)
        assert searched(collection, secrets.kept) == before
        collection.close()
        assert secrets.on_disk(tmp_path) == []
        collection = opened(tmp_path, copy_from=copy_from)
    assert (tmp_path / "things" / COPY).exists() == (copy_from == 1)
    assert collection.fields == ["word"]


def test_compacting_waits_for_searches(tmp_path: Path) -> None:
    """While one reads the old state its log must stay; others go on, and writers wait."""
    collection = make(tmp_path, 256)
    secrets = Secrets(collection)
    before = searched(collection, secrets.kept)
    reading = collection.scan()
    first = next(reading)
    compacting = threading.Thread(target=collection.compact)
    compacting.start()
    time.sleep(0.2)
    assert compacting.is_alive()
    assert searched(collection, secrets.kept) == before
    assert by_id([first, *reading]) == secrets.kept
    compacting.join(10)
    assert not compacting.is_alive()
    assert secrets.on_disk(tmp_path) == []
    assert_holds(collection, secrets.kept)


def test_compacting_says_so_where_a_search_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = make(tmp_path, 256)
    secrets = Secrets(collection)
    monkeypatch.setattr(store, "_SEARCHES_END_S", 0.1)
    reading = collection.scan()
    next(reading)
    with pytest.raises(StoreBusy, match="compact again"):
        collection.compact()
    assert_holds(collection, secrets.kept)
    reading.close()
    collection.put([Item("more", b"\0" * 32)])
    collection.delete(["more"])
    collection.compact()
    assert secrets.on_disk(tmp_path) == []
    assert_holds(collection, secrets.kept)


def test_a_full_disk_stops_compacting_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D1"""
    collection = make(tmp_path, 256)
    secrets = Secrets(collection)

    def full(self: store.Store) -> None:
        raise StoreFull("no space")

    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "compact", full)
        with pytest.raises(StoreFull):
            collection.compact()
    assert_holds(collection, secrets.kept)
    collection.close()
    assert uses_its_copy(tmp_path, secrets.kept)


def test_compacting_beside_waiting_writers_saves_a_copy_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that waits for the compaction comes wholly before or wholly after what it saves."""
    collection = make(tmp_path)
    items = by_id(some(60, np.random.default_rng(14)))
    collection.put(list(items.values()))
    commits, discard = collection._live._commits, sidecar.discard
    deleting = threading.Thread(target=collection.delete, args=([*items][:10],))

    def gather(folder: Path) -> None:
        deleting.start()
        while not commits._waiting:
            time.sleep(0.001)
        discard(folder)

    with monkeypatch.context() as patch:
        patch.setattr(sidecar, "discard", gather)
        collection.compact()
    deleting.join(10)
    collection.close()
    assert uses_its_copy(tmp_path, dict([*items.items()][10:]))
