"""In what two generations of a collection differ, by the digests of their items."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from .connection import Connection
from .layout import Layout
from .table import Rows

_END = "~"
"""Above every key."""
_FIELDS = ["id", "digest"]
_TOGETHER = 1_000
_PAUSES_S = (0.05, 0.2, 0.5, 1.0)


def differing(connection: Connection, layout: Layout) -> Iterator[tuple[str, str]]:
    """(key, why) of every item on which the second generation does not agree with the one that serves.

    Why: "missing" from the second, "stale" where it is of another content, "extra" where it should not be there.
    Two processes that write one item at once may leave such a thing, as may one that ends in between.
    """
    if layout.second is None:
        return
    left = Rows(connection, layout.serving.physical).ordered(_FIELDS)
    right = Rows(connection, layout.second.physical).ordered(_FIELDS)
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


def lasting(connection: Connection, layout: Layout, found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Of what was found to differ, what still does a moment later: a write comes to one generation after the other."""
    assert layout.second is not None
    waiting = iter(found)
    while chunk := [key for key, _ in islice(waiting, _TOGETHER)]:
        for pause in _PAUSES_S:
            time.sleep(pause)
            one, two = (
                {key: row["digest"] for key, row in Rows(connection, layer.physical).by_key(chunk, _FIELDS).items()}
                for layer in layout.layers
            )
            chunk = [key for key in chunk if one.get(key) != two.get(key)]
            if not chunk:
                break
        yield from ((key, "missing" if key not in two else "stale" if key in one else "extra") for key in chunk)
