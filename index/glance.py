"""Answers that take so little that an event loop can give them: nothing in here waits for a lock.

The index is searched as far as its planner's prices allow. What was found is looked up in one statement. That may see
a later state of the store than the snapshot shows, but a key stands for one content for ever: where all keys are still
there, so is what the snapshot stood for. Whatever is not so simple, or not in order, is left to `query.answer`, which
takes its time and says what is wrong.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import cast

from .answer import Hit, Page
from .bits import Codes
from .records import ModelKey
from .scan import KEY_BITS, KEY_MASK
from .snapshot import Snapshot
from .source import source_of

ALLOWANCE_NS = 200_000.0
"""What an index may take by its planner's prices: about what a thread to hand it to costs under load."""
MOST = 128
"""Items that are looked up: about a microsecond each."""

KEPT_BYTES = 16 << 20
"""Memory for rows that were read lately, some 80,000 small ones: most searches ask for what others asked for."""
_ROW_BYTES = 130
"""What a row takes in memory besides the text of its id and payload."""

_Row = tuple[str, str | None, bytes | None]
"""Id, payload and, where it is wanted, code."""


class Glance:
    """The short way to the items of one store. For use from many threads, of which one at a time gets an answer."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """connect: opens the store to be read; its searches are not to wait for a lock."""
        self._connect = connect
        self._db: sqlite3.Connection | None = None
        self._busy = threading.Lock()
        self._known: dict[int, _Row] = {}  # by key, those read longest ago first; a key never stands for anything else
        self._size = 0

    def close(self) -> None:
        with self._busy:
            if self._db is not None:
                self._db.close()
                self._db = None

    def page(
        self,
        snapshot: Snapshot,
        model: ModelKey | None,
        code: Codes,
        *,
        k: int | None = None,
        radius: int | None = None,
        limit: int = 1000,
        payloads: bool = True,
        codes: bool = False,
        count_only: bool = False,
        allowance_ns: float = ALLOWANCE_NS,
    ) -> Page | None:
        """The exact answer as `query.answer` gives it, or None where that is the one to ask, or to refuse.

        model: of the codes in `snapshot`.
        """
        wide = snapshot.bits
        if code.size * 8 != wide or not (k or radius is not None) or not 0 <= (radius or 0) <= wide:
            return None
        found = snapshot.within_allowance(code, k, radius, allowance_ns)
        if found is None:
            return None
        size = len(found)
        total = size if k is None else min(k, size)
        if count_only or size == 0:
            return Page((), total, None, found.plan, model)
        if size > MOST or (k is None and size > limit):
            return None
        packed = found.packed.tolist()
        rows = self._rows([one & KEY_MASK for one in packed], snapshot.generation, codes)
        if rows is None:
            return None
        ordered = sorted([(one >> KEY_BITS, *row) for one, row in zip(packed, rows, strict=True)])[:total]
        hits = [
            Hit(id, distance, payload if payloads else None, code if codes else None)
            for distance, id, payload, code in ordered
        ]
        return Page(hits, total, None, found.plan, model)

    def _rows(self, keys: list[int], generation: int, codes: bool) -> list[_Row] | None:
        """The rows of `keys`, in their order, with codes where asked; None where they cannot be had now."""
        known = self._known
        if not codes:
            rows = [known.get(key) for key in keys]
            if None not in rows:
                return cast("list[_Row]", rows)
            keys_left = [key for key, row in zip(keys, rows, strict=True) if row is None]
        else:
            keys_left = keys
        if not self._busy.acquire(blocking=False):
            return None
        try:
            read = self._read(keys_left, generation)
            if read is None:
                return None
            if codes:
                return [read[key] for key in keys]
            self._keep(read)
        except sqlite3.Error:  # a lock, or damage, of which a search that may wait finds out more
            return None
        finally:
            self._busy.release()
        return [read[key] if row is None else row for key, row in zip(keys, rows, strict=True)]

    def _read(self, keys: list[int], generation: int) -> dict[int, _Row] | None:
        """The rows of `keys` with their codes; None where one is gone or not what was written."""
        if self._db is None:
            self._db = self._connect()
        found = self._db.execute(_statement(generation, len(keys)), keys).fetchall()
        payloads = [row[4] for row in found if row[4] is not None]
        if len(found) != len(keys) or (payloads and not _are_objects(payloads)):
            return None
        crc32 = zlib.crc32
        try:
            for key, id, code, seal, _ in found:
                if crc32(code, crc32(id.encode(), key & 0xFFFFFFFF)) != seal:  # as `seal_of`
                    return None
        except (TypeError, AttributeError):  # not of the types that were written
            return None
        return {key: (id, payload, code) for key, id, code, _, payload in found}

    def _keep(self, rows: dict[int, _Row]) -> None:
        """Remember rows, without their codes, in place of those that were read longest ago."""
        for key, (id, payload, _) in rows.items():
            self._known[key] = (id, payload, None)
            self._size += _ROW_BYTES + len(id) + len(payload or "")
        if self._size > KEPT_BYTES:
            for key in list(islice(self._known, len(self._known) // 4 + 1)):
                id, payload, _ = self._known.pop(key)
                self._size -= _ROW_BYTES + len(id) + len(payload or "")


@cache
def _statement(generation: int, size: int) -> str:
    own = source_of(generation)
    wanted = ",".join("?" * size)
    return f"SELECT items.key, id, {own.code}, {own.seal}, payload FROM {own.rows} WHERE items.key IN ({wanted})"


def connect_impatiently(path: Path) -> sqlite3.Connection:
    """A read-only connection that gives up at once where it would have to wait."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0, cached_statements=2 * MOST
    )


def _are_objects(texts: list[str]) -> bool:
    """Whether each is a JSON object, as it was written."""
    try:
        found = json.loads(f"[{','.join(texts)}]")
    except (ValueError, TypeError):
        return False
    return len(found) == len(texts) and all(type(one) is dict for one in found)
