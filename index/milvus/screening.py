"""Which items of a write lie near another one: the rule of `screen`, over what Milvus holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..bits import Codes
from ..errors import InvalidQuery
from ..items import Item
from ..reader import Known
from ..records import Duplicate, Screen
from ..screen import AHEAD
from ..screen import screened as by_the_rule
from .connection import Connection
from .finding import Finder, each_nearest
from .layout import Layer
from .names import to_id, to_key
from .rows import code_of, payload_text
from .table import Row, Rows


def screened(
    connection: Connection, layer: Layer, table: Rows, items: Sequence[Item], codes: Sequence[bytes], screen: Screen
) -> tuple[list[tuple[int, Item]], list[Duplicate]]:
    """The items to store with their positions, in their order, and the duplicates among all.

    codes: of the items, in the generation `layer`, whose rows are in `table`. Raises `InvalidQuery` for a bad radius.
    """
    if not 0 <= screen.radius <= layer.bits:
        raise InvalidQuery(f"radius is 0 to {layer.bits}, the width of the codes; got {screen.radius}")
    stored = _Stored(layer, table)
    return by_the_rule(stored, _Sight(connection, layer, stored, items, codes, screen))


class _Stored:
    """What is stored, with a number in place of each primary key, as the rule wants it."""

    def __init__(self, layer: Layer, table: Rows) -> None:
        self.generation = layer.number
        self._table = table
        self._numbers: dict[str, int] = {}
        self._keys: list[str] = []
        self._rows: dict[str, Row] = {}

    def number(self, key: str) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._keys)
            self._keys.append(key)
        return self._numbers[key]

    def above(self, key: int) -> list[tuple[int, str, bytes]]:
        """Nothing has come since: writes of this process wait, and of others' nothing is known."""
        return []

    def known(self, ids: Iterable[str]) -> dict[str, Known]:
        rows = self._table.by_key(map(to_key, ids), ["id", "code", "digest", "payload", "exact", "flags"])
        self._rows |= rows
        return {
            to_id(key): Known(self.number(key), bytes.fromhex(row["digest"]), code_of(row)) for key, row in rows.items()
        }

    def ids(self, keys: Iterable[int]) -> dict[int, str]:
        return {number: to_id(self._keys[number]) for number in keys}

    def payload(self, key: int) -> dict[str, Any] | None:
        text = payload_text(self._rows[self._keys[key]])
        return None if text is None else json.loads(text)


class _Sight:
    """What is near each item."""

    last_key = 0

    def __init__(
        self,
        connection: Connection,
        layer: Layer,
        stored: _Stored,
        items: Sequence[Item],
        codes: Sequence[bytes],
        screen: Screen,
    ) -> None:
        self.bits, self.generation, self.items, self.screen = layer.bits, layer.number, items, screen
        self.codes: Codes = np.frombuffer(b"".join(codes), np.uint8).reshape(len(items), layer.bits // 8)
        self._connection, self._layer, self._stored = connection, layer, stored
        near = each_nearest(connection, layer.physical, codes, AHEAD, screen.radius)
        self._near = [[(distance, stored.number(key)) for distance, key in found] for found in near]

    @property
    def keys(self) -> list[int]:
        return [number for near in self._near for _, number in near]

    def near(self, position: int) -> Iterator[tuple[int, int]]:
        """(distance, number) of all that is near an item, the nearest first."""
        noted = self._near[position]
        yield from noted
        if len(noted) == AHEAD:
            code = self.codes[position].tobytes()
            finder = Finder(self._connection, self._layer.physical, self._layer.bits, code, None)
            there = {number for _, number in noted}
            for distance, key in finder.within(self.screen.radius).near:
                if (number := self._stored.number(key)) not in there:
                    yield distance, number
