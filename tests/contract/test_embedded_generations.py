"""What only the generations of an embedded collection do: files, a process that is killed, damage, old schemas."""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import places
import pytest
from changing import GenerationMachine
from collecting import old_digest
from generating import assert_holds, by_id, code_by, fill, go_over, key_of, make, models_of, opened, put, some
from hypothesis import settings
from hypothesis.stateful import rule

from index import CollectionConfig, Item, ModelKey, PutResult, migrations, sidecar
from index.catalogue import STORE_FILE
from index.errors import StoreDamaged
from index.live import Live
from index.source import seal_of


class EmbeddedMachine(GenerationMachine):
    """Row X8, with merges of the index."""

    place = staticmethod(places.embedded)

    @rule()
    def merge(self) -> None:
        self.collection.merge()


TestGenerations = EmbeddedMachine.TestCase
TestGenerations.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


@pytest.mark.slow
class TestGenerationsAtLength(EmbeddedMachine.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=1000, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("stage", ["filling", "ready", "kept"])
def test_a_kill_at_every_stage(tmp_path: Path, stage: str) -> None:
    """Half of a generation is dropped, a whole one is there again; what served before the end serves after it."""
    collection = make(tmp_path, copy_from=10)
    put(collection, some(300), [0])
    collection.merge()
    number = collection.generations.begin(key_of(2), 24).number
    fill(collection, number, 2, most=200)
    if stage != "filling":
        fill(collection, number, 2)
        collection.generations.make_ready(number)
    if stage == "kept":
        collection.generations.flip(number)
    models = models_of(collection)
    put(collection, some(20, first=500), models)
    collection.delete(["i00007", "i00501"])
    store = collection._live._store
    store._writer.close()  # no more than the end of a process does: nothing is tidied up
    store._closed.set()
    items = {id: item for id, item in by_id(some(300) + some(20, first=500)).items() if id not in ("i00007", "i00501")}
    collection = opened(tmp_path, copy_from=10)
    assert_holds(collection, items, 2 if stage == "kept" else 0)
    states = [one.state for one in collection.generations.all()]
    assert states == {"filling": ["serving"], "ready": ["serving", "ready"], "kept": ["kept", "serving"]}[stage]
    if stage == "filling":
        tables = "SELECT count(*) FROM sqlite_master WHERE name GLOB 'codes_*'"
        with collection._live.state() as (reader, _):
            assert reader.db.execute(tables).fetchone() == (0,)
        go_over(collection, 2)
        assert_holds(collection, items, 2)
    else:
        other = next(one for one in collection.generations.all() if one.state != "serving")
        collection.generations.flip(other.number)
        assert_holds(collection, items, 0 if stage == "kept" else 2)
    collection.close()


def test_a_copy_of_other_codes_is_not_loaded(tmp_path: Path) -> None:
    """The copy beside the store is of the old codes, as a crash right after the flip leaves it."""
    collection = make(tmp_path, merge_at=1 << 40, copy_from=1)
    put(collection, some(100), [0])
    collection.merge()
    copy = tmp_path / "things" / sidecar.NAME
    old = copy.read_bytes()
    go_over(collection, 1)
    assert copy.read_bytes() != old
    collection.close(keep_copy=False)
    copy.write_bytes(old)
    collection = opened(tmp_path, merge_at=1 << 40, copy_from=1)
    assert_holds(collection, by_id(some(100)), 1)
    collection.close()


def test_a_flip_leaves_a_copy_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = make(tmp_path, merge_at=1 << 40, copy_from=1)
    put(collection, some(100), [0])
    go_over(collection, 2)
    put(collection, some(5, first=200), [2, 0])
    collection.delete(["i00003", "i00200"])
    collection._live._store.close()
    loads: list[Any] = []
    load = sidecar.load
    monkeypatch.setattr(sidecar, "load", lambda *args: loads.append(load(*args)) or loads[-1])
    collection = opened(tmp_path, merge_at=1 << 40, copy_from=1)
    assert loads[0] is not None
    assert loads[0].behind == 5
    items = by_id(some(100) + some(5, first=200))
    assert_holds(collection, {id: item for id, item in items.items() if id not in ("i00003", "i00200")}, 2)
    collection.close()


def test_what_was_given_up_is_not_left_on_disk(tmp_path: Path) -> None:
    """After a compaction neither the codes of the first model nor those of a later one can be found in the files."""
    collection = make(tmp_path)
    put(collection, some(50), [0])
    first = go_over(collection, 2)
    second = go_over(collection, 1)  # which gives up the codes of model 0
    collection.generations.drop(first.number)
    collection.compact()
    collection.close()
    data = b"".join(path.read_bytes() for path in (tmp_path / "things").iterdir())
    assert sum(data.count(code_by(2, item)) for item in some(50)) == 0
    with sqlite3.connect(tmp_path / "things" / STORE_FILE) as other:
        assert other.execute("SELECT count(*) FROM items WHERE code != x''").fetchone() == (0,)
    other.close()
    collection = opened(tmp_path)
    assert [one.number for one in collection.generations.all()] == [second.number]
    assert_holds(collection, by_id(some(50)), 1)
    collection.close()


def test_damage_to_either_generation_is_named(tmp_path: Path) -> None:
    collection = make(tmp_path)
    put(collection, some(10), [0])
    number = go_over(collection, 1).number
    collection.close()
    for table in (f"codes_{number}", "items"):
        (tmp_path / "things" / sidecar.NAME).unlink(missing_ok=True)
        with sqlite3.connect(tmp_path / "things" / STORE_FILE) as other:
            good = other.execute(f"SELECT code FROM {table} WHERE key = 5").fetchone()[0]
            other.execute(f"UPDATE {table} SET code = x'1234' WHERE key = 5")
        if table == "items":
            collection = opened(tmp_path)
            faults = collection.check().faults
            assert any("generation 0 (kept): the code of item 'i00004'" in fault for fault in faults), faults
            with pytest.raises(StoreDamaged):
                collection.generations.flip(0)
            assert collection.config.model == key_of(1)
            collection.close(keep_copy=False)
        else:
            with pytest.raises(StoreDamaged, match="i00004"):
                opened(tmp_path)
        other.execute(f"UPDATE {table} SET code = ? WHERE key = 5", (good,))
        other.commit()
        other.close()
    assert opened(tmp_path).check().faults == ()


def test_a_lost_code_of_the_kept_generation_is_named(tmp_path: Path) -> None:
    collection = make(tmp_path)
    put(collection, some(10), [0])
    number = go_over(collection, 1).number
    collection.generations.flip(0)
    with sqlite3.connect(tmp_path / "things" / STORE_FILE) as other:
        other.execute(f"DELETE FROM codes_{number} WHERE key = 3")
    other.close()
    assert collection.check().faults == (f"generation {number} (kept): its codes are not those that were stored",)


def test_a_store_of_the_second_version_opens(tmp_path: Path) -> None:
    """reliability.md F7: items are still recognised as unchanged, and one that was damaged before still is."""
    folder = tmp_path / "things"
    folder.mkdir()
    db = sqlite3.connect(folder / STORE_FILE, isolation_level=None)
    db.execute("BEGIN")
    migrations.m001_items(db)
    rows = [Item(item.id, code_by(0, item), item.payload, item.kind, item.input) for item in some(1050)]
    rows += [Item("bare", b"\1\2"), Item("with payload", b"\1\3", {"n": 7})]
    for key, item in enumerate(rows, start=1):
        packed = None if item.input is None else zlib.compress(item.input, 1)
        bare = item.payload is None and item.input is None
        digest = b"" if bare else old_digest(item)
        values = (item.code, seal_of(key, item.id, item.code), item.payload_text(), item.kind, packed, digest)
        db.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, item.id, *values))
    db.execute("UPDATE items SET payload = '{\"n\":8}' WHERE key = 1004")  # damaged, and so not to be made good
    db.execute("UPDATE state SET sequence = 7, last_key = ?, items = ?", (len(rows), len(rows)))
    meta = {"name": "things", "bits": 16, "model": vars_of(key_of(0)), "keep_inputs": True, "created_at": "2026"}
    db.executemany("INSERT INTO meta VALUES (?, ?)", [(name, json.dumps(value)) for name, value in meta.items()])
    migrations.m002_contents(db)
    db.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
    db.execute("PRAGMA user_version = 2")
    db.execute("COMMIT")
    db.close()
    for _ in range(2):
        collection = opened(tmp_path)
        assert [fault for fault in collection.check().faults if "i01003" not in fault] == []
        assert len(collection.check().faults) == 1
        assert collection.config == CollectionConfig("things", 16, key_of(0), True, "2026")
        with pytest.raises(StoreDamaged):
            collection.get("i01003")
        sound = [item for item in rows if item.id != "i01003"]
        assert collection.put(sound, fingerprint=key_of(0).fingerprint) == PutResult(0, 0, len(sound))
        collection.close()


def vars_of(key: ModelKey) -> dict[str, Any]:
    return {"name": key.name, "version": key.version, "fingerprint": key.fingerprint}


def test_a_flip_that_fails_leaves_the_old_one_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = make(tmp_path)
    put(collection, some(50), [0])
    number = collection.generations.begin(key_of(1), 16).number
    fill(collection, number, 1)

    def refuse(self: Live, *args: Any) -> None:
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr("index.transaction.Transaction.flip", refuse)
        with pytest.raises(OSError, match="no"):
            collection.generations.flip(number)
    assert_holds(collection, by_id(some(50)), 0)
    put(collection, some(5, first=100), [0, 1])
    collection.generations.flip(number)
    assert_holds(collection, by_id(some(50) + some(5, first=100)), 1)
    collection.close()
