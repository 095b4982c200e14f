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
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .contents import contents_of, signed
from .errors import NoSuchGeneration, StoreDamaged
from .items import Item
from .reader import Known, known, payload_of
from .records import ModelKey
from .shadow import Shadow
from .source import delete_codes, drop_table, insert_codes, make_table, seal_of, source_of

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
    generation: int = 0
    """The one that serves from here on, whose codes these are."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request to be remembered by its idempotency key: the digest of what it asked for, and the reply."""

    key: str
    digest: bytes
    reply: str


class Transaction:
    """Changes that become durable together."""

    def __init__(self, db: sqlite3.Connection, records_removed: bool) -> None:
        self._db = db
        self._records_removed = records_removed
        row = db.execute("SELECT sequence, last_key, contents, generation, other FROM state").fetchone()
        if row is None or not all(isinstance(value, int) for value in row[:4]):
            raise StoreDamaged("the store has lost its state")
        self.sequence, self._first_key, self._contents, self.generation = row[0] + 1, row[1] + 1, row[2], row[3]
        self.shadow = None if row[4] is None else Shadow(db, row[4])
        """The generation beside the one that serves, where there is one: everything must be written to both."""
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
        added, removed, touched, shadow = len(self._codes), len(self._removed), self._touched, self.shadow
        mark = None if shadow is None else shadow.mark()
        self._db.execute("SAVEPOINT step")
        try:
            yield
            self._db.execute("RELEASE step")
        except BaseException:
            del self._codes[added:], self._removed[removed:]
            self._touched, self.shadow = touched, shadow
            if shadow is not None and mark is not None:
                shadow.undo(mark)
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
        return known(self._db, self.generation, ids)

    def above(self, key: int) -> list[tuple[int, str, bytes]]:
        """(key, id, code) of what is stored under keys above `key`, ascending."""
        own = source_of(self.generation)
        return self._db.execute(
            f"SELECT items.key, id, {own.code} FROM {own.rows} WHERE items.key > ? ORDER BY items.key", (key,)
        ).fetchall()

    def ids(self, keys: Iterable[int]) -> dict[int, str]:
        """The ids of those of `keys` that are stored."""
        rows = self._db.execute(
            "SELECT key, id FROM items WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(list(keys)),)
        )
        return dict(rows.fetchall())

    def payload(self, key: int) -> dict[str, Any] | None:
        """The payload of the stored item `key`."""
        row = self._db.execute("SELECT payload FROM items WHERE key = ?", (key,)).fetchone()
        return payload_of(row[0])

    def matching(self, where: str, values: Sequence[str | int | float | None]) -> list[Known]:
        """What is stored where the condition holds."""
        own = source_of(self.generation)
        rows = self._db.execute(f"SELECT items.key, digest, {own.code} FROM {own.rows} WHERE {where}", list(values))
        return [Known(*row) for row in rows]

    def insert(self, items: Sequence[Item], codes: Sequence[bytes], beside: Sequence[bytes] | None = None) -> None:
        """Store new items with their codes. Raises `sqlite3.IntegrityError` where an id is taken.

        beside: their codes in the generation beside the one that serves, where there is one.
        """
        self._touched = True
        keys = range(self._first_key + len(self._codes), self._first_key + len(self._codes) + len(items))
        first = [b""] * len(items)  # the codes of generation 0, where it has been given up
        if self.generation == 0:
            first = list(codes)
        elif self.shadow is not None and self.shadow.number == 0:
            first = list(beside or ())
        self._db.executemany(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [_row(key, item, code) for key, item, code in zip(keys, items, first, strict=True)],
        )
        ids = [item.id for item in items]
        insert_codes(self._db, self.generation, keys, ids, codes)
        if self.shadow is not None:
            self.shadow.add(keys, ids, beside or ())
        self._codes += codes

    def insert_codes(self, ids: Sequence[str], codes: Sequence[bytes]) -> None:
        """Store new items that are a code and nothing else, where one generation is all. Raises as `insert` does."""
        self._touched = True
        keys = range(self._first_key + len(self._codes), self._first_key + len(self._codes) + len(ids))
        insert_codes(self._db, self.generation, keys, ids, codes)
        stored = codes if self.generation == 0 else [b""] * len(ids)
        # As `seal_of`, without a line of Python for each.
        seals = map(zlib.crc32, stored, map(zlib.crc32, map(str.encode, ids), keys))
        values = list(chain.from_iterable(zip(keys, ids, stored, seals, strict=True)))
        for start in range(0, len(values), 4 * _ROWS):
            part = values[start : start + 4 * _ROWS]
            rows = ", ".join(["(?, ?, ?, ?, x'')"] * (len(part) // 4))
            self._db.execute(f"INSERT INTO items (key, id, code, seal, digest) VALUES {rows}", part)
        self._codes += codes

    def remove(self, gone: Sequence[Known]) -> None:
        """Delete stored items."""
        self._touched = True
        keys = [known.key for known in gone]
        if self.shadow is not None:
            self.shadow.remove(keys)
        delete_codes(self._db, self.generation, keys)
        self._db.executemany("DELETE FROM items WHERE key = ?", [(key,) for key in keys])
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

    def note(self, name: str, value: str) -> None:
        """Keep a text with the collection, in place of an earlier one of that name."""
        self._db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
        )
        self._touched = True

    def declare(self, field: str, statements: Sequence[str]) -> None:
        """Give a payload field an index."""
        self._db.execute("INSERT OR IGNORE INTO fields VALUES (?)", (field,))
        for statement in statements:
            self._db.execute(statement)
        self._touched = True

    # -- generations ---------------------------------------------------------------------------------------

    def missing_inputs(self, after: int) -> int:
        """How many items with a key above `after` have no kept input."""
        return int(
            self._db.execute("SELECT count(*) FROM items WHERE key > ? AND input IS NULL", (after,)).fetchone()[0]
        )

    def state_of(self, number: int) -> str | None:
        """The state of a generation, or None where there is none of that number."""
        row = self._db.execute("SELECT state FROM generations WHERE number = ?", (number,)).fetchone()
        return None if row is None else str(row[0])

    def set_state(self, number: int, state: str) -> None:
        self._db.execute("UPDATE generations SET state = ? WHERE number = ?", (state, number))

    def begin(self, model: ModelKey, bits: int, created_at: str) -> int:
        """Begin to fill another generation, where there is but one; returns its number."""
        number = self._db.execute(
            "INSERT INTO generations (model, bits, state, items, contents, created_at)"
            " VALUES (?, ?, 'filling', 0, 0, ?) RETURNING number",
            (json.dumps(asdict(model)), bits, created_at),
        ).fetchone()[0]
        make_table(self._db, number)
        self._db.execute("UPDATE state SET other = ?", (number,))
        self.shadow = Shadow(self._db, number)
        return int(number)

    def drop(self) -> None:
        """Give up the generation that does not serve, where there is one."""
        if self.shadow is None:
            return
        drop_table(self._db, self.shadow.number)
        self._db.execute("DELETE FROM generations WHERE number = ?", (self.shadow.number,))
        self._db.execute("UPDATE state SET other = NULL")
        self.shadow = None

    def flip(self, new: int) -> None:
        """Let generation `new` serve; the first change of its transaction. Raises `NoSuchGeneration`, `StoreDamaged`.

        What has served till now is kept.
        """
        if self.shadow is None or self.shadow.number != new:
            raise NoSuchGeneration(
                f"generation {new} does not stand by any more: another request flipped it or gave it up meanwhile"
            )
        old = self.generation
        items = self._db.execute("SELECT items FROM state").fetchone()[0]
        row = self._db.execute("SELECT items, contents FROM generations WHERE number = ?", (new,)).fetchone()
        if row is None or row[0] != items:
            raise StoreDamaged(f"generation {new} does not have a code for every item; it cannot serve")
        self._db.execute(
            "UPDATE generations SET state = 'kept', items = ?, contents = ? WHERE number = ?",
            (items, self._contents, old),
        )
        self._db.execute("UPDATE generations SET state = 'serving', items = 0, contents = 0 WHERE number = ?", (new,))
        self._db.execute("UPDATE state SET generation = ?, other = ?", (new, old))
        self._db.execute("DELETE FROM removed")  # noted for a copy of the old codes
        self._contents, self.generation, self.shadow = row[1], new, Shadow(self._db, old)
        self._touched = True

    def finish(self) -> None:
        """Bring the state up to date with the changes."""
        if self.shadow is not None:
            self.shadow.finish()
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
            self.generation,
        )


def _joined(codes: Sequence[bytes]) -> Codes:
    width = len(codes[0]) if codes else 0
    return np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), width)


def _row(key: int, item: Item, code: bytes) -> tuple[int, str, bytes, int, str | None, str | None, bytes | None, bytes]:
    packed = None if item.input is None else zlib.compress(item.input, 1)
    return key, item.id, code, seal_of(key, item.id, code), item.payload_text(), item.kind, packed, item.digest()
