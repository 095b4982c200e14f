"""A collection equals a dict and the brute force after any mix of writes, deletes and restarts."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from index import (
    Catalogue,
    CollectionConfig,
    EmbeddedCollection,
    Item,
    ModelKey,
    PutResult,
    filters,
    hamming,
    new_id,
    query,
    sidecar,
    unpack,
)
from index.catalogue import STORE_FILE
from index.errors import (
    CollectionExists,
    InvalidCode,
    InvalidItem,
    InvalidQuery,
    ModelMismatch,
    StoreDamaged,
    StoreUnavailable,
    UnknownCollection,
    UnknownItem,
)

BITS = 16


def config(name: str = "things", model: ModelKey | None = None) -> CollectionConfig:
    return CollectionConfig(name, BITS, model, True, "2026-01-01T00:00:00Z")


TUNING = {"merge_at": 3, "copy_from": 0, "quiet_s": 0.001}
"""Merges and copies at every turn, so that few items meet all that many would."""


def make(root: Path, *, merge_at: int = 3) -> EmbeddedCollection:
    folder = root / "things"
    folder.mkdir(parents=True)
    EmbeddedCollection.create(folder / STORE_FILE, config())
    return EmbeddedCollection(folder / STORE_FILE, **{**TUNING, "merge_at": merge_at})


def expected(
    items: dict[str, Item], code: bytes, radius: int | None = None, filter: Any = None
) -> list[tuple[int, str]]:
    """Every item within the radius that matches, by (distance, id): all a search can find, by definition."""
    near = np.frombuffer(code, np.uint8)
    matches = filters.parse(filter or {}).matches
    pairs = [(int(hamming(np.frombuffer(item.code, np.uint8), near)), item.id) for item in items.values()]
    reach = BITS if radius is None else radius
    return sorted(pair for pair in pairs if pair[0] <= reach and matches(items[pair[1]].payload))


def by_score(items: dict[str, Item], pairs: list[tuple[int, str]], k: int | None, logits: Any) -> list[tuple[Any, str]]:
    """Of the k first `pairs` and what ties with the last of them, the k best (score, id), by (-score, id)."""
    if k is not None and k < len(pairs):
        pairs = [pair for pair in pairs if pair[0] <= pairs[k - 1][0]]
    scores = {id: score(items[id].code, logits) for _, id in pairs}
    return [(pytest.approx(scores[id]), id) for id in sorted(scores, key=lambda id: (-scores[id], id))[:k]]


def score(code: bytes, logits: Any) -> float:
    """The share of |logit| in the bits that agree with the signs, less that in those that do not."""
    weights = np.where(unpack(np.frombuffer(code, np.uint8)) == (logits > 0), 1, -1) * np.abs(logits)
    return float(weights.sum() / np.abs(logits).sum()) if logits.any() else 1.0


codes = st.binary(min_size=2, max_size=2) | st.sampled_from([b"\0\0", b"\0\1", b"\xff\xff"])
ids = st.sampled_from(["a", "b", "B", "ä", "日本", "a/b", "0", "z" * 512, "\u200bx", *map(str, range(20))])
values = st.integers(-3, 3) | st.text(max_size=3)
items = st.builds(
    Item,
    ids,
    codes,
    st.none() | st.dictionaries(st.sampled_from(["x", "y"]), values | st.lists(values, max_size=2)),
    st.none(),
    st.none(),
) | st.builds(Item, ids, codes, st.none(), st.just("text"), st.binary(max_size=5))
fields = st.sampled_from(["x", "y", "nobody.has.this"])
leaves = st.dictionaries(
    fields,
    st.sampled_from([0, 1, -3, "", {"$gte": 0}, {"$lt": 2, "$ne": -1}, {"$in": [1, 2, "a"]}, {"$gt": "0"}])
    | st.booleans().map(lambda there: {"$exists": there}),
    max_size=2,
)
conditions = leaves | leaves.map(lambda one: {"$not": one}) | st.tuples(leaves, leaves).map(lambda two: {"$or": [*two]})
# Sums of quarters are exact, so that what ties, ties in every order of adding; others hardly ever do.
quarters = st.lists(st.integers(-4, 4), min_size=BITS, max_size=BITS).map(lambda numbers: np.array(numbers) / 4)
logits = quarters | st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).normal(size=BITS))


class CollectionMachine(RuleBasedStateMachine):
    """The random walk of reliability.md X8."""

    @initialize(checked=st.sampled_from([0, 3, query.CHECKED]))
    def start(self, checked: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(query, "CHECKED", checked)  # so that of few items, too, the matching ones are worked out
        self.folder = tempfile.TemporaryDirectory()
        self.collection = make(Path(self.folder.name))
        self.known: dict[str, Item] = {}

    def teardown(self) -> None:
        if hasattr(self, "collection"):
            self.collection.close()
            self.folder.cleanup()
            self.patch.undo()

    # -- changes -------------------------------------------------------------------------------------------

    @rule(batch=st.lists(items, max_size=6))
    def put(self, batch: list[Item]) -> None:
        self.stored(self.collection.put(batch), batch)

    @rule(batch=st.lists(st.builds(Item, ids, codes), max_size=12))
    def put_codes(self, batch: list[Item]) -> None:
        array = np.frombuffer(b"".join(item.code for item in batch), np.uint8).reshape(-1, BITS // 8)
        self.stored(self.collection.put_codes([item.id for item in batch], array), batch)

    def stored(self, result: PutResult, batch: list[Item]) -> None:
        latest = {item.id: item for item in batch}
        assert result.created == sum(id not in self.known for id in latest)
        assert result.unchanged == sum(self.known.get(id) == item for id, item in latest.items())
        assert result.created + result.updated + result.unchanged == len(latest)
        self.known |= latest

    @rule(doomed=st.lists(ids, max_size=3))
    def delete(self, doomed: list[str]) -> None:
        assert self.collection.delete(doomed) == len(set(doomed) & set(self.known))
        for id in doomed:
            self.known.pop(id, None)

    @rule(filter=conditions)
    def delete_where(self, filter: Any) -> None:
        matches = filters.parse(filter).matches
        doomed = [id for id, item in self.known.items() if matches(item.payload)]
        assert self.collection.delete_where(filter) == len(doomed)
        for id in doomed:
            del self.known[id]

    @rule(batch=st.lists(items, min_size=1, max_size=3))
    def a_bad_item_refuses_the_batch(self, batch: list[Item]) -> None:
        with pytest.raises(InvalidCode, match=f"item {len(batch)}"):
            self.collection.put([*batch, Item("a", b"\0")])

    # -- what changes nothing ------------------------------------------------------------------------------

    @rule()
    def merge(self) -> None:
        self.collection.merge()

    @rule()
    def compact(self) -> None:
        self.collection.compact()

    @rule(field=fields)
    def index_field(self, field: str) -> None:
        self.collection.index_field(field)
        assert field in self.collection.fields

    @rule(copy=st.sampled_from(["kept", "damaged", "deleted"]), at=st.integers(0, 2**20))
    def restart(self, copy: str, at: int) -> None:
        self.collection.close()
        store = Path(self.folder.name) / "things" / STORE_FILE
        path = store.with_name(sidecar.NAME)
        if copy == "deleted":
            path.unlink(missing_ok=True)
        elif copy == "damaged" and path.exists():
            data = bytearray(path.read_bytes())
            data[at % len(data)] ^= 1 << at % 8
            path.write_bytes(data)
        self.collection = EmbeddedCollection(store, **TUNING)

    # -- searches ------------------------------------------------------------------------------------------

    @rule(code=codes, k=st.integers(1, 12), radius=st.none() | st.integers(0, BITS), filter=st.none() | conditions)
    def nearest(self, code: bytes, k: int, radius: int | None, filter: Any) -> None:
        want = expected(self.known, code, radius, filter)[:k]
        array = np.frombuffer(code, np.uint8)
        page = self.collection.search(array, k=k, radius=radius, filter=filter, codes=True)
        assert [(hit.distance, hit.id) for hit in page.hits] == want
        assert (page.total, page.complete) == (len(want), True)
        assert self.collection.search(array, k=k, radius=radius, filter=filter, count_only=True).total == len(want)
        for hit in page.hits:
            assert hit.code == self.known[hit.id].code
            assert hit.payload == self.known[hit.id].payload

    @rule(code=codes, radius=st.integers(0, BITS), limit=st.integers(1, 4), filter=st.none() | conditions)
    def pages(self, code: bytes, radius: int, limit: int, filter: Any) -> None:
        want = expected(self.known, code, radius, filter)
        assert self.all_pages(len(want), limit, code=code, radius=radius, filter=filter) == want

    @rule(code=codes, k=st.integers(1, 12), radius=st.none() | st.integers(0, BITS), logits=logits, filter=conditions)
    def nearest_by_soft_distance(self, code: bytes, k: int, radius: int | None, logits: Any, filter: Any) -> None:
        found = expected(self.known, code, radius, filter)
        page = self.collection.search(
            np.frombuffer(code, np.uint8), k=k, radius=radius, logits=logits, filter=filter, codes=True
        )
        assert [(hit.score, hit.id) for hit in page.hits] == by_score(self.known, found, k, logits)
        assert (page.total, page.complete) == (min(k, len(found)), True)
        assert {(hit.distance, hit.id) for hit in page.hits} <= set(found)
        assert all(hit.code == self.known[hit.id].code for hit in page.hits)

    @rule(
        code=codes, radius=st.integers(0, BITS), limit=st.integers(1, 4), logits=logits, filter=st.none() | conditions
    )
    def pages_by_soft_distance(self, code: bytes, radius: int, limit: int, logits: Any, filter: Any) -> None:
        found = expected(self.known, code, radius, filter)
        got = self.all_pages(len(found), limit, code=code, radius=radius, logits=logits, filter=filter)
        assert [id for _, id in got] == [id for _, id in by_score(self.known, found, None, logits)]

    def all_pages(self, total: int, limit: int, *, code: bytes, **asked: Any) -> list[tuple[int, str]]:
        got: list[tuple[int, str]] = []
        cursor = None
        while True:
            page = self.collection.search(np.frombuffer(code, np.uint8), limit=limit, cursor=cursor, **asked)
            assert page.total == total
            assert len(page.hits) <= limit
            got += [(hit.distance, hit.id) for hit in page.hits]
            cursor = page.cursor
            if page.complete:
                return got

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "collection"):
            assert self.collection.check().faults == ()
            assert len(self.collection) == len(self.known)
            assert self.collection.items(limit=100) == sorted(self.known.values(), key=lambda item: item.id)


TestCollectionMachine = CollectionMachine.TestCase
TestCollectionMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_filter_means_the_same_before_and_after_it_is_known(tmp_path: Path) -> None:
    """What is reranked are the k nearest that match, however they were found."""
    collection = make(tmp_path)
    rng = np.random.default_rng(5)
    items = {f"{number:02d}": Item(f"{number:02d}", rng.bytes(2), {"x": number % 2}) for number in range(30)}
    collection.put(list(items.values()))
    code, logits, filter = rng.bytes(2), rng.normal(size=BITS), {"x": 1}
    found = expected(items, code, filter=filter)
    for checked in (query.CHECKED, 0):
        for k in range(1, 20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(query, "CHECKED", checked)
                page = collection.search(np.frombuffer(code, np.uint8), k=k, logits=logits, filter=filter)
            assert [(hit.score, hit.id) for hit in page.hits] == by_score(items, found, k, logits), (checked, k)


@pytest.mark.parametrize("filter", [{"y": 2}, {"nobody.has.this": 1}])
@pytest.mark.parametrize("logits", [None, np.ones(BITS), np.zeros(BITS)], ids=["hard", "soft", "no logit"])
@pytest.mark.parametrize("asked", [{"k": 3}, {"radius": 0}, {"k": 3, "radius": 0}], ids=str)
@pytest.mark.parametrize("stored", [0, 1])
def test_searches_that_find_nothing(tmp_path: Path, stored: int, asked: Any, logits: Any, filter: Any) -> None:
    collection = make(tmp_path)
    collection.put([Item("far", b"\xff\xff")] * stored)
    page = collection.search(np.zeros(2, np.uint8), logits=logits, filter=filter, **asked)
    assert (list(page.hits), page.total, page.complete) == ([], 0, True)
    assert collection.delete_where({"nobody.has.this": 1}) == 0


def test_many_equal_codes_are_ordered_by_id(tmp_path: Path) -> None:
    collection = make(tmp_path, merge_at=100)
    rng = np.random.default_rng(0)
    names = [f"{number:05d}" for number in rng.permutation(5000)]
    for start in range(0, 5000, 1250):
        collection.put([Item(id, b"\0\0") for id in names[start : start + 1250]])
    page = collection.search(np.zeros(2, np.uint8), k=7)
    assert [hit.id for hit in page.hits] == [f"{number:05d}" for number in range(7)]
    page = collection.search(np.zeros(2, np.uint8), radius=0, limit=10)
    page = collection.search(np.zeros(2, np.uint8), radius=0, limit=10, cursor=page.cursor)
    assert [hit.id for hit in page.hits] == [f"{number:05d}" for number in range(10, 20)]
    assert page.total == 5000


def test_pages_neither_skip_nor_repeat_what_stays_while_others_come_and_go(tmp_path: Path) -> None:
    """reliability.md S4"""
    collection = make(tmp_path)
    rng = np.random.default_rng(3)
    stay = {f"stay-{number:03d}" for number in range(120)}
    collection.put([Item(id, rng.bytes(2)) for id in stay])
    seen: list[str] = []
    cursor = None
    for step in range(1000):
        page = collection.search(np.zeros(2, np.uint8), radius=BITS, limit=7, cursor=cursor)
        seen += [hit.id for hit in page.hits]
        cursor = page.cursor
        if page.complete:
            break
        collection.put([Item(f"come-{step}-{number}", rng.bytes(2)) for number in range(3)])
        collection.delete([f"come-{step - 1}-{number}" for number in range(3)])
    assert page.complete
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)


def test_readers_beside_a_writer_see_only_committed_states(tmp_path: Path) -> None:
    """reliability.md X1, a short one: every answer equals the brute force over some state between call and return."""
    collection = make(tmp_path, merge_at=8)
    states: list[dict[str, Item]] = [{}]
    failures: list[str] = []
    stop = threading.Event()

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            query = rng.bytes(2)
            first = max(0, len(states) - 2)  # the state before the one being committed may still be the published one
            page = collection.search(np.frombuffer(query, np.uint8), radius=6, limit=1000)
            got = [(hit.distance, hit.id) for hit in page.hits]
            last = len(states)
            if not any([p for p in expected(states[at], query) if p[0] <= 6] == got for at in range(first, last)):
                failures.append(f"{got} is no answer of states {first} to {last}")
                return

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for reader in readers:
        reader.start()
    rng = np.random.default_rng(99)
    deadline = time.monotonic() + 4
    state: dict[str, Item] = {}
    while time.monotonic() < deadline and not failures:
        batch = [Item(f"i{rng.integers(40)}", rng.bytes(2)) for _ in range(rng.integers(1, 6))]
        doomed = [f"i{rng.integers(40)}" for _ in range(2)]
        if rng.random() < 0.5:
            state = {**state, **{item.id: item for item in batch}}
            states.append(state)  # before the commit: a reader may see it from then on
            collection.put(batch)
        else:
            state = {id: item for id, item in state.items() if id not in doomed}
            states.append(state)
            collection.delete(doomed)
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert len(states) > 50


def test_codes_of_another_model_are_refused(tmp_path: Path) -> None:
    """reliability.md S3: the same width is no excuse"""
    catalogue = Catalogue(tmp_path)
    collection = catalogue.create(config(model=ModelKey("m", 1, "a" * 64)))
    collection.put([Item("a", b"\0\0")], fingerprint="a" * 64)
    with pytest.raises(ModelMismatch, match="m:1"):
        collection.put([Item("b", b"\0\0")], fingerprint="b" * 64)
    assert len(collection) == 1


@pytest.mark.parametrize("id", ["", "x" * 513, "ä" * 257, "a\0b", "\ud800"])
def test_ids_that_are_refused(tmp_path: Path, id: str) -> None:
    collection = make(tmp_path)
    with pytest.raises(InvalidItem):
        collection.put([Item(id, b"\0\0")])
    assert len(collection) == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 0},
        {"k": -1},
        {"radius": -1},
        {"radius": BITS + 1},
        {"k": 1, "cursor": "x"},
        {"radius": 1, "cursor": "x"},
        {"radius": 1, "cursor": "WzAsImEiLDFd"},
    ],
)
def test_searches_that_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(InvalidQuery):
        make(tmp_path).search(np.zeros(2, np.uint8), **options)  # type: ignore[arg-type]


def test_a_cursor_belongs_to_its_search(tmp_path: Path) -> None:
    collection = make(tmp_path)
    collection.put([Item(str(number), b"\0\0") for number in range(5)])
    cursor = collection.search(np.zeros(2, np.uint8), radius=3, limit=2).cursor
    assert cursor
    with pytest.raises(InvalidQuery, match="another search"):
        collection.search(np.zeros(2, np.uint8), radius=4, limit=2, cursor=cursor)
    with pytest.raises(InvalidQuery, match="another search"):
        collection.search(np.ones(2, np.uint8), radius=3, limit=2, cursor=cursor)


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


def test_unknown_items_are_said_to_be_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownItem, match="'nobody'"):
        make(tmp_path).get("nobody")


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
