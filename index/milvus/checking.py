"""Whether what is in Milvus is what was written: rows against their seals and digests, generations to each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from ..errors import StoreDamaged
from .comparing import differing
from .connection import Connection
from .layout import Layout
from .parts import Parts
from .rows import FIELDS, INPUT, code_of, from_row
from .table import Rows

_PAGE = 500


def faults_of(connection: Connection, layout: Layout, parts: Parts) -> Iterator[str]:
    """What is wrong, a sentence each; nothing for a sound collection."""
    for layer in layout.layers:
        where = "" if layer is layout.serving else f"generation {layer.number}: "
        rows = Rows(connection, layer.physical).ordered(FIELDS)
        while page := list(islice(rows, _PAGE)):
            for row in page:
                try:
                    inputs = parts.get([row["place"]]) if row["flags"] & INPUT else {}
                    if len(code_of(row)) * 8 != layer.bits:
                        raise StoreDamaged(f"the code of {row['id']} has another width")
                    from_row(row, inputs)
                except StoreDamaged as error:
                    yield f"{where}{error}"
    if layout.second is not None:
        for key, why in differing(connection, layout):
            if why != "missing":  # while it is being filled
                yield f"generation {layout.second.number}: item {bytes.fromhex(key).decode()!r} is {why}"
