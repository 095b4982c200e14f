"""Small things that last, of all collections, in one Milvus collection: notes, states, remembered replies.

A record is a text under a key that begins with the collection's own; one too long for a row stands in parts beside it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from ..errors import BackendUnavailable, StoreUnavailable
from .connection import AT_ONCE, Connection, MissingCollection
from .names import RECORDS
from .parts import Parts, row

_INLINE = 32_000
"""Characters that stand in the row itself; four bytes each at most would still fit."""
_PLACE, _TEXT = "@", "="


class Records:
    """The records of one Milvus. Safe to use from many threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parts = Parts(connection, RECORDS)
        self._lock = threading.Lock()
        self._made = False

    def put(self, key: str, text: str) -> None:
        """Keep `text` under `key`, in place of what was there."""
        self._make()
        before = self._rows(f'id == "{_safe(key)}"')
        value = (
            _TEXT + text if len(text) <= _INLINE and text.isascii() else _PLACE + self._parts.put([text.encode()])[0]
        )
        self._connection.call("upsert", RECORDS, [row(_safe(key), value, int(time.time()))])
        self._forget(before)

    def get(self, key: str) -> str | None:
        """What is kept under `key`."""
        return next(iter(self._texts(f'id == "{_safe(key)}"').values()), None)

    def under(self, prefix: str) -> Mapping[str, str]:
        """Everything whose key begins with `prefix`, by the rest of it."""
        start = _safe(prefix)
        return {
            bytes.fromhex(key.removeprefix(start)).decode(): text
            for key, text in self._texts(f'id >= "{start}" and id < "{start}g"').items()
        }

    def delete(self, key: str) -> None:
        """Forget what is kept under `key`."""
        self._drop(f'id == "{_safe(key)}"')

    def delete_under(self, prefix: str, *, before: float | None = None) -> None:
        """Forget everything whose key begins with `prefix`; where `before` is given, only what is older."""
        start = _safe(prefix)
        older = "" if before is None else f" and at < {int(before)}"
        self._drop(f'id >= "{start}" and id < "{start}g"{older}')

    def _texts(self, where: str) -> dict[str, str]:
        rows = self._rows(where)
        places = {one["id"]: one["value"][1:] for one in rows if one["value"].startswith(_PLACE)}
        contents = self._parts.get(places.values()) if places else {}
        return {
            one["id"]: contents[places[one["id"]]].decode() if one["id"] in places else one["value"][1:] for one in rows
        }

    def _rows(self, where: str) -> list[Mapping[str, Any]]:
        try:
            found: list[Mapping[str, Any]] = self._connection.call(
                "query",
                RECORDS,
                filter=where,
                output_fields=["id", "value"],
                limit=AT_ONCE,
                consistency_level="Strong",
            )
            return found
        except MissingCollection:  # nothing was ever kept
            return []

    def _drop(self, where: str) -> None:
        rows = self._rows(where)
        if rows:
            self._connection.call("delete", RECORDS, ids=[one["id"] for one in rows])
            self._forget(rows)

    def _forget(self, rows: list[Mapping[str, Any]]) -> None:
        places = [one["value"][1:] for one in rows if one["value"].startswith(_PLACE)]
        if places:
            self._parts.delete(places)

    def _make(self) -> None:
        with self._lock:
            if self._made:
                return
            if not self._connection.call("has_collection", RECORDS):
                try:
                    self._parts.create()
                except BackendUnavailable:
                    raise
                except StoreUnavailable:
                    if not self._connection.call("has_collection", RECORDS):
                        raise
            self._parts.load()  # whoever made it may still be about to
            self._made = True


def _safe(key: str) -> str:
    """A key in characters that need no quoting, and in the order of keys; parts have hexadecimal tokens of another
    form, with a slash."""
    return "r" + key.encode().hex()
