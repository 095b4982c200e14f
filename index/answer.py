"""From found codes to an answer: ids in their order, pages, and the cursors between them.

An index knows items by key and breaks no ties; here they get their order, by distance and then by id. A cursor
is the place of the last item of a page, sealed with the search that it belongs to, so that a page never starts
in the middle of another answer.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .bits import MAX_BITS
from .errors import InvalidItem, InvalidQuery, StoreDamaged
from .items import check_id
from .protocol import Hits, Plan
from .reader import Reader, payload_of
from .records import ModelKey


class Hit(NamedTuple):  # a dataclass takes three times as long to make, which a search notices
    """One found item; payload and code only where they were asked for."""

    id: str
    distance: int
    payload_text: str | None = None
    """The payload as JSON, an object, just as it is stored."""
    code: bytes | None = None
    score: float | None = None
    """How well the code fits the query's logits, -1 to 1; only where that was asked for (see `rerank`)."""

    @property
    def payload(self) -> Mapping[str, Any] | None:
        return payload_of(self.payload_text)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an answer. `total` counts the whole answer; `complete` is false while a cursor remains."""

    hits: Sequence[Hit]
    total: int
    cursor: str | None
    plan: Plan
    model: ModelKey | None = None
    """Of the codes that were searched."""

    @property
    def complete(self) -> bool:
        return self.cursor is None


def first_hits(
    reader: Reader, found: Hits, take: int, after: tuple[float, str] | None, *, payloads: bool, codes: bool
) -> list[Hit]:
    """The first `take` of `found` by (distance, id), from the first that comes after `after`."""
    rows = _first(reader, found, take, after)
    keys = [key for _, _, key in rows]
    payload_of = reader.payloads(keys) if payloads else {}
    code_of = reader.codes_of(keys) if codes else {}
    return [Hit(id, distance, payload_of.get(key), code_of.get(key)) for distance, id, key in rows]


def any_after(reader: Reader, found: Hits, last: Hit) -> bool:
    """Whether anything of `found` comes after `last`."""
    if found.distances[-1] > last.distance:
        return True
    tied = found.keys[found.distances == last.distance].tolist()
    return bool(reader.ids(tied, after=last.id, limit=1))


def _first(reader: Reader, found: Hits, take: int, after: tuple[float, str] | None) -> list[tuple[int, str, int]]:
    """(distance, id, key) of the first `take` of `found` after `after`.

    Whole groups of equal distance are fetched at once; only the group at the cut is ordered by the store.
    """
    rows: list[tuple[int, str, int]] = []
    start = 0
    if after is not None:
        tied, start = (int(np.searchsorted(found.distances, after[0], side)) for side in ("left", "right"))
        ids = reader.ids(found.keys[tied:start].tolist(), after=after[1], limit=take)
        rows = [(int(after[0]), id, key) for id, key in ids]
    end = min(start + take - len(rows), len(found))
    if end <= start:
        return rows
    cut = found.distances[end - 1]
    whole = max(start, int(np.searchsorted(found.distances, cut, "left")))
    if whole > start:
        keys = found.keys[start:whole].tolist()
        distance_of = dict(zip(keys, found.distances[start:whole].tolist(), strict=True))
        rows += sorted((distance_of[key], id, key) for id, key in _ids(reader, keys, len(keys)))
    tied_end = int(np.searchsorted(found.distances, cut, "right"))
    ids = _ids(reader, found.keys[whole:tied_end].tolist(), end - whole)
    return rows + [(int(cut), id, key) for id, key in ids]


def _ids(reader: Reader, keys: list[int], take: int) -> list[tuple[str, int]]:
    """The first `take` of `keys` by their ids. Raises `StoreDamaged` where the store has fewer of them."""
    ids = reader.ids(keys, after=None, limit=take)
    if len(ids) < take:
        raise StoreDamaged(f"{take - len(ids)} items cannot be read any more; restore the collection from a backup")
    return ids


def _seal(place: Any, id: Any, search: str) -> int:
    return zlib.crc32(json.dumps([place, id, search]).encode())


def make_cursor(place: float, id: str, search: str) -> str:
    """The cursor that continues `search` after the item `id` at `place` in the order: a distance, or minus a score."""
    sealed = json.dumps([place, id, _seal(place, id, search)])
    return base64.urlsafe_b64encode(sealed.encode()).decode().rstrip("=")


def open_cursor(cursor: str, search: str) -> tuple[float, str]:
    """The (place, id) that `cursor` continues after. Raises `InvalidQuery` for one of another search."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place, id, seal = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        raise InvalidQuery("the cursor is not one that a search gave out") from None
    if type(place) not in (int, float) or type(id) is not str or seal != _seal(place, id, search):
        raise InvalidQuery(
            "the cursor belongs to another search, or the collection has gone over to another model; "
            "start again without it"
        )
    try:
        check_id(id)
    except InvalidItem:
        raise InvalidQuery("the cursor is not one that a search gave out") from None
    if not -1 <= place <= MAX_BITS:
        raise InvalidQuery("the cursor is not one that a search gave out")
    return place, id
