"""The truth of one collection: a SQLite file (WAL, synchronous FULL, one writer).

A change is one transaction and is on disk when `write` returns. Everything held in memory is derived from here
and can be rebuilt. Readers open their own read-only connections; each `Reader` sees one committed state.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .errors import StoreDamaged, StoreFull, StoreUnavailable, UnknownCollection
from .items import Item
from .migrations import migrate

_READ_ROWS = 10_000
KEPT_REQUESTS_S = 24 * 3600
"""How long an idempotency key is remembered: longer than any client goes on retrying."""
_FULL = {sqlite3.SQLITE_FULL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours; a lock or I/O error is the disk's fault, never silence."""
    try:
        yield
    except UnicodeDecodeError as error:  # from SQLite's own message about a damaged schema
        raise StoreDamaged(f"{path.parent.name!r}: {error}; restore the collection from a backup") from error
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise
        raise UnknownCollection(f"collection {path.parent.name!r} has just been deleted") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None
        if primary in _FULL:
            raise StoreFull(
                f"the disk that holds {path.parent.name!r} is full; nothing was stored. "
                "Free some space and send the request again"
            ) from error
        # A text that is no longer UTF-8 has no code of its own.
        if primary in _DAMAGED or "decode to UTF-8" in str(error):
            raise StoreDamaged(f"{path.parent.name!r}: {error}; restore the collection from a backup") from error
        raise StoreUnavailable(f"{path.parent.name!r}: the store could not be used: {error}") from error


@dataclass(frozen=True, slots=True)
class Change:
    """What a write did, in the terms a snapshot needs."""

    sequence: int
    removed: NDArray[np.int64]  # keys that are gone
    added: NDArray[np.int64]  # keys that are new, ascending
    codes: Codes  # (len(added), bits / 8)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request to be remembered by its idempotency key: the digest of what it asked for, and the reply."""

    key: str
    digest: bytes
    reply: str


class Store:
    """One collection on disk. `write` calls must be serialised by the caller; readers are free."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, bringing its schema up to date. Raises `StoreDamaged`, `StoreUnavailable`."""
        self.path = path
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._closed = threading.Event()
        with faults(path):
            self._writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.execute("PRAGMA secure_delete = ON")
                migrate(self._writer)
            except BaseException:
                self._writer.close()
                raise

    def close(self) -> None:
        self._closed.set()
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()
        self._writer.close()

    # -- settings of the collection ------------------------------------------------------------------------

    def set_meta(self, values: Mapping[str, Any]) -> None:
        with faults(self.path), self._transaction():
            self._writer.executemany(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [(name, json.dumps(value)) for name, value in values.items()],
            )

    def meta(self) -> dict[str, Any]:
        with faults(self.path):
            rows = self._writer.execute("SELECT * FROM meta").fetchall()
        try:
            return {name: json.loads(value) for name, value in rows}
        except (ValueError, TypeError) as error:
            raise StoreDamaged(f"{self.path.parent.name!r}: its settings cannot be read: {error}") from None

    # -- changes -------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            # A full disk makes SQLite roll back by itself.
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    def known(self, ids: Iterable[str]) -> dict[str, tuple[int, bytes]]:
        """Key and digest of those `ids` that are stored."""
        with faults(self.path):
            rows = self._writer.execute(
                "SELECT id, key, digest FROM items WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(ids)),),
            )
            return {id: (key, digest) for id, key, digest in rows}

    def answered(self, key: str) -> tuple[bytes, str] | None:
        """The digest and the reply of the request with idempotency key `key`, where it was answered before."""
        with faults(self.path):
            row = self._writer.execute("SELECT digest, reply FROM requests WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], row[1])

    def write(self, items: Sequence[Item], removed: Sequence[int], request: Answered | None = None) -> Change:
        """Delete the rows with keys `removed`, add `items`, remember `request`, in one durable transaction."""
        with faults(self.path), self._transaction():
            if request is not None:
                now = time.time()
                self._writer.execute("DELETE FROM requests WHERE at < ?", (now - KEPT_REQUESTS_S,))
                self._writer.execute(
                    "INSERT INTO requests VALUES (?, ?, ?, ?)", (request.key, request.digest, request.reply, now)
                )
            sequence, last_key = self._writer.execute("SELECT sequence, last_key FROM state").fetchone()
            keys = range(last_key + 1, last_key + 1 + len(items))
            self._writer.executemany("DELETE FROM items WHERE key = ?", [(key,) for key in removed])
            self._writer.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(key, item) for key, item in zip(keys, items, strict=True)],
            )
            self._writer.execute(
                "UPDATE state SET sequence = sequence + 1, last_key = ?, items = items + ?",
                (last_key + len(items), len(items) - len(removed)),
            )
        width = len(items[0].code) if items else 0
        return Change(
            sequence + 1,
            np.array(removed, np.int64),
            np.arange(keys.start, keys.stop, dtype=np.int64),
            np.frombuffer(b"".join(item.code for item in items), np.uint8).reshape(len(items), width),
        )

    # -- reading -------------------------------------------------------------------------------------------

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """One committed state of the store, for as long as the block lasts."""
        with faults(self.path):
            if self._closed.is_set():
                raise UnknownCollection(f"collection {self.path.parent.name!r} has just been deleted")
            try:
                db = self._idle.get_nowait()
            except queue.Empty:
                db = _connect_read_only(self.path)
            try:
                db.execute("BEGIN")
                yield Reader(db)
                db.execute("ROLLBACK")  # there is nothing to commit, and on a damaged file this cannot fail
            except BaseException:
                db.close()
                raise
            if self._closed.is_set():
                db.close()
            else:
                self._idle.put(db)


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)


@contextmanager
def read_only(path: Path) -> Iterator[Reader]:
    """One committed state of the store file `path`, for a process other than the one that owns it."""
    with faults(path):
        db = _connect_read_only(path)
        try:
            db.execute("BEGIN")
            yield Reader(db)
        finally:
            db.close()


class Reader:
    """Questions to one committed state."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        row = db.execute("SELECT sequence, items FROM state").fetchone()
        if row is None or not all(isinstance(value, int) for value in row):
            raise StoreDamaged("the store has lost its state")
        self.sequence, self.count = row

    def codes(self, bits: int) -> tuple[NDArray[np.int64], Codes]:
        """Every key `(n,)` ascending and code `(n, bits / 8)`. Raises `StoreDamaged` where a seal is broken."""
        keys: list[int] = []
        codes = bytearray()
        rows = self._db.execute("SELECT key, id, code, seal FROM items ORDER BY key")
        while chunk := rows.fetchmany(_READ_ROWS):
            for key, id, code, seal in chunk:
                if not _sound(key, id, code, seal) or len(code) != bits // 8:
                    raise StoreDamaged(f"the code of item {id!r} is not what was written")
                keys.append(key)
                codes += code
        if len(keys) != self.count:
            raise StoreDamaged(f"{self.count} items were stored, {len(keys)} can be read")
        return np.array(keys, np.int64), np.frombuffer(bytes(codes), np.uint8).reshape(-1, bits // 8)

    def ids(self, keys: Sequence[int], *, after: str | None, limit: int) -> list[tuple[str, int]]:
        """(id, key) of those of `keys` whose id is above `after`, in the order of ids, at most `limit`."""
        rows = self._db.execute(
            "SELECT id, key FROM items WHERE key IN (SELECT value FROM json_each(?)) AND id > ? ORDER BY id LIMIT ?",
            (json.dumps(keys), after or "", limit),
        )
        return rows.fetchall()

    def payloads(self, keys: Sequence[int]) -> dict[int, dict[str, Any] | None]:
        """The payload of each of `keys`."""
        rows = self._db.execute(
            "SELECT key, payload FROM items WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(keys),),
        )
        return {key: _payload(payload) for key, payload in rows}

    def codes_of(self, keys: Sequence[int]) -> dict[int, bytes]:
        """The code of each of `keys`."""
        rows = self._db.execute(
            "SELECT key, code FROM items WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(keys),)
        )
        return dict(rows.fetchall())

    def get(self, id: str) -> Item | None:
        """The item called `id`, or None. Raises `StoreDamaged` where it is not what was written."""
        row = self._db.execute("SELECT digest, id, code, payload, kind, input FROM items WHERE id = ?", (id,))
        found = row.fetchone()
        return None if found is None else _verified(*found)

    def items(self, *, after: str | None = None, limit: int = -1) -> Iterator[Item]:
        """Items in the order of their ids, from the first id above `after`. Raises `StoreDamaged` as `get` does."""
        rows = self._db.execute(
            "SELECT digest, id, code, payload, kind, input FROM items WHERE id > ? ORDER BY id LIMIT ?",
            (after or "", limit),
        )
        for row in rows:
            yield _verified(*row)

    def faults(self) -> Iterator[str]:
        """What is wrong with the file, one sentence each; nothing for a sound store."""
        try:
            yield from self._faults()
        except sqlite3.Error as error:
            yield f"SQLite: {error}"

    def _faults(self) -> Iterator[str]:
        for (line,) in self._db.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield f"SQLite: {line}"
        rows = self._db.execute("SELECT key, seal, digest, id, code, payload, kind, input FROM items")
        count = 0
        for key, seal, digest, *fields in rows:
            count += 1
            try:
                item = _item(*fields)
                intact = item.digest() == digest
            except _BROKEN as error:
                yield f"item {fields[0]!r}: {error}"
                continue
            if not intact or not _sound(key, item.id, item.code, seal):
                yield f"item {item.id!r}: its content is not what was written"
        if count != self.count:
            yield f"{self.count} items were stored, {count} can be read"


def _seal(key: int, id: str, code: bytes) -> int:
    return zlib.crc32(code, zlib.crc32(id.encode(), key & 0xFFFFFFFF))


# What damaged fields lead to when they are read.
_BROKEN = (ValueError, TypeError, AttributeError, zlib.error)


def _sound(key: object, id: object, code: object, seal: object) -> bool:
    """Whether a stored row has the types and the seal that it was written with."""
    right = isinstance(key, int) and isinstance(id, str) and isinstance(code, bytes)
    return right and _seal(key, id, code) == seal  # type: ignore[arg-type]


def _row(key: int, item: Item) -> tuple[int, str, bytes, int, str | None, str | None, bytes | None, bytes]:
    packed = None if item.input is None else zlib.compress(item.input, 1)
    return (
        key,
        item.id,
        item.code,
        _seal(key, item.id, item.code),
        item.payload_text(),
        item.kind,
        packed,
        item.digest(),
    )


def _payload(text: str | None) -> dict[str, Any] | None:
    try:
        payload = None if text is None else json.loads(text)
    except _BROKEN as error:
        raise StoreDamaged(f"a payload is not what was written: {error}; run `hammingbird check`") from None
    if payload is not None and not isinstance(payload, dict):
        raise StoreDamaged("a payload is not what was written; run `hammingbird check`")
    return payload


def _verified(digest: bytes, id: str, *fields: Any) -> Item:
    """The item of a row that must have the digest it was written with."""
    try:
        item = _item(id, *fields)
        intact = item.digest() == digest
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
