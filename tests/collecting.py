"""Small collections on disk, for the tests of the store and what lives beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import (
    CollectionConfig,
    EmbeddedCollection,
    Item,
    hamming,
    sidecar,
)
from index.catalogue import STORE_FILE
from index.reader import Reader

COPY = sidecar.NAME
QUIET = {"merge_at": 1 << 40, "copy_from": 1}
"""No merge but those that are asked for, and each saves a copy."""


def make(root: Path, bits: int = 64, **tuning: Any) -> EmbeddedCollection:
    folder = root / "things"
    folder.mkdir(parents=True)
    EmbeddedCollection.create(folder / STORE_FILE, CollectionConfig("things", bits, None, True, "2026-01-01T00:00:00Z"))
    return opened(root, **tuning)


def opened(root: Path, **tuning: Any) -> EmbeddedCollection:
    return EmbeddedCollection(root / "things" / STORE_FILE, **{**QUIET, **tuning})


def some(count: int, rng: np.random.Generator, *, first: int = 0, size: int = 8) -> list[Item]:
    """Items with random codes; every third has a payload."""
    numbers = range(first, first + count)
    return [Item(f"i{n:05d}", rng.bytes(size), {"n": n} if n % 3 == 0 else None) for n in numbers]


def assert_holds(collection: EmbeddedCollection, items: dict[str, Item]) -> None:
    """It is sound, holds these items, and answers as the brute force does."""
    assert collection.check().faults == ()
    assert {item.id: item for item in collection.scan()} == items
    assert len(collection) == len(items)
    rng = np.random.default_rng(0)
    for code in [rng.bytes(collection.bits // 8), *[item.code for item in list(items.values())[:2]]]:
        near = np.frombuffer(code, np.uint8)
        want = sorted((int(hamming(np.frombuffer(item.code, np.uint8), near)), id) for id, item in items.items())
        page = collection.search(near, k=10)
        assert [(hit.distance, hit.id) for hit in page.hits] == want[:10]
        glance = collection.glance(near, k=10, radius=None, limit=10, payloads=True, codes=True, count_only=False)
        assert glance is None or [(hit.distance, hit.id) for hit in glance.hits] == want[:10]
        half = collection.bits // 2
        page = collection.search(near, radius=half, limit=10_000)
        assert [(hit.distance, hit.id) for hit in page.hits] == [pair for pair in want if pair[0] <= half]


def old_digest(item: Item) -> bytes:
    """The digest of an item as it was up to version 2 of the schema: over the code as well."""
    hasher = hashlib.sha256()
    for part in (item.id, item.code, item.payload_text(), item.kind, item.input):
        data = part.encode() if isinstance(part, str) else part
        hasher.update(b"-" if data is None else b"%d:" % len(data))
        hasher.update(data or b"")
    return hasher.digest()[:16]


def by_id(items: Sequence[Item]) -> dict[str, Item]:
    return {item.id: item for item in items}


def sequence_of(collection: EmbeddedCollection) -> int:
    with collection._live.state() as (reader, _):
        return reader.sequence


def uses_its_copy(root: Path, items: dict[str, Item]) -> bool:
    """Whether opening the collection went by way of its copy. However it went, the answers are right."""
    with pytest.MonkeyPatch.context() as patch:
        read: list[int] = []
        codes = Reader.codes
        patch.setattr(Reader, "codes", lambda self, bits: read.append(bits) or codes(self, bits))
        collection = opened(root)
        full = bool(read)
    assert_holds(collection, items)
    collection.put([Item("more", bytes(collection.bits // 8))])
    collection.delete(["more"])
    assert_holds(collection, items)
    collection.close()
    return not full
