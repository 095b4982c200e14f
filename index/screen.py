"""Which items of a write lie near another one, with no gap between looking and storing.

Looking has two parts. Before the write, and beside other writers, `Sighting` finds what is near each item in a
committed state. Inside the write, when no other can come between, `screened` looks at all that came after that state:
its transaction shows that, whether another writer has just committed it or a step before it in the same transaction
made it. A key stands for one code for ever, so of what was seen earlier it need only be asked whether it still stands.

The items are taken one after another, as if each were a write of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .bits import Codes, hamming
from .errors import GenerationChanged, InvalidQuery
from .items import Item
from .reader import Known, Reader
from .records import Duplicate, Screen
from .scan import KEY_BITS, KEY_MASK, STRETCH, distance_at, least
from .snapshot import Snapshot
from .words import Query, Words, as_query, as_words, kernel, padded, words_of

MARK = "duplicate_of"
"""The payload member that names what a marked duplicate is near to."""
AHEAD = 4
"""Neighbours of an item that are noted beforehand: itself, the nearest, and some in reserve for when that goes."""


@kernel
def nearest_place(codes: Words, standing: NDArray[np.uint8], count: int, query: Query, radius: int) -> tuple[int, int]:
    """The least distance within `radius` of the first `count` codes that stand, and the first place with it; or -1."""
    words = len(query)
    best, where = radius + 1, -1
    for at in range(0, count, STRETCH):
        end = min(at + STRETCH, count)
        if least(codes[at * words : end * words], query) >= best:
            continue
        for place in range(at, end):
            if standing[place]:
                distance = distance_at(codes, place, query)
                if distance < best:
                    best, where = distance, place
    return best, where


class Sighting:
    """What is near items in one committed state."""

    def __init__(
        self, reader: Reader, snapshot: Snapshot, items: Sequence[Item], codes: Sequence[bytes], screen: Screen
    ) -> None:
        """codes: of the items, in the generation that serves in that state. Raises `InvalidQuery` for a bad radius."""
        self.bits, self.generation = snapshot.bits, snapshot.generation
        if not 0 <= screen.radius <= self.bits:
            raise InvalidQuery(f"radius is 0 to {self.bits}, the width of the codes; got {screen.radius}")
        self.items, self.screen = items, screen
        self.last_key = reader.last_key
        joined = np.frombuffer(b"".join(codes), np.uint8)
        self.codes: Codes = joined.reshape(len(items), self.bits // 8)
        self._snapshot = snapshot
        self._near = [
            [int(found) for found in snapshot.search(code, AHEAD, screen.radius).packed[:AHEAD]] for code in self.codes
        ]

    @property
    def keys(self) -> list[int]:
        """The keys of all that `near` begins with."""
        return [found & KEY_MASK for near in self._near for found in near]

    def near(self, position: int) -> Iterator[tuple[int, int]]:
        """(distance, key) of all that was near an item, the nearest first, and of those as near the first stored."""
        noted = self._near[position]
        for found in noted:
            yield found >> KEY_BITS, found & KEY_MASK
        if len(noted) == AHEAD:
            for found in self._snapshot.within(self.codes[position], self.screen.radius).packed[AHEAD:].tolist():
                yield found >> KEY_BITS, found & KEY_MASK


class _Arrivals:
    """Codes in the order they came: what was stored since the sighting, then the items taken so far."""

    def __init__(self, bits: int, ids: list[str], codes: Codes, room: int) -> None:
        self._bits, self._words = bits, words_of(bits)
        self.ids = ids
        own = as_words(padded(codes, bits), bits)
        self._codes = np.empty((len(ids) + room) * self._words, own.dtype)
        self._codes[: len(own)] = own
        self._standing = np.ones(len(ids) + room, np.uint8)
        self._place_of = {id: place for place, id in enumerate(ids)}

    def code_of(self, id: str) -> Words | None:
        """The words of the item `id`, where it is among these."""
        place = self._place_of.get(id)
        return None if place is None else self._codes[place * self._words : (place + 1) * self._words]

    def nearest(self, id: str, code: Codes, radius: int) -> tuple[int, str] | None:
        """Distance and id of the nearest within `radius` that has another id."""
        own = self._place_of.get(id)
        if own is not None:
            self._standing[own] = 0
        distance, place = nearest_place(self._codes, self._standing, len(self.ids), as_query(code, self._bits), radius)
        if own is not None:
            self._standing[own] = 1
        return None if place < 0 else (distance, self.ids[place])

    def add(self, id: str, code: Codes) -> None:
        """Add an item; an earlier one of its id is no longer there."""
        if (before := self._place_of.get(id)) is not None:
            self._standing[before] = 0
        place = self._place_of[id] = len(self.ids)
        self.ids.append(id)
        self._codes[place * self._words : (place + 1) * self._words] = as_words(
            padded(code[None], self._bits), self._bits
        )


class Sight(Protocol):
    """What `screened` looks at of a `Sighting`."""

    bits: int
    generation: int
    items: Sequence[Item]
    screen: Screen
    codes: Codes
    last_key: int

    @property
    def keys(self) -> list[int]: ...
    def near(self, position: int) -> Iterator[tuple[int, int]]: ...


class Standing(Protocol):
    """What `screened` asks of a `Transaction`."""

    generation: int

    def above(self, key: int) -> list[tuple[int, str, bytes]]: ...
    def known(self, ids: Iterable[str]) -> dict[str, Known]: ...
    def ids(self, keys: Iterable[int]) -> dict[int, str]: ...
    def payload(self, key: int) -> dict[str, Any] | None: ...


def screened(transaction: Standing, sighting: Sight) -> tuple[list[tuple[int, Item]], list[Duplicate]]:
    """The items to store with their positions, in their order, and the duplicates among all.

    Raises `GenerationChanged` where codes of another model serve by now.
    """
    if transaction.generation != sighting.generation:
        raise GenerationChanged("the collection has gone over to another model meanwhile; try again")
    return _Screening(transaction, sighting).run()


class _Screening:
    """The look at one write's items, inside it."""

    def __init__(self, transaction: Standing, sighting: Sight) -> None:
        self._transaction, self._sighting, self._screen = transaction, sighting, sighting.screen
        recent = transaction.above(sighting.last_key)
        codes = np.frombuffer(b"".join(code for _, _, code in recent), np.uint8)
        self._arrivals = _Arrivals(
            sighting.bits,
            [id for _, id, _ in recent],
            codes.reshape(len(recent), sighting.bits // 8),
            len(sighting.items),
        )
        self._known: dict[str, Known | None] = dict.fromkeys(item.id for item in sighting.items)
        self._known |= transaction.known(self._known)
        self._id_of = transaction.ids(sighting.keys)  # of those that are still there
        self._replaced: set[str] = set()  # ids that a taken item has given another code
        self._marks: dict[str, str | None] = {}  # of the items taken

    def run(self) -> tuple[list[tuple[int, Item]], list[Duplicate]]:
        taken: list[tuple[int, Item]] = []
        found: list[Duplicate] = []
        for position, item in enumerate(self._sighting.items):
            near = self._verdict(position, item)
            if near is not None:
                found.append(Duplicate(position, item.id, near[1], near[0]))
                if not self._screen.mark:
                    continue
            taken.append((position, self._marked(item, near)))
            self._take(position, item, near)
        return taken, found

    def _verdict(self, position: int, item: Item) -> tuple[int, str] | None:
        """Distance and id of what the item duplicates."""
        if not self._is_new(position, item.id):
            # What came after it does not make it a duplicate, or a call sent again would be answered otherwise.
            mark = self._mark_of(item.id) if self._screen.mark else None
            if mark is None:
                return None
            code = self._code_of(mark)
            if code is not None and mark != item.id:
                distance = int(hamming(code, self._sighting.codes[position]))
                if distance <= self._screen.radius:
                    return distance, mark
        stored = self._nearest_stored(position, item.id)
        arrived = self._arrivals.nearest(item.id, self._sighting.codes[position], self._screen.radius)
        # Where both are as near, the stored one was first.
        return min((near for near in (stored, arrived) if near is not None), key=lambda near: near[0], default=None)

    def _is_new(self, position: int, id: str) -> bool:
        """Whether `id` is not there with the code that it has at this position."""
        code = self._code_of(id)
        return code is None or not np.array_equal(code, self._sighting.codes[position])

    def _code_of(self, id: str) -> Codes | None:
        """The code that `id` has at this point."""
        if (words := self._arrivals.code_of(id)) is not None:
            return words.view(np.uint8)[: self._sighting.bits // 8]
        known = self._stored(id)
        return None if known is None else np.frombuffer(known.code, np.uint8)

    def _stored(self, id: str) -> Known | None:
        if id not in self._known:
            self._known[id] = self._transaction.known([id]).get(id)
        return self._known[id]

    def _mark_of(self, id: str) -> str | None:
        """What the item `id` is marked as a duplicate of."""
        if id in self._marks:
            return self._marks[id]
        known = self._stored(id)
        payload = None if known is None else self._transaction.payload(known.key)
        mark = (payload or {}).get(MARK)
        return mark if isinstance(mark, str) else None

    def _nearest_stored(self, position: int, own: str) -> tuple[int, str] | None:
        """Distance and id of the nearest item of the sighting that is still there under another id."""
        for number, (distance, key) in enumerate(self._sighting.near(position)):
            id = self._id_of.get(key) if number < AHEAD else self._transaction.ids([key]).get(key)
            if id is not None and id != own and id not in self._replaced:
                return distance, id
        return None

    def _marked(self, item: Item, near: tuple[int, str] | None) -> Item:
        """The item as it is to be stored."""
        if not self._screen.mark or (near is None and MARK not in (item.payload or {})):
            return item
        payload = {name: value for name, value in (item.payload or {}).items() if name != MARK}
        return replace(item, payload=payload if near is None else {**payload, MARK: near[1]})

    def _take(self, position: int, item: Item, near: tuple[int, str] | None) -> None:
        if self._is_new(position, item.id):
            self._arrivals.add(item.id, self._sighting.codes[position])
            self._replaced.add(item.id)
        self._marks[item.id] = None if near is None else near[1]
