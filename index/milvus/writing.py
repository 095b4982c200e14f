"""Storing and deleting items in every generation of a collection: the one that serves first, everywhere.

That order is what lets a fill see afterwards whether its copy is still right (see `generations`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..items import Item
from ..records import PutResult
from .connection import Connection
from .layout import Layout
from .names import to_key
from .parts import Parts
from .rows import code_of, to_row
from .table import Rows


def store(
    connection: Connection,
    layout: Layout,
    parts: Parts,
    items: Sequence[tuple[int, Item]],
    codes: Sequence[Sequence[bytes]],
) -> PutResult:
    """Insert or replace items, the last of each id, each given with its position in `codes`.

    codes: one sequence for each generation. Raises `InvalidItem` before anything is stored.
    """
    latest = {to_key(item.id): (position, item) for position, item in items}
    tables = [Rows(connection, layer.physical) for layer in layout.layers]
    known = tables[0].by_key(latest, ["id", "code", "digest", "place"])
    changed = {
        key: (position, item)
        for key, (position, item) in latest.items()
        if key not in known or (known[key]["digest"], code_of(known[key])) != (item.digest().hex(), codes[0][position])
    }
    rows = [[to_row(item, own[at], "", at) for at, item in changed.values()] for own in codes]
    # Inputs before the rows that name them.
    with_input = [at for at, (_, item) in enumerate(changed.values()) if item.input is not None]
    inputs = [item.input for _, item in changed.values() if item.input is not None]
    for at, place in zip(with_input, parts.put(inputs), strict=True):
        for own in rows:
            own[at]["place"] = place
    for table, own in zip(tables, rows, strict=True):
        table.put(own)
    parts.delete([row["place"] for key, row in known.items() if key in changed and row["place"]])
    updated = sum(key in known for key in changed)
    return PutResult(len(changed) - updated, updated, len(latest) - len(changed))


def delete(connection: Connection, layout: Layout, parts: Parts, keys: Sequence[str]) -> int:
    """Delete the items with these primary keys; returns how many there were."""
    if not keys:
        return 0
    tables = [Rows(connection, layer.physical) for layer in layout.layers]
    known = tables[0].by_key(keys, ["id", "place"])
    for table in tables:
        table.delete(list(keys))  # of the second too where a fill has just copied what was deleted from the first
    parts.delete([row["place"] for row in known.values() if row["place"]])
    return len(known)
