"""In what two generations of a collection differ, by the digests of their items."""

from __future__ import annotations

from collections.abc import Iterator

from .connection import Connection
from .layout import Layout
from .table import Rows

_END = "~"
"""Above every key."""


def differing(connection: Connection, layout: Layout) -> Iterator[tuple[str, str]]:
    """(key, why) of every item on which the second generation does not agree with the one that serves.

    Why: "missing" from the second, "stale" where it is of another content, "extra" where it should not be there.
    Two processes that write one item at once may leave such a thing, as may one that ends in between.
    """
    if layout.second is None:
        return
    fields = ["id", "digest"]
    left = Rows(connection, layout.serving.physical).ordered(fields)
    right = Rows(connection, layout.second.physical).ordered(fields)
    one, two = next(left, None), next(right, None)
    while one is not None or two is not None:
        at, beside = (_END if row is None else row["id"] for row in (one, two))
        if at == beside:
            assert one is not None
            assert two is not None
            if one["digest"] != two["digest"]:
                yield at, "stale"
            one, two = next(left, None), next(right, None)
        elif at < beside:
            yield at, "missing"
            one = next(left, None)
        else:
            yield beside, "extra"
            two = next(right, None)
