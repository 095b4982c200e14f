"""What a transaction does to the codes of the generation beside the one that serves."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np

from .contents import contents_of, signed
from .source import delete_codes, insert_codes, source_of


class Shadow:
    """Codes added and removed, kept in step with the items of the same transaction."""

    def __init__(self, db: sqlite3.Connection, number: int) -> None:
        self._db = db
        self.number = number
        self._added: list[tuple[int, bytes]] = []
        self._removed: list[tuple[int, bytes]] = []

    def mark(self) -> tuple[int, int]:
        """The place to which `undo` goes back."""
        return len(self._added), len(self._removed)

    def undo(self, mark: tuple[int, int]) -> None:
        """Forget what was noted since; the store undoes its own part."""
        del self._added[mark[0] :], self._removed[mark[1] :]

    def add(self, keys: Sequence[int], ids: Iterable[str], codes: Sequence[bytes]) -> None:
        """Store the codes of items that have none in this generation."""
        insert_codes(self._db, self.number, keys, ids, codes)
        self._added += zip(keys, codes, strict=True)

    def remove(self, keys: Sequence[int]) -> None:
        """Delete the codes of items, where they have any, before the items themselves are deleted."""
        source = source_of(self.number)
        self._removed += self._db.execute(
            f"SELECT items.key, {source.code} FROM {source.rows} "
            f"WHERE items.key IN (SELECT value FROM json_each(?)) AND {source.code} IS NOT NULL",
            (json.dumps(list(keys)),),
        ).fetchall()
        delete_codes(self._db, self.number, keys)

    def fill(self, codes: dict[int, bytes]) -> int:
        """Store codes by the keys of items, of those that are still there and have none yet; returns how many."""
        source = source_of(self.number)
        rows = self._db.execute(
            f"SELECT items.key, items.id FROM {source.rows} "
            f"WHERE items.key IN (SELECT value FROM json_each(?)) AND {source.code} IS NULL",
            (json.dumps(list(codes)),),
        ).fetchall()
        keys = [key for key, _ in rows]
        self.add(keys, [id for _, id in rows], [codes[key] for key in keys])
        return len(rows)

    def finish(self) -> None:
        """Bring the generation's count and contents up to date."""
        if not (self._added or self._removed):
            return
        contents: int = self._db.execute(
            "SELECT contents FROM generations WHERE number = ?", (self.number,)
        ).fetchone()[0]
        contents += _contents(self._added) - _contents(self._removed)
        self._db.execute(
            "UPDATE generations SET items = items + ?, contents = ? WHERE number = ?",
            (len(self._added) - len(self._removed), signed(contents), self.number),
        )
        self._added, self._removed = [], []


def _contents(pairs: Sequence[tuple[int, bytes]]) -> int:
    if not pairs:
        return 0
    keys = np.array([key for key, _ in pairs], np.int64)
    return contents_of(keys, np.frombuffer(b"".join(code for _, code in pairs), np.uint8).reshape(len(pairs), -1))
