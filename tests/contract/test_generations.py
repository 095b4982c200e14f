"""A collection goes over to another model and back while it is read and written; codes of two models never mix.

(reliability.md S3, X8)
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collecting import old_digest
from generating import (
    BITS,
    assert_holds,
    by_id,
    code_by,
    fill,
    go_over,
    item_of,
    key_of,
    make,
    models_of,
    opened,
    put,
    some,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from index import CollectionConfig, Item, ModelKey, PutResult, hamming, migrations, sidecar
from index.catalogue import STORE_FILE
from index.errors import (
    GenerationChanged,
    InputsMissing,
    InvalidCode,
    InvalidQuery,
    ModelMismatch,
    NoSuchGeneration,
    StoreDamaged,
)
from index.live import Live
from index.source import seal_of

ids = st.sampled_from(["a", "b", "ä", "日本", *map(str, range(12))])
things = st.builds(item_of, ids, st.binary(max_size=2), st.none() | st.fixed_dictionaries({"n": st.integers(0, 3)}))


class GenerationMachine(RuleBasedStateMachine):
    """The random walk of reliability.md X8, with changes of model at any moment."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.collection = make(Path(self.folder.name))
        self.known: dict[str, Item] = {}
        self.serving = 0
        self.other: tuple[int, str, int] | None = None  # number, state, model

    def teardown(self) -> None:
        if hasattr(self, "collection"):
            self.collection.close()
            self.folder.cleanup()

    @property
    def models(self) -> list[int]:
        return [self.serving] if self.other is None else [self.serving, self.other[2]]

    @rule(batch=st.lists(things, max_size=5), turned=st.booleans())
    def put(self, batch: list[Item], turned: bool) -> None:
        """Whichever of the two models the writer takes for the first."""
        models = self.models[::-1] if turned else self.models
        result = put(self.collection, batch, models)
        latest = {item.id: item for item in batch}
        created = [id for id in latest if id not in self.known]
        same = [id for id in latest if id in self.known and latest[id] == self.known[id]]
        assert result == PutResult(len(created), len(latest) - len(created) - len(same), len(same))
        self.known.update(latest)

    @rule(batch=st.lists(things, min_size=1, max_size=3))
    def put_for_one_model(self, batch: list[Item]) -> None:
        """A writer that does not know of the second model is told; nothing of it is stored."""
        if self.other is not None:
            with pytest.raises(GenerationChanged):
                put(self.collection, batch, [self.serving])
            with pytest.raises(InputsMissing):
                self.collection.put_codes(["x"], np.zeros((1, BITS[self.serving] // 8), np.uint8))

    @rule(doomed=st.lists(ids, max_size=4))
    def delete(self, doomed: list[str]) -> None:
        assert self.collection.delete(doomed) == len({id for id in doomed if id in self.known})
        for id in doomed:
            self.known.pop(id, None)

    @rule(n=st.integers(0, 3))
    def delete_where(self, n: int) -> None:
        gone = [id for id, item in self.known.items() if item.payload == {"n": n}]
        assert self.collection.delete_where({"n": n}) == len(gone)
        for id in gone:
            del self.known[id]

    @rule(model=st.sampled_from(range(len(BITS))))
    def begin(self, model: int) -> None:
        if model == self.serving:
            with pytest.raises((ModelMismatch, NoSuchGeneration)):
                self.collection.generations.begin(key_of(model), BITS[model])
        elif self.other is not None and self.other[1] != "kept":
            with pytest.raises(NoSuchGeneration):
                self.collection.generations.begin(key_of(model), BITS[model])
        else:
            generation = self.collection.generations.begin(key_of(model), BITS[model])
            self.other = generation.number, "filling", model

    @precondition(lambda self: self.other is not None)
    @rule(most=st.integers(0, 20))
    def fill(self, most: int) -> None:
        number, state, model = self.other  # type: ignore[misc]
        if state == "filling":
            fill(self.collection, number, model, most=most)
        else:
            with pytest.raises(NoSuchGeneration):
                fill(self.collection, number, model)

    @precondition(lambda self: self.other is not None)
    @rule(whole=st.booleans(), ready=st.booleans())
    def flip(self, whole: bool, ready: bool) -> None:
        number, state, model = self.other  # type: ignore[misc]
        if state == "filling" and whole:
            fill(self.collection, number, model)
            if ready:
                self.collection.generations.make_ready(number)
                self.other = number, "ready", model
        held = next(one for one in self.collection.generations.all() if one.number == number)
        if held.items < len(self.known):
            with pytest.raises(NoSuchGeneration):
                self.collection.generations.flip(number)
            return
        old = next(one for one in self.collection.generations.all() if one.state == "serving")
        self.collection.generations.flip(number)
        self.other, self.serving = (old.number, "kept", self.serving), model

    @precondition(lambda self: self.other is not None)
    @rule()
    def drop(self) -> None:
        assert self.collection.generations.drop(self.other[0])  # type: ignore[index]
        self.other = None

    @rule()
    def merge(self) -> None:
        self.collection.merge()

    @rule()
    def compact(self) -> None:
        self.collection.compact()

    @rule(copy=st.booleans())
    def restart(self, copy: bool) -> None:
        self.collection.close(keep_copy=copy)
        self.collection = opened(Path(self.folder.name))
        if self.other is not None and self.other[1] == "filling":
            self.other = None

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "collection"):
            return
        assert_holds(self.collection, self.known, self.serving)
        states = {(one.number, one.state) for one in self.collection.generations.all() if one.state != "serving"}
        assert states == (set() if self.other is None else {self.other[:2]})
        for model in range(len(BITS)):
            query, fingerprint = np.zeros(BITS[model] // 8, np.uint8), key_of(model).fingerprint
            if model != self.serving:
                with pytest.raises((GenerationChanged, ModelMismatch)):
                    self.collection.search(query, k=1, fingerprint=fingerprint)


TestGenerations = GenerationMachine.TestCase
TestGenerations.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


@pytest.mark.slow
class TestGenerationsAtLength(GenerationMachine.TestCase):  # type: ignore[name-defined, misc]
    settings = settings(max_examples=1000, stateful_step_count=60, deadline=None)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_what_has_no_input_cannot_go_over(tmp_path: Path) -> None:
    collection = make(tmp_path)
    put(collection, some(5), [0])
    collection.put([Item("bare", b"\0\0"), Item("with payload", b"\0\0", {"n": 1})])
    with pytest.raises(InputsMissing, match=r"2 of 7 items .* no kept input"):
        collection.generations.begin(key_of(1), 16)
    assert [one.state for one in collection.generations.all()] == ["serving"]
    collection.delete(["bare", "with payload"])
    generation = collection.generations.begin(key_of(1), 16)
    for refused in ([Item("bare", b"\0\0")], [Item("bare", b"\0\0", {"n": 1})]):
        with pytest.raises(InputsMissing, match="takes no ready-made ones"):
            collection.put(refused)
    collection.generations.drop(generation.number)
    assert collection.put([Item("bare", b"\0\0")]) == PutResult(1, 0, 0)


def test_codes_of_the_wrong_width_are_refused(tmp_path: Path) -> None:
    collection = make(tmp_path)
    put(collection, some(3), [0])
    number = collection.generations.begin(key_of(2), 24).number
    with pytest.raises(InvalidCode):
        collection.generations.fill(number, [1, 2], np.zeros((2, 2), np.uint8))
    items = [Item("x", b"\0\0", None, "text", b"x")]
    with pytest.raises(InvalidCode):
        collection.put(items, fingerprint=key_of(0).fingerprint, beside={key_of(2).fingerprint: [b"\0\0"]})
    with pytest.raises(ModelMismatch):
        put(collection, some(1), [0, 3])
    assert_holds(collection, by_id(some(3)), 0)


def test_codes_for_what_is_gone_or_has_one_are_left_out(tmp_path: Path) -> None:
    collection = make(tmp_path)
    put(collection, some(4), [0])
    number = collection.generations.begin(key_of(1), 16).number
    collection.delete(["i00001"])
    put(collection, some(1, first=9), [0, 1])
    assert fill(collection, number, 1, most=2) == 2
    assert collection.generations.fill(number, [2, 999], np.zeros((2, 2), np.uint8)) == 0
    assert fill(collection, number, 1) == 1
    collection.generations.flip(number)
    assert_holds(collection, by_id([*some(1), *some(2, first=2), *some(1, first=9)]), 1)


def test_a_cursor_does_not_outlive_its_generation(tmp_path: Path) -> None:
    """Also where the code that is searched for happens to stay the same."""
    collection = make(tmp_path)
    put(collection, some(20), [0])
    query = np.zeros(2, np.uint8)
    cursor = collection.search(query, radius=16, limit=5).cursor
    go_over(collection, 1)
    with pytest.raises(InvalidQuery, match="gone over to another model"):
        collection.search(query, radius=16, limit=5, cursor=cursor)


def test_a_number_is_never_used_again(tmp_path: Path) -> None:
    """A search that still runs on a generation that was given up must not be told the name of a later one."""
    collection = make(tmp_path)
    first = collection.generations.begin(key_of(1), 16).number
    collection.generations.drop(first)
    collection.close()
    collection = opened(tmp_path)
    assert collection.generations.begin(key_of(3), 8).number > first


# -- restarts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
@pytest.mark.parametrize("stage", ["filling", "ready", "kept"])
def test_a_restart_at_every_stage(tmp_path: Path, stage: str, killed: bool) -> None:
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
    if killed:
        store = collection._live._store
        store._writer.close()  # no more than the end of a process does: nothing is tidied up
        store._closed.set()
    else:
        collection.close()
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


# -- damage ------------------------------------------------------------------------------------------------------------


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


# -- the schema before it ----------------------------------------------------------------------------------------------


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


# -- under load --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_readers_and_writers_beside_changes_of_model(tmp_path: Path, seconds: float) -> None:
    """Every answer is that of one model, and of the one that the query was encoded by; no write is lost."""
    collection = make(tmp_path, merge_at=50, copy_from=100)
    held = by_id(some(400))
    put(collection, list(held.values()), [0])
    stop = threading.Event()
    failures: list[BaseException] = []
    counts = {"searched": 0, "again": 0, "written": 0}

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)
                stop.set()

        return threading.Thread(target=run)

    def search() -> None:
        rng = np.random.default_rng(threading.get_ident() % 1000)
        while not stop.is_set():
            key = collection.config.model
            assert key is not None
            model = int(key.name[1:])
            near = rng.bytes(BITS[model] // 8)
            try:
                page = collection.search(np.frombuffer(near, np.uint8), k=8, codes=True, fingerprint=key.fingerprint)
            except GenerationChanged:
                counts["again"] += 1
                continue
            assert page.model == key
            for hit in page.hits:
                item = item_of(hit.id, b"%d" % int(hit.id[1:6]))
                assert hit.code == code_by(model, item)
                assert hit.distance == int(hamming(np.frombuffer(near, np.uint8), np.frombuffer(hit.code, np.uint8)))
            counts["searched"] += 1

    def write() -> None:
        rng = np.random.default_rng(7)
        while not stop.is_set():
            batch = [item for n in rng.integers(0, 600, 10) for item in some(1, first=int(n))]
            while True:
                try:
                    put(collection, batch, models_of(collection))
                    break
                except GenerationChanged:
                    counts["again"] += 1
            held.update(by_id(batch))
            doomed = [f"i{n:05d}" for n in rng.integers(0, 600, 8)]
            collection.delete(doomed)
            for id in doomed:
                held.pop(id, None)
            counts["written"] += 1

    threads = [guarded(search), guarded(search), guarded(write)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    flips, waits = 0, []
    rng = np.random.default_rng(8)
    while time.monotonic() < deadline and not stop.is_set():
        serving = models_of(collection)[0]
        model = int(rng.choice([one for one in range(len(BITS)) if one != serving]))
        number = collection.generations.begin(key_of(model), BITS[model]).number
        fill(collection, number, model)
        waits.append(collection.generations.flip(number))
        flips += 1
        if flips % 3 == 0:
            waits.append(collection.generations.flip(collection.generations.beside("kept").number))
        if flips % 4 == 0:
            collection.generations.drop(collection.generations.beside("kept").number)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert flips > 5
    assert min(counts["searched"], counts["written"]) > 10, counts
    print(flips, counts, f"writers waited {max(waits) * 1000:.1f} ms at most")  # noqa: T201
    assert_holds(collection, held, models_of(collection)[0])
    collection.close()


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


def test_of_two_that_flip_or_give_up_at_once_one_is_told(tmp_path: Path) -> None:
    """Rollbacks that come together: each is done or refused, and what is refused has done nothing."""
    collection = make(tmp_path)
    put(collection, some(200), [0])
    number = go_over(collection, 1).number
    results: list[Any] = []

    def run(call: Any) -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    for calls in ([lambda: collection.generations.flip(0)] * 4, [lambda: collection.generations.drop(number)] * 4):
        results.clear()
        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [one for one in results if one is not False and not isinstance(one, NoSuchGeneration)]
        assert len(done) == 1, results
        assert not isinstance(done[0], Exception), results
        assert_holds(collection, by_id(some(200)), 0)
    collection.close()


def test_a_flip_to_what_was_given_up_meanwhile_is_refused(tmp_path: Path) -> None:
    collection = make(tmp_path)
    put(collection, some(20), [0])
    number = go_over(collection, 1).number
    with collection.generations.trial(0) as trial:
        pass
    collection.generations.drop(0)
    with pytest.raises(NoSuchGeneration):
        collection.generations.flip(0, trial.successor)
    with pytest.raises(NoSuchGeneration), collection.generations.trial(0):
        pass
    assert_holds(collection, by_id(some(20)), 1)
    assert [one.number for one in collection.generations.all()] == [number]
    collection.close()
