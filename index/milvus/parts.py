"""Bytes of any length in Milvus, which has strings of 65,535 bytes: cut into parts under a token of their own.

Parts are never changed: what replaces them has another token. So whoever holds a token reads the whole or nothing.
"""

from __future__ import annotations

import base64
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from ..errors import StoreDamaged
from .connection import AT_ONCE, Connection
from .names import any_of
from .schema import create_parts, load_parts

_PART = 48_000
"""Bytes of a part, before base64 makes them a third longer."""
_OLD_S = 3600
_TOGETHER = 8 * 2**20
"""Bytes sent or asked for at a time: Milvus takes 64 MiB."""


class Parts:
    """Those in one Milvus collection. Safe to use from many threads."""

    def __init__(self, connection: Connection, physical: str) -> None:
        self._connection, self.physical = connection, physical

    def create(self) -> None:
        create_parts(self._connection, self.physical)

    def load(self) -> None:
        """Make ready for use what another process has created, or only begun to."""
        load_parts(self._connection, self.physical)

    def put(self, contents: Sequence[bytes]) -> list[str]:
        """Store each of `contents`; returns where, a text each."""
        places, rows, size = [], [], 0
        for content in contents:
            packed = zlib.compress(content, 1)
            token, count = uuid.uuid4().hex, -(-len(packed) // _PART)
            places.append(f"{token}:{count}:{len(packed)}")
            for number in range(count):
                value = base64.b64encode(packed[number * _PART : (number + 1) * _PART]).decode()
                rows.append(row(f"{token}/{number}", value, int(time.time())))
                size += len(value)
                if size > _TOGETHER:
                    self._connection.call("upsert", self.physical, rows)
                    rows, size = [], 0
        if rows:
            self._connection.call("upsert", self.physical, rows)
        return places

    def get(self, places: Iterable[str]) -> dict[str, bytes]:
        """What stands at `places`, by place. Raises `StoreDamaged` where a part is not there or not what was put."""
        found: dict[str, bytes] = {}
        batch: list[str] = []
        size = 0
        for place in dict.fromkeys(places):
            batch.append(place)
            size += int(place.split(":")[2])
            if size > _TOGETHER or len(batch) >= 1000:
                found |= self._read(batch)
                batch, size = [], 0
        return found | self._read(batch)

    def _read(self, places: Sequence[str]) -> dict[str, bytes]:
        values: dict[str, str] = {}
        keys = [key for place in places for key in _keys(place)]
        for start in range(0, len(keys), 1000):
            rows = self._connection.call(
                "query",
                self.physical,
                filter=any_of("id", keys[start : start + 1000]),
                output_fields=["id", "value"],
                consistency_level="Strong",
            )
            values |= {row["id"]: row["value"] for row in rows}
        found = {}
        for place in places:
            try:
                packed = b"".join(base64.b64decode(values[key]) for key in _keys(place))
                found[place] = zlib.decompress(packed)
            except (KeyError, ValueError, zlib.error):
                raise StoreDamaged(f"what Milvus keeps at {self.physical}/{place} is not what was written") from None
        return found

    def delete(self, places: Iterable[str]) -> None:
        """Give up what stands at `places`."""
        keys = iter([key for place in places for key in _keys(place)])
        while chunk := list(islice(keys, 5000)):
            self._connection.call("delete", self.physical, ids=chunk)

    def tokens(self) -> set[str]:
        """The tokens of everything that is there."""
        found: set[str] = set()
        after = ""
        while True:
            rows = self._connection.call(
                "query",
                self.physical,
                filter=f'id > "{after}"',
                output_fields=["id"],
                limit=AT_ONCE,
                consistency_level="Strong",
            )
            found |= {row["id"].split("/")[0] for row in rows}
            if len(rows) < AT_ONCE:
                return found
            after = rows[-1]["id"]

    def delete_old(self, tokens: Iterable[str]) -> None:
        """Give up all parts of these tokens that were put more than an hour ago: no write takes so long."""
        for token in tokens:
            rows = self._connection.call(
                "query",
                self.physical,
                # "0" follows "/"
                filter=f'id >= "{token}/" and id < "{token}0" and at < {int(time.time()) - _OLD_S}',
                output_fields=["id"],
                limit=AT_ONCE,
                consistency_level="Strong",
            )
            if rows:
                self._connection.call("delete", self.physical, ids=[row["id"] for row in rows])


def token_of(place: str) -> str:
    return place.split(":")[0]


def size_of(place: str) -> int:
    """Bytes that it takes in Milvus, compressed."""
    return int(place.split(":")[2])


def row(id: str, value: str, at: int = 0) -> Mapping[str, Any]:
    """A row of a collection of parts; Milvus wants a vector in each."""
    return {"id": id, "value": value, "at": at, "vector": b"\0"}


def _keys(place: str) -> list[str]:
    token, count, _ = place.split(":")
    return [f"{token}/{number}" for number in range(int(count))]
