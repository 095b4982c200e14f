"""The truth of one collection: a SQLite file (WAL, synchronous FULL, one writer).

A change is one transaction and is on disk when `write` returns. Everything held in memory is derived from here
and can be rebuilt. Readers open their own read-only connections; each `Reader` sees one committed state.
"""

from __future__ import annotations

import json
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import filters
from .errors import StoreBusy, StoreDamaged, StoreFull, StoreUnavailable, UnknownCollection
from .migrations import migrate
from .reader import Reader
from .records import ModelKey
from .transaction import Transaction

_WAIT_S = 30
_SEARCHES_END_S = 5
"""A search ends within this; a training on the collection, which reads it as long, does not, and writers wait."""
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
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
        if primary == sqlite3.SQLITE_CANTOPEN and not path.exists():  # its folder has another name, to be deleted
            raise UnknownCollection(f"collection {path.parent.name!r} has just been deleted") from None
        if primary in _FULL or code in _FULL:
            raise StoreFull(
                f"the disk that holds {path.parent.name!r} is full; nothing was stored. "
                "Free some space and send the request again"
            ) from error
        # A text that is no longer UTF-8 has no code of its own.
        if primary in _DAMAGED or "decode to UTF-8" in str(error):
            raise StoreDamaged(f"{path.parent.name!r}: {error}; restore the collection from a backup") from error
        raise StoreUnavailable(f"{path.parent.name!r}: the store could not be used: {error}") from error


class Store:
    """One collection on disk. Transactions must be serialised by the caller; readers are free."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, bringing its schema up to date. Raises `StoreDamaged`, `StoreUnavailable`."""
        self.path = path
        self._moving = threading.Lock()
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._closed = threading.Event()
        self.records_removed = False
        """Whether what is removed is noted, so that a copy of the codes can be brought up to date."""
        with faults(path):
            self._writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_WAIT_S)
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.execute("PRAGMA secure_delete = ON")
                migrate(self._writer)
                filters.install(self._writer)
            except BaseException:
                self._writer.close()
                raise

    def close(self) -> None:
        self._closed.set()
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()
        self._writer.close()

    def move(self, folder: Path) -> None:
        """Rename the folder that holds the store to `folder`, while it is in use.

        What is open stays open: SQLite keeps its files by descriptor, and one that was moved does not, when it is
        closed, remove the log of whatever has its old name by then.
        """
        with self._moving:
            os.rename(self.path.parent, folder)
            self.path = folder / self.path.name

    # -- settings of the collection ------------------------------------------------------------------------

    def set_meta(self, values: Mapping[str, Any]) -> None:
        with faults(self.path), self._transaction():
            self._writer.executemany(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [(name, json.dumps(value)) for name, value in values.items()],
            )

    def set_first_generation(self, bits: int, model: ModelKey | None, created_at: str) -> None:
        """Say which model makes the codes of a store that has none yet, and how wide they are."""
        with faults(self.path), self._transaction():
            self._writer.execute(
                "INSERT INTO generations VALUES (0, ?, ?, 'serving', 0, 0, ?)",
                (json.dumps(None if model is None else asdict(model)), bits, created_at),
            )

    def set_model(self, number: int, model: ModelKey) -> None:
        """Say by what name and version the model of a generation is known now."""
        with faults(self.path), self._transaction():
            self._writer.execute(
                "UPDATE generations SET model = ? WHERE number = ?", (json.dumps(asdict(model)), number)
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
    def transaction(self) -> Iterator[Transaction]:
        """Changes that become durable together when the block ends, or not at all."""
        with faults(self.path), self._transaction():
            transaction = Transaction(self._writer, self.records_removed)
            yield transaction
            transaction.finish()

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

    def compact(self) -> None:
        """Rewrite the file without what was removed, and empty the log beside it.

        The log can be emptied once no search reads what is in it. Raises `StoreBusy` where something keeps on.
        """
        with faults(self.path):
            if not self._writer.execute("SELECT 1 FROM generations WHERE number = 0").fetchone():
                # The codes of the first model, which the collection has given up, still stand beside the items.
                self._writer.execute("UPDATE items SET code = x'', seal = 0 WHERE code != x''")
            self._writer.execute("VACUUM")
            deadline = time.monotonic() + _SEARCHES_END_S
            self._writer.execute("PRAGMA busy_timeout = 0")  # each attempt would else wait as long as a write does
            try:
                while self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if time.monotonic() > deadline:
                        raise StoreBusy(
                            f"collection {self.path.parent.name!r} is rewritten, but something, a training or a "
                            f"backup, has read the old file for {_SEARCHES_END_S} s, so its log still holds what was "
                            "deleted; compact again when that has ended"
                        )
                    time.sleep(0.01)
            finally:
                self._writer.execute(f"PRAGMA busy_timeout = {_WAIT_S * 1000}")

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
                with self._moving:
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
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_WAIT_S)
    filters.install(db)
    db.execute("PRAGMA schema_version")  # opens the log beside the file, which may be moved from now on
    return db


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
