"""One transaction of a store: the changes in it, and what they add up to.

Several requests may share one. Each is a `step`, all of it or none: where one is refused the others go on.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .contents import contents_of, signed
from .errors import StoreDamaged
from .items import Item
from .reader import seal_of

KEPT_REQUESTS_S = 24 * 3600
"""How long an idempotency key is remembered: longer than any client goes on retrying."""

_ROWS = 250
"""Rows of one statement: to store many at once takes half the time of storing each, and there it levels off."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction did, in the terms a snapshot needs."""

    sequence: int
    added: NDArray[np.int64]  # keys that are new, ascending
    codes: Codes  # (len(added), bits / 8)
    removed: NDArray[np.int64]  # keys that are gone; one may have come in the same change
    removed_codes: Codes  # (len(removed), bits / 8)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request to be remembered by its idempotency key: the digest of what it asked for, and the reply."""

    key: str
    digest: bytes
    reply: str


class Known(NamedTuple):
    """What is stored under an id."""

    key: int
    digest: bytes
    code: bytes


class Transaction:
    """Changes that become durable together."""

    def __init__(self, db: sqlite3.Connection, records_removed: bool) -> None:
        self._db = db
        self._records_removed = records_removed
        row = db.execute("SELECT sequence, last_key, contents FROM state").fetchone()
        if row is None or not all(isinstance(value, int) for value in row):
            raise StoreDamaged("the store has lost its state")
        self.sequence, self._first_key, self._contents = row[0] + 1, row[1] + 1, row[2]
        self._codes: list[bytes] = []  # of the added keys, which are consecutive
        self._removed: list[tuple[int, bytes]] = []
        self._touched = False

    @property
    def changes(self) -> bool:
        """Whether there is anything to be made durable."""
        return self._touched

    @property
    def open(self) -> bool:
        """False once SQLite has given up the transaction by itself, as it does on a full disk."""
        return self._db.in_transaction

    @contextmanager
    def step(self) -> Iterator[None]:
        """A part of the transaction that is undone as a whole where it raises."""
        added, removed, touched = len(self._codes), len(self._removed), self._touched
        self._db.execute("SAVEPOINT step")
        try:
            yield
            self._db.execute("RELEASE step")
        except BaseException:
            del self._codes[added:], self._removed[removed:]
            self._touched = touched
            if self._db.in_transaction:
                self._undo_step()
            raise

    def _undo_step(self) -> None:
        try:
            self._db.execute("ROLLBACK TO step")
            self._db.execute("RELEASE step")
        except sqlite3.Error:
            self._db.execute("ROLLBACK")  # what cannot be undone alone is undone with all the rest
            raise

    def known(self, ids: Iterable[str]) -> dict[str, Known]:
        """What is stored under those `ids` that are."""
        rows = self._db.execute(
            "SELECT id, key, digest, code FROM items WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(ids)),),
        )
        return {id: Known(key, digest, code) for id, key, digest, code in rows}

    def matching(self, where: str, values: Sequence[str | int | float | None]) -> list[Known]:
        """What is stored where the condition holds."""
        rows = self._db.execute(f"SELECT key, digest, code FROM items WHERE {where}", list(values))
        return [Known(*row) for row in rows]

    def insert(self, items: Sequence[Item]) -> None:
        """Store new items. Raises `sqlite3.IntegrityError` where an id is taken."""
        self._touched = True
        keys = range(self._first_key + len(self._codes), self._first_key + len(self._codes) + len(items))
        self._db.executemany(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [_row(key, item) for key, item in zip(keys, items, strict=True)],
        )
        self._codes += [item.code for item in items]

    def insert_codes(self, ids: Sequence[str], codes: Sequence[bytes]) -> None:
        """Store new items that are a code and nothing else. Raises as `insert` does."""
        self._touched = True
        keys = range(self._first_key + len(self._codes), self._first_key + len(self._codes) + len(ids))
        # As `seal_of`, without a line of Python for each.
        seals = map(zlib.crc32, codes, map(zlib.crc32, map(str.encode, ids), keys))
        values = list(chain.from_iterable(zip(keys, ids, codes, seals, strict=True)))
        for start in range(0, len(values), 4 * _ROWS):
            part = values[start : start + 4 * _ROWS]
            rows = ", ".join(["(?, ?, ?, ?, x'')"] * (len(part) // 4))
            self._db.execute(f"INSERT INTO items (key, id, code, seal, digest) VALUES {rows}", part)
        self._codes += codes

    def remove(self, gone: Sequence[Known]) -> None:
        """Delete stored items."""
        self._touched = True
        self._db.executemany("DELETE FROM items WHERE key = ?", [(known.key,) for known in gone])
        pairs = [(known.key, known.code) for known in gone]
        if self._records_removed:
            self._db.executemany(
                "INSERT INTO removed VALUES (?, ?, ?)", [(key, code, self.sequence) for key, code in pairs]
            )
        self._removed += pairs

    def forget_removed(self, sequence: int) -> None:
        """Drop the note of what was removed up to `sequence`: the copy of the codes is newer."""
        self._db.execute("DELETE FROM removed WHERE sequence <= ?", (sequence,))
        self._touched = True

    def answered(self, key: str) -> tuple[bytes, str] | None:
        """The digest and the reply of the request with idempotency key `key`, where it was answered before."""
        row = self._db.execute("SELECT digest, reply FROM requests WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], row[1])

    def remember(self, request: Answered) -> None:
        """Keep the reply to a request; those that are too old are dropped."""
        now = time.time()
        self._db.execute("DELETE FROM requests WHERE at < ?", (now - KEPT_REQUESTS_S,))
        self._db.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", (request.key, request.digest, request.reply, now))
        self._touched = True

    def declare(self, field: str, statements: Sequence[str]) -> None:
        """Give a payload field an index."""
        self._db.execute("INSERT OR IGNORE INTO fields VALUES (?)", (field,))
        for statement in statements:
            self._db.execute(statement)
        self._touched = True

    def finish(self) -> None:
        """Bring the state up to date with the changes."""
        if not self._touched:
            return
        change = self.change
        contents = self._contents
        if len(change.added):
            contents += contents_of(change.added, change.codes)
        if len(change.removed):
            contents -= contents_of(change.removed, change.removed_codes)
        self._db.execute(
            "UPDATE state SET sequence = ?, last_key = last_key + ?, items = items + ?, contents = ?",
            (self.sequence, len(change.added), len(change.added) - len(change.removed), signed(contents)),
        )

    @cached_property
    def change(self) -> Change:
        """What has been done; asked for when all is."""
        keys = range(self._first_key, self._first_key + len(self._codes))
        return Change(
            self.sequence,
            np.arange(keys.start, keys.stop, dtype=np.int64),
            _joined(self._codes),
            np.array([key for key, _ in self._removed], np.int64),
            _joined([code for _, code in self._removed]),
        )


def _joined(codes: Sequence[bytes]) -> Codes:
    width = len(codes[0]) if codes else 0
    return np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), width)


def _row(key: int, item: Item) -> tuple[int, str, bytes, int, str | None, str | None, bytes | None, bytes]:
    packed = None if item.input is None else zlib.compress(item.input, 1)
    seal = seal_of(key, item.id, item.code)
    return key, item.id, item.code, seal, item.payload_text(), item.kind, packed, item.digest()
