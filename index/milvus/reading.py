"""Rows and the inputs that they name, read one after the other while others write."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import StoreDamaged
from ..items import Item
from .names import to_id
from .parts import Parts
from .rows import INPUT, from_row
from .table import Row, Rows


def items_of(table: Rows, parts: Parts, rows: Sequence[Row]) -> list[Item]:
    """The items of rows of `table`, without those that were deleted meanwhile. Raises `StoreDamaged`."""
    try:
        inputs = parts.get(row["place"] for row in rows if row["flags"] & INPUT)
        return [from_row(row, inputs) for row in rows]
    except StoreDamaged:
        found = [item_now(table, parts, row) for row in rows]
        return [item for item in found if item is not None]


def item_now(table: Rows, parts: Parts, row: Row) -> Item | None:
    """The item of a row; as it is now where it was replaced, which takes its input away. Raises `StoreDamaged`."""
    while True:
        try:
            return from_row(row, parts.get([row["place"]]) if row["flags"] & INPUT else {})
        except StoreDamaged:
            now = table.by_key([row["id"]]).get(row["id"])
            if now is None:
                return None
            if (now["seal"], now["place"]) == (row["seal"], row["place"]):
                raise StoreDamaged(
                    f"item {to_id(row['id'])!r} is not what was written, or its input is not; restore the collection "
                    "from a snapshot"
                ) from None
            row = now
