"""Whether what is in Milvus is what was written: rows against their seals and digests, generations to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from ..errors import StoreDamaged
from .comparing import differing, lasting
from .connection import Connection
from .layout import Layout
from .parts import Parts
from .reading import item_now, items_of
from .rows import FIELDS
from .table import Row, Rows

_PAGE = 500


def faults_of(connection: Connection, layout: Layout, parts: Parts, *, filled: bool) -> Iterator[str]:
    """What is wrong, a sentence each; nothing for a sound collection.

    filled: whether the second generation, if there is one, should have codes of all items.
    """
    for layer in layout.layers:
        where = "" if layer is layout.serving else f"generation {layer.number}: "
        table = Rows(connection, layer.physical)
        rows = table.ordered(FIELDS)
        while page := list(islice(rows, _PAGE)):
            yield from (f"{where}{fault}" for fault in _broken(table, parts, page))
    if layout.second is not None:
        wrong = ((key, why) for key, why in differing(connection, layout) if filled or why != "missing")
        for key, why in lasting(connection, layout, wrong):
            if filled or why != "missing":
                yield f"generation {layout.second.number}: item {bytes.fromhex(key).decode()!r} is {why}"


def _broken(table: Rows, parts: Parts, page: Sequence[Row]) -> Iterator[str]:
    try:
        items_of(table, parts, page)
    except StoreDamaged:
        for row in page:
            try:
                item_now(table, parts, row)
            except StoreDamaged as error:
                yield str(error)
