"""Questions to one committed state of a store, and the checks that what is read is what was written."""

from __future__ import annotations

import copy
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .contents import contents_of, signed
from .errors import NoSuchGeneration, StoreDamaged
from .items import Item
from .records import Generation, ModelKey
from .source import sound, source_of

_READ_ROWS = 10_000


class Known(NamedTuple):
    """What is stored under an id."""

    key: int
    digest: bytes
    code: bytes


def known(db: sqlite3.Connection, generation: int, ids: Iterable[str]) -> dict[str, Known]:
    """What is stored under those `ids` that are, with its code in a generation that has one for every item."""
    own = source_of(generation)
    rows = db.execute(
        f"SELECT id, items.key, digest, {own.code} FROM {own.rows} WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(ids)),),
    )
    return {id: Known(key, digest, code) for id, key, digest, code in rows}


class Reader:
    """Questions to one committed state; codes are those of the generation that serves in it (or see `of`)."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        row = db.execute("SELECT sequence, items, last_key, contents, generation FROM state").fetchone()
        if row is None or not all(isinstance(value, int) for value in row):
            raise StoreDamaged("the store has lost its state")
        self.sequence, self.count, self.last_key, self.contents, self.generation = row
        self._source = source_of(self.generation)

    def of(self, generation: int) -> Reader:
        """A reader of the same state for the codes of another generation, which may not have one for every item.

        Raises `NoSuchGeneration` where it has been given up in that state.
        """
        row = self.db.execute("SELECT items, contents FROM generations WHERE number = ?", (generation,)).fetchone()
        if row is None:
            raise NoSuchGeneration(f"the codes of generation {generation} were given up meanwhile")
        other = copy.copy(self)
        other.generation, other._source = generation, source_of(generation)
        if generation != self.generation:
            other.count, other.contents = row
        return other

    def missing_inputs(self) -> int:
        """How many items have no kept input."""
        return int(self.db.execute("SELECT count(*) FROM items WHERE input IS NULL").fetchone()[0])

    def inputs_of(self, keys: Sequence[int]) -> tuple[int, int]:
        """How many of these items have a kept input, and the bytes that those take in the store."""
        return self.db.execute(  # type: ignore[no-any-return]
            "SELECT count(input), coalesce(sum(length(input)), 0) FROM items "
            "WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keys)),),
        ).fetchone()

    def generations(self) -> list[Generation]:
        """What there is, in the order in which it came. Raises `StoreDamaged`."""
        rows = self.db.execute("SELECT number, model, bits, state, items, created_at FROM generations ORDER BY number")
        try:
            found = [_generation(*row) for row in rows]
        except _BROKEN as error:
            raise StoreDamaged(f"what the store says of its models cannot be read: {error}") from None
        return [
            replace(generation, items=self.count) if generation.number == self.generation else generation
            for generation in found
        ]

    def serving(self) -> Generation:
        """The one that serves. Raises `StoreDamaged`."""
        for generation in self.generations():
            if generation.number == self.generation:
                return generation
        raise StoreDamaged("the store does not say which model made its codes")

    def codes(self, bits: int) -> tuple[NDArray[np.int64], Codes]:
        """Every key `(n,)` ascending and code `(n, bits / 8)`. Raises `StoreDamaged` where a seal is broken."""
        keys, codes = self.codes_above(-1, bits)
        if len(keys) != self.count:
            raise StoreDamaged(f"{self.count} items were stored, {len(keys)} can be read")
        if signed(contents_of(keys, codes)) != self.contents:
            raise StoreDamaged("the codes are not those that were stored")
        return keys, codes

    def codes_above(self, key: int, bits: int) -> tuple[NDArray[np.int64], Codes]:
        """The same of the items with a key above `key`."""
        keys: list[int] = []
        codes = bytearray()
        own = self._source
        rows = self.db.execute(
            f"SELECT items.key, id, {own.code}, {own.seal} FROM {own.rows} WHERE items.key > ? ORDER BY items.key",
            (key,),
        )
        while chunk := rows.fetchmany(_READ_ROWS):
            for at, id, code, seal in chunk:
                if not sound(at, id, code, seal) or len(code) != bits // 8:
                    raise StoreDamaged(f"the code of item {id!r} is not what was written")
                keys.append(at)
                codes += code
        return np.array(keys, np.int64), np.frombuffer(bytes(codes), np.uint8).reshape(-1, bits // 8)

    def removed_since(self, sequence: int, bits: int) -> tuple[NDArray[np.int64], Codes]:
        """Keys and codes of what was removed after `sequence`, as far back as that is recorded."""
        rows = self.db.execute("SELECT key, code FROM removed WHERE sequence > ? ORDER BY key", (sequence,)).fetchall()
        codes = b"".join(code for _, code in rows)
        if len(codes) != len(rows) * bits // 8:
            raise StoreDamaged("the record of removed items is not what was written")
        return np.array([key for key, _ in rows], np.int64), np.frombuffer(codes, np.uint8).reshape(-1, bits // 8)

    def ids(self, keys: Sequence[int], *, after: str | None, limit: int) -> list[tuple[str, int]]:
        """(id, key) of those of `keys` whose id is above `after`, in the order of ids, at most `limit`."""
        if len(keys) ** 2 > 4 * max(limit, 1) * self.count:
            return self._ids_by_walking(set(keys), after, limit)
        own = self._source
        rows = self.db.execute(
            f"SELECT id, items.key, {own.code}, {own.seal} FROM {own.rows} "
            "WHERE items.key IN (SELECT value FROM json_each(?)) AND id > ? ORDER BY id LIMIT ?",
            (json.dumps(keys), after or "", limit),
        )
        return [_sealed(*row) for row in rows]

    def _ids_by_walking(self, keys: set[int], after: str | None, limit: int) -> list[tuple[str, int]]:
        """The same where so many items tie that the first few ids are sooner met by walking through all ids."""
        found: list[tuple[str, int]] = []
        own = self._source
        rows = f"SELECT id, items.key, {own.code}, {own.seal} FROM {own.rows} WHERE id > ? ORDER BY id"
        for row in self.db.execute(rows, (after or "",)):
            if row[1] in keys:
                found.append(_sealed(*row))
                if len(found) == limit:
                    break
        return found

    def payloads(self, keys: Sequence[int]) -> dict[int, str | None]:
        """The payload of each of `keys` as JSON. Raises `StoreDamaged` where one is no JSON object."""
        rows = self.db.execute(
            "SELECT key, payload FROM items WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(keys),),
        )
        found = dict(rows.fetchall())
        for text in found.values():
            payload_of(text)
        return found

    def codes_of(self, keys: Sequence[int]) -> dict[int, bytes]:
        """The code of each of `keys`."""
        own = self._source
        rows = self.db.execute(
            f"SELECT items.key, {own.code} FROM {own.rows} WHERE items.key IN (SELECT value FROM json_each(?))",
            (json.dumps(keys),),
        )
        return dict(rows.fetchall())

    def unchanged(self, items: Sequence[Item]) -> dict[int, bytes]:
        """The codes of those of `items`, by position, that are stored just so.

        Only an item with an input counts, which its code follows from; the code that it has here is not looked at.
        """
        kept = {position: item for position, item in enumerate(items) if item.input is not None}
        stored = known(self.db, self.generation, [item.id for item in kept.values()]) if kept else {}
        return {
            position: stored[item.id].code
            for position, item in kept.items()
            if item.id in stored and stored[item.id].digest == item.digest()
        }

    def fields(self) -> list[str]:
        """The payload fields that have an index of their own."""
        return [name for (name,) in self.db.execute("SELECT name FROM fields ORDER BY name")]

    def get(self, id: str) -> Item | None:
        """The item called `id`, or None. Raises `StoreDamaged` where it is not what was written."""
        row = self.db.execute(f"{self._items} WHERE id = ?", (id,)).fetchone()
        return None if row is None else _verified(*row)

    def with_keys(self, keys: Sequence[int]) -> list[Item]:
        """The items with these keys, as far as they are stored. Raises `StoreDamaged` as `get` does."""
        rows = self.db.execute(
            f"{self._items} WHERE items.key IN (SELECT value FROM json_each(?))", (json.dumps(list(keys)),)
        )
        return [_verified(*row) for row in rows]

    def uncoded(self, generation: int, *, after: int, limit: int) -> list[tuple[int, Item]]:
        """Keys and items that have no code in `generation` yet, from the first key above `after`."""
        other = self.of(generation)._source
        rows = self.db.execute(
            f"SELECT items.key FROM {other.rows} WHERE items.key > ? AND {other.code} IS NULL "
            "ORDER BY items.key LIMIT ?",
            (after, limit),
        )
        keys = [key for (key,) in rows]
        own = self.db.execute(
            f"{self._items} WHERE items.key IN (SELECT value FROM json_each(?)) ORDER BY items.key", (json.dumps(keys),)
        )
        return [(row[0], _verified(*row)) for row in own]

    def items(self, *, after: str | None = None, limit: int = -1) -> Iterator[Item]:
        """Items in the order of their ids, from the first id above `after`. Raises `StoreDamaged` as `get` does."""
        rows = self.db.execute(f"{self._items} WHERE id > ? ORDER BY id LIMIT ?", (after or "", limit))
        for row in rows:
            yield _verified(*row)

    @property
    def _items(self) -> str:
        own = self._source
        return f"SELECT items.key, {own.seal}, digest, id, {own.code}, payload, kind, input FROM {own.rows}"

    def faults(self) -> Iterator[str]:
        """What is wrong with the file, one sentence each; nothing for a sound store."""
        try:
            yield from self._faults()
        except sqlite3.Error as error:
            yield f"SQLite: {error}"

    def _faults(self) -> Iterator[str]:
        for (line,) in self.db.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield f"SQLite: {line}"
        rows = self.db.execute(self._items)
        count = 0
        for key, seal, digest, *fields in rows:
            count += 1
            try:
                item = _item(*fields)
                intact = item.digest() == digest
            except _BROKEN as error:
                yield f"item {fields[0]!r}: {error}"
                continue
            if not intact or not sound(key, item.id, item.code, seal):
                yield f"item {item.id!r}: its content is not what was written"
        if count != self.count:
            yield f"{self.count} items were stored, {count} can be read"
        for generation in self.generations():
            if generation.number != self.generation:
                yield from self.of(generation.number)._faults_beside(generation)

    def _faults_beside(self, generation: Generation) -> Iterator[str]:
        """What is wrong with the codes of a generation that does not serve."""
        own, total, count = self._source, 0, 0
        name = f"generation {generation.number} ({generation.state})"
        rows = self.db.execute(f"SELECT items.key, id, {own.code}, {own.seal} FROM {own.rows} ORDER BY items.key")
        while chunk := rows.fetchmany(_READ_ROWS):
            held = [row for row in chunk if row[2] is not None]
            broken = [row for row in held if not sound(*row) or len(row[2]) != generation.bits // 8]
            yield from (f"{name}: the code of item {id!r} is not what was written" for _, id, *_ in broken)
            if held and not broken:
                codes = np.frombuffer(b"".join(row[2] for row in held), np.uint8).reshape(len(held), -1)
                total += contents_of(np.array([row[0] for row in held], np.int64), codes)
            count += len(held)
        if count != self.count or signed(total) != self.contents:
            yield f"{name}: its codes are not those that were stored"


# What damaged fields lead to when they are read.
_BROKEN = (ValueError, TypeError, AttributeError, zlib.error)


def _generation(number: int, model: str, bits: int, state: Any, items: int, created_at: str) -> Generation:
    key = json.loads(model)
    return Generation(number, None if key is None else ModelKey(**key), bits, state, items, created_at)


def _sealed(id: str, key: int, code: bytes, seal: int) -> tuple[str, int]:
    if not sound(key, id, code, seal):
        raise StoreDamaged(f"item {id!r} is not what was written; restore the collection from a backup")
    return id, key


def payload_of(text: str | None) -> dict[str, Any] | None:
    """The payload written as `text`."""
    try:
        payload = None if text is None else json.loads(text)
    except _BROKEN as error:
        raise StoreDamaged(f"a payload is not what was written: {error}; run `hammingbird check`") from None
    if payload is not None and not isinstance(payload, dict):
        raise StoreDamaged("a payload is not what was written; run `hammingbird check`")
    return payload


def _verified(key: int, seal: int, digest: bytes, id: str, *fields: Any) -> Item:
    """The item of a row that must have the seal and the digest it was written with."""
    try:
        item = _item(id, *fields)
        intact = item.digest() == digest and sound(key, item.id, item.code, seal)
    except _BROKEN:
        intact = False
    if not intact:
        raise StoreDamaged(f"item {id!r} is not what was written; restore the collection from a backup")
    return item


def _item(id: str, code: bytes, payload: str | None, kind: str | None, packed: bytes | None) -> Item:
    return Item(
        id,
        code,
        None if payload is None else json.loads(payload),
        kind,
        None if packed is None else zlib.decompress(packed),
    )
