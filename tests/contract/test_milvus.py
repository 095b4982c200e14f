"""What is about Milvus: more hits than it gives at once, what its types cannot hold, damage, its absence."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import places
import pytest
from generating import assert_holds, by_id, fill, go_over, item_of, key_of, put, some

from index import EmbeddedCollection, Item, PutResult, hamming
from index.errors import BackendUnavailable, InvalidItem, StoreDamaged, UnknownCollection
from index.milvus import Connection, MilvusCatalogue, MilvusCollection, finding
from index.milvus.names import new_generation, new_inputs, to_key
from index.milvus.parts import Parts
from index.milvus.schema import create_items
from index.milvus.table import Rows

pytestmark = places.in_milvus


@pytest.fixture
def collection() -> Iterator[MilvusCollection]:
    """An empty collection of 16 bits."""
    made = places.milvus().make()
    yield made
    places.milvus().done(made)


def table_of(collection: MilvusCollection) -> Rows:
    return Rows(places.milvus().connection, collection.look().serving.physical)


# -- more than Milvus gives --------------------------------------------------------------------------------------------


def fill_with_few_codes(collection: MilvusCollection, count: int) -> dict[str, bytes]:
    """Items of which many have the same code."""
    rng = np.random.default_rng(4)
    codes = [b"\0\0", b"\0\1", b"\1\0", b"\7\0", b"\xff\xff"]
    held = {f"{number:06d}": codes[at] for number, at in enumerate(rng.choice(5, count, p=[0.5, 0.2, 0.1, 0.1, 0.1]))}
    for start in range(0, count, 10_000):
        ids = list(held)[start : start + 10_000]
        collection.put_codes(ids, np.frombuffer(b"".join(held[id] for id in ids), np.uint8).reshape(-1, 2))
    return held


def complete(collection: MilvusCollection, held: dict[str, bytes], ks: list[int], limit: int) -> None:
    """Every radius by pages and at once, and the nearest for each of `ks`."""
    query = np.zeros(2, np.uint8)
    order = sorted((int(hamming(np.frombuffer(code, np.uint8), query)), id) for id, code in held.items())
    for radius in (0, 1, 3, 16):
        want = [pair for pair in order if pair[0] <= radius]
        got: list[tuple[int, str]] = []
        cursor = None
        while True:
            page = collection.search(query, radius=radius, limit=limit, cursor=cursor, payloads=False)
            assert page.total == len(want)
            got += [(hit.distance, hit.id) for hit in page.hits]
            cursor = page.cursor
            if page.complete:
                break
        assert got == want, radius
        assert collection.search(query, radius=radius, count_only=True).total == len(want)
    for k in ks:
        for radius in (None, 1):
            want = [pair for pair in order if radius is None or pair[0] <= radius][:k]
            page = collection.search(query, k=k, radius=radius, payloads=False)
            assert [(hit.distance, hit.id) for hit in page.hits] == want, (k, radius)
            assert (page.total, page.complete) == (len(want), True)


def test_more_hits_than_one_answer_holds(collection: MilvusCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an answer of 64 in place of 16,384, beyond which Milvus says nothing."""
    monkeypatch.setattr(finding, "AT_ONCE", 64)
    monkeypatch.setattr(finding, "_SPARE", 8)
    held = fill_with_few_codes(collection, 500)
    complete(collection, held, [1, 10, 50, 63, 64, 65, 100, 200, 260, 499, 500, 501], limit=90)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_more_than_16384_hits(collection: MilvusCollection) -> None:
    held = fill_with_few_codes(collection, 40_000)
    complete(collection, held, [1, 1000, 16_384, 16_385, 17_000, 20_000, 40_000], limit=10_000)


# -- what Milvus cannot hold as it is ----------------------------------------------------------------------------------

HOSTILE = [
    "'", '"', "\\", "\\'", "'; DROP TABLE items; --", "a\nb", "\t", "%", "_", "a_b", "axb", "😀", "\uffff", "日本", "é",
    "e\u0301", "A", "a", " ", "  ", "null", "[1]", "{}", "\x7f", "\x01", "\u200b", "ä" * 256, "z" * 512, "0x41",
]  # fmt: skip


def test_ids_of_every_kind(collection: MilvusCollection) -> None:
    items = [Item(id, b"\0\0", {"name": id, id[:100]: 1}) for id in HOSTILE]
    assert collection.put(items) == PutResult(len(items), 0, 0)
    order = sorted(HOSTILE)
    assert [item.id for item in collection.items(limit=100)] == order
    assert {item.id: item for item in collection.scan()} == by_id(items)
    seen: list[str] = []
    cursor = None
    while len(seen) < len(items):
        page = collection.search(np.zeros(2, np.uint8), radius=0, limit=7, cursor=cursor)
        seen += [hit.id for hit in page.hits]
        assert all(hit.payload == {"name": hit.id, hit.id[:100]: 1} for hit in page.hits)
        cursor = page.cursor
    assert seen == order
    for place, id in enumerate(order):
        assert collection.get(id).id == id
        assert [item.id for item in collection.items(after=id, limit=1)] == order[place + 1 : place + 2]
        found = collection.search(np.zeros(2, np.uint8), k=2, filter={"name": id})
        assert [hit.id for hit in found.hits] == [id]
        assert collection.delete([id]) == 1
    assert len(collection) == 0


PAYLOADS: list[Any] = [
    None, {}, {"n": 2**63}, {"n": -(2**63) - 1}, {"n": 10**400}, {"n": [1, 2**70]}, {"n": {"m": [[2**64]]}},
    {"n": 1}, {"n": 1.0}, {"n": True}, {"n": -0.0}, {"n": 5e-324}, {"n": 1.7976931348623157e308}, {"n": 0.1},
    {"$lists": ["x"]}, {"$meta": 1, "id": 2, "code": 3}, {"x": []}, {"x": [[], {}]}, {"": ""},
    {"a.b": 1, "a": {"b": 2}},
    {"s": "\0\n\"'\\\u2028😀\ufffe"}, {"s": "x" * 60_000}, {f"k{number}": number for number in range(2000)},
    {"deep": [[[[[[[[[[1]]]]]]]]]]},
]  # fmt: skip


def test_payloads_of_every_kind(collection: MilvusCollection) -> None:
    items = [Item(f"{number:02d}", b"\0\0", payload) for number, payload in enumerate(PAYLOADS)]
    collection.put(items)
    page = collection.search(np.zeros(2, np.uint8), k=100)
    for item, stored, hit in zip(items, collection.scan(), page.hits, strict=True):
        assert stored.payload_text() == hit.payload_text == item.payload_text()
    assert collection.put(items) == PutResult(0, 0, len(items))
    assert collection.put([Item("07", b"\0\0", {"n": 1.0})]) == PutResult(0, 1, 0), "1.0 is stored as it came"
    assert collection.check().faults == ()


def test_a_payload_that_is_too_long_is_refused(collection: MilvusCollection) -> None:
    with pytest.raises(InvalidItem, match=r"item 1: its payload has 70,\d\d\d bytes as JSON, in Milvus it has at most"):
        collection.put([Item("a", b"\0\0", None, "text", b"x"), Item("b", b"\0\0", {"x": "é" * 35_000})])
    assert len(collection) == 0
    assert collection._parts.tokens() == set()


def test_long_inputs_stand_in_parts(collection: MilvusCollection) -> None:
    rng = np.random.default_rng(1)
    sizes = [0, 1, 47_999, 48_000, 48_001, 1_000_000]
    items = [Item(f"i{size}", b"\0\0", {"n": size}, "image", rng.bytes(size)) for size in sizes]
    collection.put(items)
    assert {item.id: item for item in collection.scan()} == by_id(items)
    assert all(collection.get(item.id) == item for item in items)
    shorter = [Item(item.id, item.code, None, "image", item.input[:100]) for item in items if item.input]
    collection.put(shorter)
    assert {item.id: item for item in collection.scan()} == by_id([items[0], *shorter])
    assert len(collection._parts.tokens()) == len(items), "what was replaced is gone"
    assert collection.delete_where({}) == len(items)
    assert collection._parts.tokens() == set()


def test_what_an_interrupted_write_left_is_removed(
    collection: MilvusCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that no item names; only once no write can still be about to name them."""
    items = some(3)
    collection.put([Item(item.id, b"\0\0", None, "text", item.input) for item in items])
    collection._parts.put([b"left by a crash"])
    collection.compact()
    assert len(collection._parts.tokens()) == 4
    monkeypatch.setattr("index.milvus.parts._OLD_S", -10)
    collection.compact()
    assert len(collection._parts.tokens()) == 3
    assert collection.check().faults == ()


def test_a_note_may_be_long(collection: MilvusCollection) -> None:
    for text in ("ü" * 100_000, "short", "x" * 40_000):
        collection.note("n", {"text": text})
        assert places.milvus().again(collection).noted("n") == {"text": text}
    assert collection.noted("another") is None


# -- damage ------------------------------------------------------------------------------------------------------------


def changed(collection: MilvusCollection, id: str, **values: Any) -> None:
    """Change a row behind the collection's back."""
    table = table_of(collection)
    row = dict(table.by_key([to_key(id)])[to_key(id)], slot=0)
    row["code"] = row["code"][0] if isinstance(row["code"], list) else row["code"]
    table.put([row | values])


@pytest.mark.parametrize(
    "values",
    [{"code": b"\1\0"}, {"payload": {"n": 2}}, {"digest": "0" * 32}, {"kind": "image"}, {"place": "0" * 32 + ":1:9"}],
    ids=lambda values: next(iter(values)),
)
def test_damage_is_named(collection: MilvusCollection, values: dict[str, Any]) -> None:
    collection.put([Item(id, b"\0\0", {"n": 1}, "text", b"x") for id in ("a", "b", "c")])
    assert collection.check().sound
    changed(collection, "b", **values)
    faults = collection.check().faults
    assert len(faults) == 1
    assert "item 'b'" in faults[0], faults
    with pytest.raises(StoreDamaged, match="item 'b'"):
        collection.get("b")
    assert collection.get("a").input == b"x"
    if "code" in values:
        with pytest.raises(StoreDamaged, match="'b'"):
            collection.search(np.zeros(2, np.uint8), radius=16, codes=True)


def test_a_lost_input_is_named(collection: MilvusCollection) -> None:
    collection.put([Item(id, b"\0\0", None, "text", id.encode()) for id in ("a", "b")])
    row = table_of(collection).by_key([to_key("b")])[to_key("b")]
    collection._parts.delete([row["place"]])
    assert len(collection.check().faults) == 1
    with pytest.raises(StoreDamaged, match="item 'b' is not what was written, or its input"):
        collection.get("b")


def test_what_differs_between_generations_is_named() -> None:
    collection = places.milvus().make(16, key_of(0))
    put(collection, some(10), [0])
    go_over(collection, 1)
    second = collection.look().second
    assert second is not None
    table = Rows(places.milvus().connection, second.physical)
    table.delete([to_key("i00003")])
    assert any("item 'i00003' is missing" in fault for fault in collection.check().faults), collection.check().faults
    # Written again, in vain as it seems, it is whole.
    assert put(collection, some(10), [1, 0]) == PutResult(0, 0, 10)
    assert collection.check().faults == ()
    collection.generations.flip(0)
    assert_holds(collection, by_id(some(10)), 0)
    places.milvus().done(collection)


# -- copies ------------------------------------------------------------------------------------------------------------


def test_a_copy_is_an_embedded_collection(tmp_path: Path) -> None:
    collection = places.milvus().make(16, key_of(0))
    put(collection, some(1200), [0])
    collection.note("calibration", {"x": 1})
    collection.index_field("n")
    go_over(collection, 1)
    folder = tmp_path / collection.name
    folder.mkdir()
    collection.copy_to(folder / "items.db")
    with collection.lent(tmp_path) as lent:
        assert lent.stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [collection.name]
    copy = EmbeddedCollection(folder / "items.db")
    assert copy.config == collection.config
    assert (copy.fields, copy.noted("calibration")) == (["n"], {"x": 1})
    assert list(copy.scan()) == list(collection.scan())
    assert copy.check().faults == ()
    for query in np.random.default_rng(3).integers(0, 256, (20, 2)).astype(np.uint8):
        for asked in ({"k": 7}, {"radius": 5}, {"k": 5, "filter": {"n": {"$gte": 300}}}):
            assert copy.search(query, **asked).hits == collection.search(query, **asked).hits  # type: ignore[arg-type]
    copy.close()
    places.milvus().done(collection)


# -- the catalogue -----------------------------------------------------------------------------------------------------


def test_names_with_hyphens_and_underscores() -> None:
    catalogue = places.milvus().opened()
    names = [places.milvus().named(name) for name in ("-a-b", "-a_b", "_a-b", "-a-b-c", "-" + "x" * 53)]
    for number, name in enumerate(names):
        catalogue.create(places.config(name)).put([Item(str(number), b"\0\0")])
    again = places.milvus().opened()
    assert set(names) <= set(again.all())
    for number, name in enumerate(names):
        assert [item.id for item in again.get(name).scan()] == [str(number)]
        again.delete(name)
    assert not set(names) & set(again.all())


def test_what_an_interrupted_creation_left_is_not_there() -> None:
    """Neither listed nor in the way, and gone with the collection of that name."""
    connection, name = places.milvus().connection, places.milvus().named("-left")
    left = new_generation(name, 0)
    layer = places.milvus().make().look().serving
    create_items(connection, left, 16, layer.described().replace(layer.name, name))
    inputs = new_inputs(name)
    Parts(connection, inputs).create()
    catalogue = places.milvus().opened()
    assert name not in catalogue.all()
    with pytest.raises(UnknownCollection):
        catalogue.get(name)
    collection = catalogue.create(places.config(name))
    assert collection.generations.all()[0].items == 0
    assert len(collection.generations.all()) == 1
    catalogue.delete(name)
    assert left not in connection.call("list_collections")
    connection.call("drop_collection", inputs)


# -- away --------------------------------------------------------------------------------------------------------------


def test_milvus_that_is_away_is_said_to_be_in_time() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    connection = Connection(f"http://127.0.0.1:{port}", timeout_s=1)
    catalogue = MilvusCatalogue(connection, owner="a test")
    for within in (5.0, 0.1):  # refused at once within a second of the last failure
        start = time.monotonic()
        with pytest.raises(BackendUnavailable, match=f"127.0.0.1:{port} cannot be reached"):
            catalogue.all()
        assert time.monotonic() - start < within
    with pytest.raises(BackendUnavailable):
        catalogue.get("anything")
    with pytest.raises(BackendUnavailable):
        catalogue.create(places.config("anything"))
    connection.close()


def test_a_write_that_is_interrupted_between_generations_is_made_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = places.milvus().make(16, key_of(0))
    put(collection, some(5), [0])
    number = collection.generations.begin(key_of(1), 16).number
    fill(collection, number, 1)
    collection.generations.make_ready(number)
    upsert, calls = Rows.put, [0]

    def fail(self: Rows, rows: Any) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise BackendUnavailable("away")
        upsert(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "put", fail)
        with pytest.raises(BackendUnavailable):
            put(collection, some(8), [0, 1])
    assert not collection.check().sound
    assert put(collection, some(8), [0, 1]).created == 0
    assert collection.check().faults == ()
    collection.generations.flip(number)
    assert_holds(collection, by_id(some(8)), 1)
    places.milvus().done(collection)


@pytest.mark.parametrize("back", [False, True], ids=["to another", "and back"])
def test_a_fill_never_undoes_what_is_written_in_the_middle_of_it(monkeypatch: pytest.MonkeyPatch, back: bool) -> None:
    """An item changes, and its input moves to another place, after the fill has read it and before it copies it."""
    collection = places.milvus().make(16, key_of(0))
    put(collection, some(5), [0])
    number = collection.generations.begin(key_of(1), 16).number
    second = collection.look().second
    assert second is not None
    upsert, changes = Rows.put, [[item_of("i00002", b"changed")]] + [some(1, first=2)] * back

    def late(self: Rows, rows: Any) -> None:
        rows = list(rows)
        if self._physical == second.physical and len(rows) == 5:
            for items in changes:
                put(collection, items, [0, 1])
            collection.delete(["i00004"])
        upsert(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "put", late)
        fill(collection, number, 1)
    assert collection.check().faults == ()
    collection.generations.flip(number)
    assert_holds(collection, by_id([*some(4), *changes[-1]]), 1)
    places.milvus().done(collection)
