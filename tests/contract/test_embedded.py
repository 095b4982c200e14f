"""What only an embedded collection does: its files, their damage, the copy of its index beside them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import places
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from places import BITS, TUNING, config
from walking import CollectionMachine

from index import Catalogue, EmbeddedCollection, Item, new_id, sidecar
from index.catalogue import STORE_FILE
from index.errors import CollectionExists, InvalidQuery, StoreDamaged, StoreUnavailable, UnknownCollection


def make(root: Path) -> EmbeddedCollection:
    folder = root / "things"
    folder.mkdir(parents=True)
    EmbeddedCollection.create(folder / STORE_FILE, config())
    return EmbeddedCollection(folder / STORE_FILE, **TUNING)


class EmbeddedMachine(CollectionMachine):
    """Row X8, with merges and with copies of the index that are damaged or gone at the restart."""

    place = staticmethod(places.embedded)

    @rule()
    def merge(self) -> None:
        self.collection.merge()

    @rule(copy=st.sampled_from(["damaged", "deleted"]), at=st.integers(0, 2**20))
    def restart_with_another_copy(self, copy: str, at: int) -> None:
        self.collection.close()
        path = places.embedded().path(self.collection).with_name(sidecar.NAME)
        if copy == "deleted":
            path.unlink(missing_ok=True)
        elif path.exists():
            data = bytearray(path.read_bytes())
            data[at % len(data)] ^= 1 << at % 8
            path.write_bytes(data)
        self.collection = places.embedded().again(self.collection)


TestEmbeddedMachine = EmbeddedMachine.TestCase
TestEmbeddedMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_catalogue_survives_restarts_and_leftovers(tmp_path: Path) -> None:
    """reliability.md F3: stray files are reported and left alone"""
    catalogue = Catalogue(tmp_path)
    catalogue.create(config("one")).put([Item("a", b"\0\0")])
    catalogue.create(config("two"))
    with pytest.raises(CollectionExists):
        catalogue.create(config("one"))
    catalogue.close()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".new-left-by-a-crash").mkdir()
    catalogue = Catalogue(tmp_path)
    assert list(catalogue.all()) == ["one", "two"]
    assert len(catalogue.get("one")) == 1
    assert catalogue.unknown == ["notes.txt"]
    assert (tmp_path / "notes.txt").exists()
    assert not (tmp_path / ".new-left-by-a-crash").exists()
    catalogue.delete("one")
    with pytest.raises(UnknownCollection):
        catalogue.get("one")
    catalogue.close()
    assert list(Catalogue(tmp_path).all()) == ["two"]


@pytest.mark.parametrize("name", ["", "..", "../x", "A", "a" * 64, "-a", "a.b", "a/b", "ä", ".new-x"])
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    """reliability.md H9"""
    with pytest.raises(InvalidQuery):
        Catalogue(tmp_path / "root").create(config(name))
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_damage_is_named_and_keeps_nothing_else_from_being_served(tmp_path: Path) -> None:
    """reliability.md F1, F2: overwritten, truncated, swapped and foreign files"""
    catalogue = Catalogue(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("sound", "flipped", "short", "swapped-a", "swapped-b", "foreign"):
        catalogue.create(config(name)).put([Item(f"{number:04d}", rng.bytes(2)) for number in range(400)])
    catalogue.close()

    def file(name: str) -> Path:
        return tmp_path / name / STORE_FILE

    data = bytearray(file("flipped").read_bytes())
    at = data.index(b"0123")
    data[at : at + 4] = b"0x23"
    file("flipped").write_bytes(data)
    file("short").write_bytes(file("short").read_bytes()[:5000])
    (tmp_path / "swapped-a").rename(tmp_path / "tmp")
    (tmp_path / "swapped-b").rename(tmp_path / "swapped-a")
    (tmp_path / "tmp").rename(tmp_path / "swapped-b")
    file("foreign").write_bytes(b"not a database" * 400)
    for path in tmp_path.glob("*/*-wal"):
        path.unlink()
    catalogue = Catalogue(tmp_path)
    assert list(catalogue.all()) == ["sound"]
    assert set(catalogue.damaged) == {"flipped", "short", "swapped-a", "swapped-b", "foreign"}
    assert len(catalogue.get("sound")) == 400
    with pytest.raises(StoreDamaged, match="flipped"):
        catalogue.get("flipped")
    catalogue.delete("flipped")
    assert not (tmp_path / "flipped").exists()


def test_check_sees_what_loading_does_not(tmp_path: Path) -> None:
    collection = make(tmp_path)
    collection.put([Item("a", b"\0\0", {"x": 1}), Item("b", b"\0\1", {"x": 2})])
    other = sqlite3.connect(tmp_path / "things" / STORE_FILE)
    with other:
        other.execute("""UPDATE items SET payload = '{"x":3}' WHERE id = 'b'""")
    other.close()
    assert [fault for fault in collection.check().faults if "'b'" in fault]


DAMAGED = {
    "another code": "UPDATE items SET code = x'0102' WHERE id = 'b'",
    "another id": "UPDATE items SET id = 'c' WHERE id = 'b'",
    "a lost item": "DELETE FROM items WHERE id = 'b'",
}


def damaged(root: Path, damage: str) -> EmbeddedCollection:
    """A collection of `a` and `b` whose file is damaged while it is open."""
    collection = make(root)
    collection.put([Item("a", b"\0\0"), Item("b", b"\0\1")])
    other = sqlite3.connect(root / "things" / STORE_FILE)
    with other:
        other.execute(DAMAGED[damage])
    other.close()
    return collection


@pytest.mark.parametrize("damage", DAMAGED)
def test_check_reports_what_was_damaged(tmp_path: Path, damage: str) -> None:
    """reliability.md F1"""
    assert not damaged(tmp_path, damage).check().sound


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("logits", [None, np.ones(BITS)])
def test_a_search_never_answers_with_what_was_damaged(tmp_path: Path, damage: str, logits: Any) -> None:
    """reliability.md F1"""
    with pytest.raises(StoreDamaged):
        damaged(tmp_path, damage).search(np.zeros(2, np.uint8), radius=BITS, logits=logits)


@pytest.mark.parametrize("damage", ["another code", "another id"])
def test_a_damaged_item_is_not_given_out(tmp_path: Path, damage: str) -> None:
    """reliability.md F1"""
    collection = damaged(tmp_path, damage)
    with pytest.raises(StoreDamaged):
        collection.items(limit=10)


def test_check_reports_a_sum_that_is_wrong(tmp_path: Path) -> None:
    collection = make(tmp_path)
    collection.put([Item("a", b"\0\0")])
    other = sqlite3.connect(tmp_path / "things" / STORE_FILE)
    with other:
        other.execute("UPDATE state SET contents = contents + 1")
    other.close()
    assert not collection.check().sound


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """reliability.md F7"""
    collection = make(tmp_path)
    collection.close()
    path = tmp_path / "things" / STORE_FILE
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StoreDamaged, match="newer release"):
        EmbeddedCollection(path)


def test_new_ids_ascend() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert all(len(id) == 36 and id[14] == "7" for id in made)


@pytest.mark.parametrize("flips", [pytest.param(60, id="some"), pytest.param(2000, id="all", marks=pytest.mark.slow)])
def test_flipped_bytes_are_found_or_harmless(tmp_path: Path, flips: int) -> None:
    """reliability.md F1: never a wrong answer in silence"""
    collection = make(tmp_path)
    rng = np.random.default_rng(11)
    collection.put([Item(f"{number:04d}", rng.bytes(2), {"n": number}, "text", rng.bytes(30)) for number in range(200)])
    original = list(collection.scan())
    collection.close()
    sound = (tmp_path / "things" / STORE_FILE).read_bytes()
    found = 0
    for flip in range(flips):
        folder = tmp_path / f"copy-{flip}" / "things"
        folder.mkdir(parents=True)
        data = bytearray(sound)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(8)
        (folder / STORE_FILE).write_bytes(data)
        try:
            copy = EmbeddedCollection(folder / STORE_FILE)
        except (StoreDamaged, StoreUnavailable):
            found += 1
            continue
        if copy.check().sound:
            assert list(copy.scan()) == original, f"flip {flip} went unseen"
        else:
            found += 1
        copy.close()
    assert found > flips / 4
