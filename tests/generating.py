"""A collection with codes of several made-up models, and what it must hold at any time: for tests of generations."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from places import TUNING

from index import Collection, CollectionConfig, EmbeddedCollection, Generation, Item, ModelKey, PutResult, hamming
from index.catalogue import STORE_FILE
from index.store import read_only

BITS = (16, 16, 24, 8)
"""Of the codes of model 0, 1, ...: some change the width, some do not."""


def key_of(model: int) -> ModelKey:
    return ModelKey(f"m{model}", 1, f"{model:x}" * 64)


def code_by(model: int, item: Item) -> bytes:
    """The code that a model gives an item: a function of its input alone, as with a real one."""
    digest = zlib.crc32(item.input or b"", model * 7919 + 1)
    return np.random.default_rng(digest).bytes(BITS[model] // 8)


def item_of(id: str, text: bytes, payload: Any = None) -> Item:
    return Item(id, b"", payload, "text", text)


def make(root: Path, **tuning: Any) -> EmbeddedCollection:
    (root / "things").mkdir(parents=True)
    config = CollectionConfig("things", BITS[0], key_of(0), True, "2026-01-01T00:00:00Z")
    EmbeddedCollection.create(root / "things" / STORE_FILE, config)
    return opened(root, **tuning)


def opened(root: Path, **tuning: Any) -> EmbeddedCollection:
    return EmbeddedCollection(root / "things" / STORE_FILE, **{**TUNING, **tuning})


def put(collection: Collection, items: Sequence[Item], models: Sequence[int]) -> PutResult:
    """Store items with the codes of `models`, the first of which is the writer's own."""
    first, *others = models
    beside = {key_of(model).fingerprint: [code_by(model, item) for item in items] for model in others}
    coded = [Item(item.id, code_by(first, item), item.payload, item.kind, item.input) for item in items]
    return collection.put(coded, fingerprint=key_of(first).fingerprint, beside=beside)


def models_of(collection: Collection) -> list[int]:
    """The models whose codes must be written, the one that serves first."""
    found = sorted(collection.generations.all(), key=lambda one: one.state != "serving")
    return [int(one.model.name[1:]) for one in found if one.model]


def fill(collection: Collection, number: int, model: int, *, most: int = 1 << 30) -> int:
    """Store the codes of at most `most` items that have none; returns how many of them were stored."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        collection.generations.uncoded(number, Path(scratch)) as (path, inner),
    ):
        with read_only(path) as reader:
            rows = reader.uncoded(inner, after=-1, limit=most)
        codes = np.frombuffer(b"".join(code_by(model, item) for _, item in rows), np.uint8)
        keys = [key for key, _ in rows]
        stored = collection.generations.fill(number, keys, codes.reshape(len(rows), BITS[model] // 8))
    while most > len(rows) and (left := collection.generations.leftover(number)):
        codes = np.frombuffer(b"".join(code_by(model, item) for item in left), np.uint8)
        collection.generations.fill_items(number, left, codes.reshape(len(left), BITS[model] // 8))
    return stored


def go_over(collection: Collection, model: int) -> Generation:
    """All of a change of model."""
    generation = collection.generations.begin(key_of(model), BITS[model])
    fill(collection, generation.number, model)
    collection.generations.flip(generation.number)
    return generation


def expected(items: dict[str, Item], model: int, near: bytes) -> list[tuple[int, str]]:
    query = np.frombuffer(near, np.uint8)
    return sorted(
        (int(hamming(np.frombuffer(code_by(model, item), np.uint8), query)), id) for id, item in items.items()
    )


def assert_holds(collection: Collection, items: dict[str, Item], model: int) -> None:
    """It is sound, serves codes of `model` and no other, and answers as the brute force does."""
    assert collection.check().faults == ()
    assert collection.config.model == key_of(model)
    assert collection.bits == BITS[model]
    assert len(collection) == len(items)
    want = {id: Item(id, code_by(model, item), item.payload, item.kind, item.input) for id, item in items.items()}
    assert {item.id: item for item in collection.scan()} == want
    rng = np.random.default_rng(len(items))
    for near in (rng.bytes(BITS[model] // 8), *[item.code for item in list(want.values())[:2]]):
        answer = expected(items, model, near)
        query, fingerprint = np.frombuffer(near, np.uint8), key_of(model).fingerprint
        page = collection.search(query, k=5, fingerprint=fingerprint, codes=True)
        assert page.model == key_of(model)
        assert [(hit.distance, hit.id) for hit in page.hits] == answer[:5]
        assert all(hit.code == want[hit.id].code for hit in page.hits)
        page = collection.search(query, radius=BITS[model], limit=1000, filter={"n": {"$exists": True}})
        assert [hit.id for hit in page.hits] == [id for _, id in answer if items[id].payload]


def some(count: int, first: int = 0) -> list[Item]:
    return [item_of(f"i{n:05d}", b"%d" % n, {"n": n} if n % 3 == 0 else None) for n in range(first, first + count)]


def by_id(items: Sequence[Item]) -> dict[str, Item]:
    return {item.id: item for item in items}
