"""Store and snapshot stay in step: writers in groups, merges beside writes, old schemas, ties."""

from __future__ import annotations

import gc
import json
import sqlite3
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collecting import assert_holds, by_id, make, old_digest, opened, sequence_of, some, uses_its_copy

from index import (
    EmbeddedCollection,
    Item,
    PutResult,
    Request,
    filters,
    live,
    migrations,
)
from index import snapshot as snapshots
from index.catalogue import STORE_FILE
from index.errors import InvalidItem, KeyReused, StoreDamaged, StoreFull, StoreUnavailable, UnknownCollection
from index.multihash import MultiHashIndex
from index.source import seal_of

# -- group commit ------------------------------------------------------------------------------------------------------


def together(collection: EmbeddedCollection, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What `calls` return or raise, when all of them wait for the same transaction, in this order."""
    commits = collection._live._commits
    results: list[Any] = [None] * len(calls)

    def run(place: int) -> None:
        try:
            results[place] = calls[place]()
        except BaseException as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    with commits.writing:
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while len(commits._waiting) < number:
                time.sleep(0.001)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a writer was forgotten"
    return results


def test_many_writers_share_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 1 for each of 800 puts from 16 threads, at the price of far fewer waits for the disk."""
    collection = make(tmp_path)
    commits = collection._live._commits
    publish = commits._publish
    monkeypatch.setattr(commits, "_publish", lambda change: (time.sleep(0.002), publish(change)))  # a disk of 2 ms
    items = some(800, np.random.default_rng(1))
    seen: list[Item] = []

    def write(part: list[Item]) -> None:
        for item in part:
            assert collection.put([item]) == PutResult(1, 0, 0)
            seen.append(collection.get(item.id))

    threads = [threading.Thread(target=write, args=(items[place::16],)) for place in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert by_id(seen) == by_id(items)
    assert_holds(collection, by_id(items))
    assert sequence_of(collection) < 800 / 4


def test_steps_of_a_group_see_what_came_before_them(tmp_path: Path) -> None:
    """X2: the last of several writers of one id wins wholly; one transaction puts, replaces and deletes the same."""
    collection = make(tmp_path)
    before = sequence_of(collection)
    results = together(
        collection,
        [
            lambda: collection.put([Item("a", b"1" * 8), Item("b", b"1" * 8)]),
            lambda: collection.put([Item("a", b"2" * 8, {"x": 2})]),
            lambda: collection.delete(["b", "nobody"]),
            lambda: collection.put_codes(["a", "c"], np.full((2, 8), 3, np.uint8)),
            lambda: collection.delete_where({"x": 2}),
            lambda: collection.put([Item("a", b"\3" * 8)]),
        ],
    )
    assert results == [PutResult(2, 0, 0), PutResult(0, 1, 0), 1, PutResult(1, 1, 0), 0, PutResult(0, 0, 1)]
    assert sequence_of(collection) == before + 1
    assert_holds(collection, by_id([Item("a", b"\3" * 8), Item("c", b"\3" * 8)]))


def refused(collection: EmbeddedCollection, error: BaseException) -> Callable[[], Any]:
    """A call whose step does much, and then raises `error`."""

    def step(transaction: Any) -> None:
        transaction.insert([Item("x", b"\0" * 8, {"n": 1})], [b"\0" * 8])
        transaction.insert_codes(["y"], [b"\0" * 8])
        transaction.remove(list(transaction.known(["i00000", "x"]).values()))
        raise error

    return lambda: collection._live.commit(step)


@pytest.mark.parametrize("error", [InvalidItem("bad"), KeyReused("known"), sqlite3.IntegrityError("taken"), OSError()])
def test_a_refused_step_fails_alone(tmp_path: Path, error: Exception) -> None:
    collection = make(tmp_path)
    items = some(6, np.random.default_rng(2))
    collection.put(items[:2])
    collection.merge()  # from here on what is removed is noted, which must be undone too
    puts = [lambda item=item: collection.put([item]) for item in items[2:]]
    bad = refused(collection, error)
    results = together(collection, [puts[0], bad, *puts[1:3], bad, puts[3]])
    assert [results[place] for place in (0, 2, 3, 5)] == [PutResult(1, 0, 0)] * 4
    assert all(isinstance(results[place], (type(error), StoreUnavailable)) for place in (1, 4))
    assert_holds(collection, by_id(items))
    with collection._live.state() as (reader, _):
        assert len(reader.removed_since(0, 64)[0]) == 0


def test_an_idempotency_key_is_answered_once_within_a_group(tmp_path: Path) -> None:
    """C10, C11: the same request again is told the first reply, another one with its key is refused; in one group."""
    collection = make(tmp_path)

    def put(id: str, digest: bytes) -> Callable[[], Any]:
        request = Request("key", digest, lambda result: f"{result.created} created")
        return lambda: collection.put([Item(id, b"\0" * 8)], request=request)

    first, again, other = together(collection, [put("a", b"1"), put("a", b"1"), put("b", b"2")])
    assert (first, again) == (PutResult(1, 0, 0), PutResult(0, 0, 0, "1 created"))
    assert isinstance(other, KeyReused)
    assert_holds(collection, by_id([Item("a", b"\0" * 8)]))


def large_put(collection: EmbeddedCollection) -> Any:
    return collection.put([Item(f"large{n}", b"\0" * 8, {"x": "y" * 100_000}) for n in range(4)])


def large_put_codes(collection: EmbeddedCollection) -> Any:
    return collection.put_codes([f"large{n}" for n in range(20_000)], np.zeros((20_000, 8), np.uint8))


@pytest.mark.parametrize("large", [large_put, large_put_codes])
def test_a_full_disk_refuses_the_large_and_stores_the_small(tmp_path: Path, large: Callable[..., Any]) -> None:
    """D1: what has no room fails and leaves nothing, what has room is stored, and all goes on when there is space."""
    collection = make(tmp_path)
    writer = collection._live._store._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 20}")
    items = some(3, np.random.default_rng(3))
    small = [lambda item=item: collection.put([item]) for item in items]
    results = together(collection, [small[0], lambda: large(collection), small[1], lambda: large(collection), small[2]])
    assert [results[place] for place in (0, 2, 4)] == [PutResult(1, 0, 0)] * 3
    assert [type(results[place]) for place in (1, 3)] == [StoreFull] * 2
    assert_holds(collection, by_id(items))
    with pytest.raises(StoreFull, match="nothing was stored"):
        large(collection)
    assert collection.delete([items[0].id]) == 1
    assert_holds(collection, by_id(items[1:]))
    writer.execute(f"PRAGMA max_page_count = {pages + 10_000}")
    assert large(collection).created in (4, 20_000)
    collection.close()
    collection = opened(tmp_path)
    assert collection.check().sound
    assert len(collection) in (2 + 4, 2 + 20_000)


def test_damage_that_a_writer_meets_is_named(tmp_path: Path) -> None:
    """F1: also where the copy of the codes let the collection open without reading the items."""
    collection = make(tmp_path)
    collection.put([Item(f"{n:05d}", b"\0" * 8, {"x": "y" * 200}) for n in range(1000)])
    collection.merge()
    collection.close()
    path = tmp_path / "things" / STORE_FILE
    data = bytearray(path.read_bytes())
    for page in range(20, 40):  # some of the items, none of what is read at the start
        data[page * 4096 : page * 4096 + 8] = b"\xee" * 8
    path.write_bytes(data)
    collection = opened(tmp_path)
    everything = [f"{n:05d}" for n in range(1000)]
    results = together(
        collection, [lambda: collection.delete(everything), lambda: collection.put([Item("new", b"1" * 8)])]
    )
    assert isinstance(results[0], StoreDamaged)
    assert isinstance(results[1], (StoreDamaged, PutResult))


def test_what_cannot_be_published_is_never_missed_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promises 2 and 5: on disk and not in memory means that nothing is answered, until a restart finds it."""
    monkeypatch.setattr(live, "_PUBLISH_TIMEOUT_S", 0.05)
    collection = make(tmp_path)
    collection.put([Item("a", b"\0" * 8)])
    with monkeypatch.context() as patch:
        patch.setattr(snapshots.Snapshot, "after", lambda self, change: [][0])
        with pytest.raises(IndexError):
            collection.put([Item("b", b"\0" * 8)])
    with pytest.raises(StoreUnavailable, match="restart"):
        collection.put([Item("c", b"\0" * 8)])
    with pytest.raises(StoreUnavailable, match="restart"):
        collection.search(np.zeros(8, np.uint8), k=1)
    collection.close()
    assert_holds(opened(tmp_path), by_id([Item("a", b"\0" * 8), Item("b", b"\0" * 8)]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupted_group_stores_nothing_and_the_next_goes_on(tmp_path: Path) -> None:
    collection = make(tmp_path)
    puts = [lambda id=id: collection.put([Item(id, b"\0" * 8)]) for id in "abc"]
    results = together(collection, [puts[0], refused(collection, KeyboardInterrupt()), puts[1]])
    assert all(isinstance(result, KeyboardInterrupt) for result in results)
    assert_holds(collection, {})
    assert together(collection, puts) == [PutResult(1, 0, 0)] * 3


def test_closing_while_writers_wait_answers_all_of_them(tmp_path: Path) -> None:
    """X5: each write is stored or refused, none hangs, and what was acknowledged is there."""
    collection = make(tmp_path)
    puts = [lambda n=n: collection.put([Item(f"{n}", b"\0" * 8)]) for n in range(8)]
    closing = threading.Thread(target=collection.close)
    results = together(collection, [lambda: closing.start() or puts[0](), *puts[1:]])
    closing.join(10)
    assert not closing.is_alive()
    assert all(isinstance(result, (PutResult, UnknownCollection)) for result in results)
    with pytest.raises(UnknownCollection):
        collection.put([Item("late", b"\0" * 8)])
    stored = [Item(f"{n}", b"\0" * 8) for n, result in enumerate(results) if isinstance(result, PutResult)]
    assert_holds(opened(tmp_path), by_id(stored))


# -- old schemas -------------------------------------------------------------------------------------------------------


def store_of_version_1(root: Path, items: Sequence[Item], bits: int, *, strict: bool = True) -> None:
    """What the first release left: every item with a digest, no sum of the contents, keys with gaps."""
    folder = root / "things"
    folder.mkdir(parents=True)
    db = sqlite3.connect(folder / STORE_FILE, isolation_level=None)
    migrations.m001_items(db)
    if not strict:
        db.execute("DROP TABLE items")
        db.execute("CREATE TABLE items (key INTEGER PRIMARY KEY, id, code, seal, payload, kind, input, digest)")
    db.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")
    meta = {"name": "things", "bits": bits, "model": None, "keep_inputs": True, "created_at": "2026-01-01T00:00:00Z"}
    db.executemany("INSERT INTO meta VALUES (?, ?)", [(name, json.dumps(value)) for name, value in meta.items()])
    for key, item in enumerate(items, start=1):
        packed = None if item.input is None else zlib.compress(item.input, 1)
        values = (item.code, seal_of(3 * key, item.id, item.code), item.payload_text(), item.kind, packed)
        db.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (3 * key, item.id, *values, old_digest(item)))
    db.execute("UPDATE state SET sequence = 7, last_key = ?, items = ?", (3 * len(items) + 5, len(items)))
    db.close()


@pytest.mark.parametrize("bits", [8, 24, 64, 256])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_store_of_the_first_version_opens(tmp_path: Path, count: int, bits: int) -> None:
    """reliability.md F7"""
    rng = np.random.default_rng(15)
    items = [
        Item(f"{n}", rng.bytes(bits // 8), *(({"n": n},) if n % 2 else (None, "text", rng.bytes(9)) if n % 4 else ()))
        for n in range(count)
    ]
    store_of_version_1(tmp_path, items, bits)
    for _ in range(2):
        collection = opened(tmp_path)
        assert collection.check().faults == ()
        assert list(collection.scan()) == sorted(items, key=lambda item: item.id)
        assert collection.put(items) == PutResult(0, 0, count)
        found = collection.search(np.zeros(bits // 8, np.uint8), radius=bits, limit=1000, filter={"n": {"$gte": 100}})
        assert {hit.id for hit in found.hits} == {item.id for item in items if (item.payload or {}).get("n", 0) >= 100}
        collection.put_codes(["new"], np.zeros((1, bits // 8), np.uint8))
        assert collection.search(np.zeros(bits // 8, np.uint8), k=count + 1).total == count + 1
        assert collection.delete(["new"]) == 1
        collection.close()


def test_a_damaged_store_of_the_first_version_is_named(tmp_path: Path) -> None:
    """reliability.md F1: a service with many collections must not fail to start over one of them."""
    store_of_version_1(tmp_path, some(3, np.random.default_rng(16)), 64, strict=False)
    with sqlite3.connect(tmp_path / "things" / STORE_FILE) as other:
        other.execute("UPDATE items SET code = NULL WHERE key = 6")
    other.close()
    with pytest.raises(StoreDamaged):
        opened(tmp_path)


# -- ties --------------------------------------------------------------------------------------------------------------


def test_ties_are_ordered_the_same_whether_ids_are_looked_up_or_walked(tmp_path: Path) -> None:
    """Promise 4, at 5,000 equal codes: `Reader.ids` chooses a way by how many tie, and both are one."""
    rng = np.random.default_rng(17)
    collection = make(tmp_path, 16)
    names = [f"{n:05d}" for n in rng.permutation(5000)]
    collection.put_codes(names, np.zeros((5000, 2), np.uint8))
    collection.put_codes(names[:50], np.ones((50, 2), np.uint8))
    with collection._live.state() as (reader, snapshot):
        tied = snapshot.within(np.zeros(2, np.uint8), 0).keys
        assert len(tied) == 4950
        for keys in (tied.tolist(), tied[::3].tolist(), tied[:1].tolist(), []):
            for after in (None, "02500", "04999", "~"):
                for limit in (1, 7, 5000):
                    answers = []
                    for count in (0, 1 << 40):  # everything is too much to look up; nothing is
                        reader.count = count
                        answers.append(reader.ids(keys, after=after, limit=limit))
                    assert answers[0] == answers[1]
                    assert [id for id, _ in answers[0]] == sorted(id for id, _ in answers[0])
    want = sorted(names[50:])
    page = collection.search(np.zeros(2, np.uint8), k=7)
    assert [hit.id for hit in page.hits] == want[:7]
    got: list[str] = []
    while page.cursor or not got:
        page = collection.search(np.zeros(2, np.uint8), radius=0, limit=700, cursor=page.cursor)
        got += [hit.id for hit in page.hits]
    assert got == want


# -- merges ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets for however few items, which a large collection has."""
    monkeypatch.setitem(MultiHashIndex.build.__func__.__kwdefaults__, "hashed_from", 0)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("hashed")
def test_merges_beside_writes_lose_nothing(tmp_path: Path) -> None:
    """X1, of the writer's side: what is added and removed while a base is made is there or gone afterwards."""
    collection = make(tmp_path)
    rng = np.random.default_rng(18)
    held: dict[str, Item] = {}
    failures: list[BaseException] = []
    stop = threading.Event()

    def write() -> None:
        try:
            while not stop.is_set():
                batch = by_id([Item(f"i{n}", rng.bytes(8), {"n": 1}) for n in rng.integers(0, 400, 5)])
                collection.put(list(batch.values()))
                held.update(batch)
                codes = {f"i{n}": rng.bytes(8) for n in rng.integers(0, 400, 20)}
                collection.put_codes(list(codes), np.frombuffer(b"".join(codes.values()), np.uint8).reshape(-1, 8))
                held.update({id: Item(id, code) for id, code in codes.items()})
                doomed = [f"i{n}" for n in rng.integers(0, 400, 15)]
                collection.delete(doomed)
                for id in doomed:
                    held.pop(id, None)
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    deadline = time.monotonic() + 2
    merges = 0
    while time.monotonic() < deadline:
        collection.merge()
        merges += 1
    stop.set()
    writer.join()
    assert not failures
    assert merges > 10
    assert_holds(collection, held)
    collection.merge()
    assert_holds(collection, held)
    collection.close()
    assert uses_its_copy(tmp_path, held)


def test_a_merge_for_which_there_is_no_thread_fails_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """D3: the write is on disk and in memory, and says so."""
    collection = make(tmp_path, merge_at=3)
    items = some(20, np.random.default_rng(19))
    with monkeypatch.context() as patch:

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        assert collection.put(items[:10]) == PutResult(10, 0, 0)
    assert "can't start new thread" in caplog.text
    collection.put(items[10:])
    assert_holds(collection, by_id(items))
    collection.close()


def test_sizes_are_told_while_files_come_and_go(tmp_path: Path) -> None:
    collection = make(tmp_path)
    collection.put(some(100, np.random.default_rng(20)))
    stop = threading.Event()

    def merge() -> None:
        while not stop.is_set():
            collection.merge()

    merging = threading.Thread(target=merge)
    merging.start()
    sizes = [collection.bytes_on_disk() for _ in range(3000)]
    stop.set()
    merging.join()
    assert min(sizes) > 0


def test_a_filter_worked_out_for_a_later_state_is_not_used_for_an_earlier_one(tmp_path: Path) -> None:
    """A search that began before a delete still finds what was deleted, whoever asks the same filter meanwhile."""
    collection = make(tmp_path)
    collection.put([Item("a", b"\0" * 8, {"x": 1}), Item("b", b"\0" * 8, {"x": 1})])
    condition = filters.parse({"x": 1})
    with collection._live.state() as (reader, earlier):
        collection.delete(["a"])
        collection.put([Item("c", b"\0" * 8, {"x": 1})])
        for asked in range(2):
            with collection._live.state() as (later_reader, later):
                assert len(collection._selections.restrict(later_reader, later, condition)) == 2
            assert len(collection._selections.restrict(reader, earlier, condition)) == 2, asked
            found = collection._selections.restrict(reader, earlier, condition).within(np.zeros(8, np.uint8), 0)
            assert [id for id, _ in reader.ids(found.keys.tolist(), after=None, limit=9)] == ["a", "b"]


def test_filters_keep_no_replaced_base_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many filters are known and however often the index is made anew, memory holds one or two of it."""
    monkeypatch.setattr("index.query.CHECKED", 0)
    collection = make(tmp_path)
    rng = np.random.default_rng(21)
    bases = []
    for number in range(10):
        collection.put(some(200, rng))
        collection.merge()
        collection.search(np.zeros(8, np.uint8), k=1, filter={"n": {"$gte": number}})
        bases.append(weakref.ref(collection._live.snapshot.base._keys))
    gc.collect()
    assert sum(base() is not None for base in bases) <= 2
