"""The copy of the codes: used where it is proven to be the store's, replaced where anything is wrong with it."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collecting import COPY, by_id, make, opened, sequence_of, some, uses_its_copy

from index import (
    Item,
    sidecar,
)
from index.catalogue import STORE_FILE

HEADER = 64  # bytes; the layout is in `sidecar`


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Item]]:
    """A closed collection with a copy of its codes that is as old as the first 60 of its items, and all its items."""
    root = tmp_path_factory.mktemp("stored")
    rng = np.random.default_rng(7)
    collection = make(root)
    first, later = some(60, rng), some(40, rng, first=50)
    collection.put(first)
    collection.merge()
    collection.put(later)  # the last ten of the first are replaced
    collection.delete(["i00000", "i00089", "nobody"])
    collection._live._uncopied = 0  # as after a kill: closing leaves no newer copy
    collection.close()
    items = by_id([*first, *later])
    del items["i00000"], items["i00089"]
    return root, items


@pytest.fixture
def copied(stored: tuple[Path, dict[str, Item]], tmp_path: Path) -> tuple[Path, dict[str, Item]]:
    """The same, to be changed at will."""
    root, items = stored
    return Path(shutil.copytree(root, tmp_path / "copied")), items


def assert_replaced(root: Path, items: dict[str, Item]) -> None:
    """The copy is not used, and by the next start there is a sound one."""
    assert not uses_its_copy(root, items)
    assert uses_its_copy(root, items)
    assert [path.name for path in (root / "things").iterdir() if COPY in path.name] == [COPY]


def test_a_sound_copy_is_used(copied: tuple[Path, dict[str, Item]]) -> None:
    """An older one too: what was written and removed since is made up for."""
    root, items = copied
    assert uses_its_copy(root, items)


def test_a_new_copy_of_the_very_state_is_used(copied: tuple[Path, dict[str, Item]]) -> None:
    root, items = copied
    collection = opened(root)
    collection.merge()
    collection.close()
    data = (root / "things" / COPY).read_bytes()
    assert len(data) == HEADER + 16 * len(items)
    assert uses_its_copy(root, items)


FLIPPED = {
    **{f"header {at}": at for at in range(44)},
    **{f"key {n}": HEADER + 8 * n + n % 8 for n in (0, 1, 30, 59)},
    **{f"code {n}": HEADER + 60 * 8 + 8 * n + n % 8 for n in (0, 1, 30, 59)},
}


@pytest.mark.parametrize("at", FLIPPED.values(), ids=FLIPPED)
def test_a_copy_with_a_flipped_bit_is_replaced(copied: tuple[Path, dict[str, Item]], at: int) -> None:
    root, items = copied
    path = root / "things" / COPY
    data = bytearray(path.read_bytes())
    assert len(data) == HEADER + 60 * 16
    data[at] ^= 1 << at % 8
    path.write_bytes(data)
    assert_replaced(root, items)


def test_bytes_of_the_header_without_a_meaning_do_no_harm(copied: tuple[Path, dict[str, Item]]) -> None:
    root, items = copied
    path = root / "things" / COPY
    path.write_bytes(path.read_bytes()[:44] + b"\xff" * 20 + path.read_bytes()[HEADER:])
    assert uses_its_copy(root, items)


def permuted(data: bytes) -> bytes:
    """The same keys with the same codes, in another order."""
    count = (len(data) - HEADER) // 16
    keys, codes = data[HEADER : HEADER + 8 * count], data[HEADER + 8 * count :]
    return data[:HEADER] + keys[8:16] + keys[:8] + keys[16:] + codes[8:16] + codes[:8] + codes[16:]


def claiming(field: int, value: int) -> Callable[[bytes], bytes]:
    """The copy with another value in its header: 2 is the sequence, 3 the number of items, 4 the last key."""

    def change(data: bytes) -> bytes:
        fields = list(struct.unpack_from("<8sIxxxxQQQ", data))
        fields[field] = value
        header = struct.pack("<8sIxxxxQQQ", *fields)
        return (header + struct.pack("<I", zlib.crc32(header))).ljust(HEADER, b"\0") + data[HEADER:]

    return change


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a byte": lambda data: data[:1],
    "half a header": lambda data: data[: HEADER // 2],
    "a header": lambda data: data[:HEADER],
    "truncated": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "an item short": lambda data: data[:-16],
    "a byte more": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "zeros behind the header": lambda data: data[:HEADER].ljust(len(data), b"\0"),
    "a sparse end": lambda data: data[:-100] + bytes(100),
    "in another order": permuted,
    "of another width": claiming(1, 128),
    "of no items": lambda data: claiming(3, 0)(data)[:HEADER],
    "of very many items": claiming(3, 1 << 60),
    "of an earlier last key": claiming(4, 30),
    "of a later last key": claiming(4, 61),
    "of an earlier state": claiming(2, 0),
    "of the newest state": claiming(2, 5),
    "of a state to come": claiming(2, 1 << 40),
}


def test_the_damage_below_is_to_what_is_there(copied: tuple[Path, dict[str, Item]]) -> None:
    data = (copied[0] / "things" / COPY).read_bytes()
    fields = struct.unpack_from("<8sIxxxxQQQ", data)
    assert fields == (b"HBCODES1", 64, 1, 60, 60)
    assert claiming(2, 1)(data) == data


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_copy_is_replaced(copied: tuple[Path, dict[str, Item]], damage: Callable[[bytes], bytes]) -> None:
    root, items = copied
    path = root / "things" / COPY
    path.write_bytes(damage(path.read_bytes()))
    if damage is DAMAGE["of an earlier state"]:
        assert uses_its_copy(root, items)  # nothing was removed before that state, so it makes no difference
    else:
        assert_replaced(root, items)


def test_a_copy_that_cannot_be_read_is_done_without(copied: tuple[Path, dict[str, Item]]) -> None:
    root, items = copied
    (root / "things" / COPY).unlink()
    (root / "things" / COPY).mkdir()
    assert not uses_its_copy(root, items)
    assert not uses_its_copy(root, items)


@pytest.mark.parametrize("content", [b"", b"half", None], ids=["empty", "half", "whole"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside a copy", "alone"])
def test_a_copy_that_was_being_written_is_not_read(
    copied: tuple[Path, dict[str, Item]], content: bytes | None, beside: bool
) -> None:
    """What a kill within `save` leaves."""
    root, items = copied
    path = root / "things" / COPY
    draft = path.with_name(COPY + ".new")
    draft.write_bytes(path.read_bytes() if content is None else content)
    if not beside:
        path.unlink()
    assert uses_its_copy(root, items) == beside
    opened(root).merge()
    assert not draft.exists()


def test_a_copy_from_before_removals_that_were_not_noted_is_replaced(copied: tuple[Path, dict[str, Item]]) -> None:
    """Without a copy nothing is noted; one that is put back from a backup cannot be brought up to date then."""
    root, items = copied
    path = root / "things" / COPY
    old = path.read_bytes()
    path.unlink()
    collection = opened(root)
    collection.delete(["i00007"])
    collection.close()
    path.write_bytes(old)
    assert_replaced(root, {id: item for id, item in items.items() if id != "i00007"})


def test_a_copy_older_than_its_notes_is_replaced(copied: tuple[Path, dict[str, Item]]) -> None:
    root, items = copied
    path = root / "things" / COPY
    old = path.read_bytes()
    collection = opened(root)
    collection.merge()  # what was noted before is dropped
    collection.close()
    path.write_bytes(old)
    assert_replaced(root, items)


def test_notes_older_than_the_copy_do_no_harm(copied: tuple[Path, dict[str, Item]], monkeypatch: Any) -> None:
    """A kill after the copy was saved, before the notes it makes needless were dropped."""
    root, items = copied
    collection = opened(root)
    monkeypatch.setattr(collection._live._commits, "run_holding", lambda step: None)
    collection.merge()
    collection.close()
    assert uses_its_copy(root, items)


@pytest.mark.parametrize("bits", [64, 128])
def test_a_copy_of_another_collection_is_replaced(copied: tuple[Path, dict[str, Item]], bits: int) -> None:
    root, items = copied
    other = make(root.parent / "other", bits)
    other.put(some(60, np.random.default_rng(8), size=bits // 8))
    other.merge()
    other.close()
    shutil.copyfile(root.parent / "other" / "things" / COPY, root / "things" / COPY)
    assert_replaced(root, items)


@pytest.mark.parametrize("later", [0, 1, 5], ids=["newer than the store", "of its sequence", "of an earlier sequence"])
def test_a_copy_beside_a_restored_store_is_replaced(copied: tuple[Path, dict[str, Item]], later: int) -> None:
    """The store comes from a backup, the copy does not; and what was written since is not what it was then."""
    root, items = copied
    store_file, path = root / "things" / STORE_FILE, root / "things" / COPY
    backup = store_file.read_bytes()
    collection = opened(root)
    collection.put(some(1, np.random.default_rng(9), first=500))
    collection.merge()
    collection.close()
    copy = path.read_bytes()
    store_file.write_bytes(backup)
    path.unlink()
    collection = opened(root, copy_from=1 << 40)
    items = dict(items)
    for number in range(later):
        other = some(1, np.random.default_rng(10), first=500 + number)
        collection.put(other)
        items |= by_id(other)
    sequence = struct.unpack_from("<8sIxxxxQ", copy)[2]
    assert (sequence_of(collection) > sequence) - (sequence_of(collection) < sequence) == {0: -1, 1: 0, 5: 1}[later]
    collection.close()
    path.write_bytes(copy)
    assert_replaced(root, items)


def test_a_copy_beside_damaged_notes_is_done_without(copied: tuple[Path, dict[str, Item]]) -> None:
    """What damage leaves in the table of what was removed: anything."""
    root, items = copied
    with sqlite3.connect(root / "things" / STORE_FILE) as other:
        other.execute("ALTER TABLE removed RENAME TO before")
        other.execute("CREATE TABLE removed (key INTEGER PRIMARY KEY, code, sequence)")
        other.execute("INSERT INTO removed SELECT key, CASE key % 2 WHEN 0 THEN code END, sequence FROM before")
    other.close()
    assert not uses_its_copy(root, items)


def test_a_copy_for_which_there_is_no_room_takes_none(
    copied: tuple[Path, dict[str, Item]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """D1: on a full disk the room belongs to the store; the copy from before goes on being used."""
    root, items = copied

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    collection = opened(root)
    with monkeypatch.context() as patch:
        patch.setattr(sidecar.os, "fsync", full)
        collection.merge()
        assert "No space left" in caplog.text
        assert not (root / "things" / (COPY + ".new")).exists()
        collection.delete(["i00007"])
        collection.close()
    assert uses_its_copy(root, {id: item for id, item in items.items() if id != "i00007"})


@pytest.mark.parametrize("merge_at", [1, 1 << 40], ids=["while upkeep waits", "without upkeep"])
def test_closing_leaves_a_copy(tmp_path: Path, merge_at: int) -> None:
    collection = make(tmp_path, merge_at=merge_at, copy_from=50, quiet_s=1000)
    items = by_id(some(60, np.random.default_rng(11)))
    collection.put(list(items.values()))
    collection.close()
    assert uses_its_copy(tmp_path, items)


def test_few_items_have_no_copy_and_no_notes(tmp_path: Path) -> None:
    """A collection that has shrunk stops noting what is removed, or it would note ever more."""
    collection = make(tmp_path, copy_from=50)
    rng = np.random.default_rng(12)
    collection.put(some(60, rng))
    collection.merge()
    assert (tmp_path / "things" / COPY).exists()
    collection.delete([f"i{n:05d}" for n in range(20, 60)])
    for _ in range(3):
        collection.put(some(20, rng))
        collection.merge()
    assert not (tmp_path / "things" / COPY).exists()
    with collection._live.state() as (reader, _):
        assert len(reader.removed_since(0, 64)[0]) == 0
    assert collection.check().sound
