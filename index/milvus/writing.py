"""Storing and deleting items in every generation of a collection: the one that serves first, everywhere.

That order is what lets a fill see afterwards whether its copy is still right (see `generations`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress

from ..filters import Condition
from ..items import Item
from ..records import PutResult
from .connection import Connection, MissingCollection
from .expressions import expression_of
from .layout import Layout
from .names import to_key
from .parts import Parts
from .rows import code_of, payload_text, to_row
from .table import Row, Rows


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
    changed = {key: one for key, one in latest.items() if _differs(known.get(key), one, codes[0])}
    rows = [{key: to_row(item, own[at], "", at) for key, (at, item) in changed.items()} for own in codes]
    # Inputs before the rows that name them.
    with_input = [key for key, (_, item) in changed.items() if item.input is not None]
    inputs = [item.input for _, item in changed.values() if item.input is not None]
    for key, place in zip(with_input, parts.put(inputs), strict=True):
        for own in rows:
            own[key]["place"] = place
    same = {key: one for key, one in latest.items() if key not in changed}
    for table, of, own in zip(tables[1:], codes[1:], rows[1:], strict=True):
        # What an earlier call has stored in the first generation only, as it was interrupted.
        there = table.by_key(same, ["id", "code", "digest"])
        for key, (at, item) in same.items():
            if _differs(there.get(key), (at, item), of):
                own[key] = to_row(item, of[at], known[key]["place"], at)
    for table, own in zip(tables, rows, strict=True):
        table.put(own.values())
    parts.delete([row["place"] for key, row in known.items() if key in changed and row["place"]])
    updated = sum(key in known for key in changed)
    return PutResult(len(changed) - updated, updated, len(latest) - len(changed))


def _differs(row: Row | None, latest: tuple[int, Item], codes: Sequence[bytes]) -> bool:
    """Whether the row is not that of the item, given with the position of its code."""
    position, item = latest
    return row is None or (row["digest"], code_of(row)) != (item.digest().hex(), codes[position])


def delete(connection: Connection, layout: Layout, parts: Parts, keys: Sequence[str]) -> int:
    """Delete the items with these primary keys; returns how many there were."""
    if not keys:
        return 0
    tables = [Rows(connection, layer.physical) for layer in layout.layers]
    known = tables[0].by_key(keys, ["id", "place"])
    for table in tables:
        # Of the second too where a fill has just copied what was deleted from the first; it may be given up by now.
        with suppress(MissingCollection):
            table.delete(list(keys))
    parts.delete([row["place"] for row in known.values() if row["place"]])
    return len(known)


def matching(table: Rows, where: Condition) -> Iterator[str]:
    """The primary keys of the items whose payloads match, in order."""
    rows = table.ordered(["id", "payload", "exact", "flags"], where=expression_of(where).text)
    return (
        row["id"] for row in rows if where.matches(None if (text := payload_text(row)) is None else json.loads(text))
    )
