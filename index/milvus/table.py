"""The rows of one generation: read by id or all in order, written, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ..errors import BackendUnavailable, StoreUnavailable
from .connection import AT_ONCE, Connection
from .expressions import both
from .names import any_of
from .rows import FIELDS

Row = Mapping[str, Any]

_KEYS = 4_000
"""Keys named in one question; of 512 bytes each they would take 4 MB."""
_BYTES = 8 * 2**20
"""Of rows sent at a time: Milvus takes 64 MiB, and what comes in one call is seen at one moment."""
_SEALED_S = 120
_PAGE = 500
"""Rows read at a time with all their fields: at most 64 KiB each."""


class Rows:
    """Those of one Milvus collection."""

    def __init__(self, connection: Connection, physical: str, consistency: str = "Strong") -> None:
        self._connection, self._physical, self._consistency = connection, physical, consistency

    def by_key(self, keys: Iterable[str], fields: Sequence[str] = FIELDS) -> dict[str, Row]:
        """The rows with these primary keys that are there, by key."""
        found: dict[str, Row] = {}
        waiting = iter(dict.fromkeys(keys))
        step = _KEYS if "payload" not in fields else _PAGE
        while chunk := list(islice(waiting, step)):
            found |= {row["id"]: row for row in self._query(any_of("id", chunk), fields)}
        return found

    def ordered(
        self, fields: Sequence[str] = FIELDS, *, after: str = "", where: str | None = None, page: int = 0
    ) -> Iterator[Row]:
        """All rows in the order of keys, from the first above `after`; read in pages."""
        page = page or (AT_ONCE if "payload" not in fields else _PAGE)
        while True:
            rows = self._query(both(f'id > "{after}"', where), fields, page)
            # A short page is not the last: of a row that is there twice, as a kill of Milvus has once left it, both
            # count and one is given.
            if not rows:
                return
            yield from rows
            after = rows[-1]["id"]

    def seal(self) -> None:
        """Have Milvus pack what was written: it searches loose rows at a tenth of the speed (docs/scale.md).

        It does so by itself too, in time, and may refuse to do it now; nothing depends on it. Raises
        `BackendUnavailable`.
        """
        try:
            self._connection.call("flush", self._physical, within_s=_SEALED_S)
        except BackendUnavailable:
            raise
        except StoreUnavailable:
            return

    def count(self, where: str = "") -> int:
        """How many rows there are."""
        found = self._connection.call(
            "query", self._physical, filter=where, output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(found[0]["count(*)"])

    def put(self, rows: Iterable[Row]) -> None:
        """Store rows with distinct keys, each in place of what had its key."""
        batch: list[Row] = []
        size = 0
        for row in rows:
            batch.append(row)
            size += 300 + len(str(row["payload"])) + len(row["exact"]) + len(row["code"])
            if size > _BYTES:
                self._connection.call("upsert", self._physical, batch)
                batch, size = [], 0
        if batch:
            self._connection.call("upsert", self._physical, batch)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the rows with these keys, as far as they are there."""
        for start in range(0, len(keys), _KEYS):
            self._connection.call("delete", self._physical, ids=list(keys[start : start + _KEYS]))

    def _query(self, where: str, fields: Sequence[str], limit: int = AT_ONCE) -> list[Row]:
        rows: list[Row] = self._connection.call(
            "query",
            self._physical,
            filter=where,
            output_fields=list(fields),
            limit=limit,
            consistency_level=self._consistency,
        )
        return rows
