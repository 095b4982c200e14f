"""Where the codes of a generation stand in a store.

Those of generation 0 stand beside the items; those of a later one in a table of their own, so that it can be made and
given up without a touch on the items. Statements about items name their columns as a `Source` says.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Source:
    """For SQL: the rows of all items, each with its code and seal, which are NULL where the generation has none."""

    rows: str
    code: str
    seal: str


@cache
def source_of(generation: int) -> Source:
    """Of the generation of that number."""
    if generation == 0:
        return Source("items", "items.code", "items.seal")
    return Source(f"items LEFT JOIN {_table(generation)} AS own ON own.key = items.key", "own.code", "own.seal")


def _table(generation: int) -> str:
    return f"codes_{int(generation)}"


def make_table(db: sqlite3.Connection, generation: int) -> None:
    """Room for the codes of a new generation."""
    db.execute(
        f"CREATE TABLE {_table(generation)} (key INTEGER PRIMARY KEY, code BLOB NOT NULL, seal INTEGER NOT NULL) STRICT"
    )


def drop_table(db: sqlite3.Connection, generation: int) -> None:
    """Give up the codes of a generation. Those of generation 0 stay where they are until the store is compacted."""
    if generation:
        db.execute(f"DROP TABLE {_table(generation)}")


def insert_codes(
    db: sqlite3.Connection, generation: int, keys: Iterable[int], ids: Iterable[str], codes: Sequence[bytes]
) -> None:
    """Store the codes of items; those of generation 0 are stored with the items themselves."""
    if generation:
        rows = [(key, code, seal_of(key, id, code)) for key, id, code in zip(keys, ids, codes, strict=True)]
        db.executemany(f"INSERT INTO {_table(generation)} VALUES (?, ?, ?)", rows)


def delete_codes(db: sqlite3.Connection, generation: int, keys: Iterable[int]) -> None:
    """Delete the codes of items; those of generation 0 are deleted with the items themselves."""
    if generation:
        db.executemany(f"DELETE FROM {_table(generation)} WHERE key = ?", [(key,) for key in keys])


def seal_of(key: int, id: str, code: bytes) -> int:
    """A CRC-32 over what a search relies on, kept beside it."""
    return zlib.crc32(code, zlib.crc32(id.encode(), key & 0xFFFFFFFF))


def sound(key: object, id: object, code: object, seal: object) -> bool:
    """Whether a stored row has the types and the seal that it was written with."""
    right = isinstance(key, int) and isinstance(id, str) and isinstance(code, bytes)
    return right and seal_of(key, id, code) == seal  # type: ignore[arg-type]
