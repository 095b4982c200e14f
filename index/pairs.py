"""All pairs of codes within a radius of each other, and the groups they form.

The same pigeonhole as in `probe`: a pair within radius r has a chunk i that differs in at most (r - i) // m bits. For
each chunk the codes are put in the order of its buckets, so that a bucket and one near it are two stretches of memory,
and each code of one is compared with all of the other, a vector at a time. Groups are connected components: an item
belongs to a group if it is within the radius of any of it. Nothing is approximate.

The work is cut into parts whose number depends on the codes alone. A run can therefore be stopped after any part and
continued by another that is given what the first had found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes, check_width
from .errors import InvalidQuery
from .multihash import Buckets
from .probe import first_met, in_order, masks_of
from .scan import STRETCH, distance_at, least
from .words import Words, as_query, as_words, kernel, padded, query_at, words_of

PARTS = 256
"""Parts of each chunk, of about equal work: each takes about a tenth of a second at ten million codes."""


STEP = 32
"""Parts between one report and the next, when nothing runs and what is known is a state to go on from."""


_VISIT = 0.05
"""A pair of codes is compared in a twentieth of the time that a pair of buckets is looked up."""


@kernel
def root_of(parents: NDArray[np.uint32], item: int) -> Any:
    """The item that stands for the group of `item`; paths are halved on the way (Tarjan and van Leeuwen, 1984)."""
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = int(parents[item])
    return item


@kernel
def unite(parents: NDArray[np.uint32], others: NDArray[np.uint32]) -> None:
    """Put together in `parents` what is together in `others`."""
    for item in range(len(parents)):
        a, b = root_of(parents, item), root_of(parents, np.int64(others[item]))
        parents[max(a, b)] = min(a, b)


@kernel
def _work(offsets: NDArray[np.uint32]) -> Any:
    """`(buckets + 1,)`: the sum of the work up to each bucket: its pairs, and itself."""
    total = np.zeros(len(offsets), np.float64)
    for bucket in range(len(offsets) - 1):
        size = np.float64(offsets[bucket + 1] - offsets[bucket])
        total[bucket + 1] = total[bucket] + size * size + 4.0
    return total


@kernel
def _join(
    codes: Words,
    rows: Words,
    like: Any,
    places: NDArray[np.uint32],
    offsets: NDArray[np.uint32],
    first: int,
    last: int,
    flips: NDArray[np.int64],
    steps: NDArray[np.int64],
    shifts: NDArray[np.int64],
    masks: NDArray[np.uint64],
    radius: int,
    parents: NDArray[np.uint32],
    tally: NDArray[np.int64],
) -> Any:
    """Compare the buckets `first` to `last` of one chunk with those that differ by one of `flips`.

    codes: in bucket order, and as `rows` `(n, words)`; like: one of them as a query. places: of the codes in the
    original order. steps: the step (see `probe`) that each flip belongs to.
    Where there are `parents`, pairs are united in them and counted in `tally` `(1,)`; otherwise returned, `(pairs, 3)`:
    two places and a distance.
    """
    words = len(like)
    uniting = len(parents) > 0
    found = np.empty((1 if uniting else 1024, 3), np.uint32)
    count = 0
    for bucket in range(first, last):
        low, high = np.int64(offsets[bucket]), np.int64(offsets[bucket + 1])
        if low == high:
            continue
        for f in range(len(flips)):
            other = bucket ^ flips[f]
            if other < bucket:
                continue  # the pair of buckets is met from the other side
            other_low, other_high = np.int64(offsets[other]), np.int64(offsets[other + 1])
            for x in range(low, high):
                code = query_at(rows, x, like)
                begin: Any = x + 1 if other == bucket else other_low
                root = root_of(parents, np.int64(places[x])) if uniting else 0
                for at in range(begin, other_high, STRETCH):
                    end: Any = min(at + STRETCH, other_high)
                    if end - at > 8 and least(codes[at * words : end * words], code) > radius:
                        continue
                    for y in range(at, end):
                        distance = distance_at(codes, y, code)
                        if distance > radius:
                            continue
                        if not first_met(codes, y, rows[x], shifts, masks, steps[f]):
                            continue
                        if uniting:
                            tally[0] += 1
                            place = np.int64(places[y])
                            if parents[place] != root:
                                met = root_of(parents, place)
                                parents[max(root, met)] = min(root, met)
                                root = min(root, met)
                        else:
                            if count == len(found):
                                larger = np.empty((2 * count, 3), np.uint32)
                                larger[:count] = found
                                found = larger
                            found[count, 0], found[count, 1], found[count, 2] = places[x], places[y], distance
                            count += 1
    return found[:count]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come: parts done of all parts."""

    done: int
    parts: int


class AllPairs:
    """The pairs within `radius` among `codes` `(n, bits / 8)`; items are known by their places in it."""

    def __init__(self, bits: int, codes: Codes, radius: int, *, threads: int = 2) -> None:
        """threads: that work side by side. Raises `InvalidQuery` for a radius that is none."""
        check_width(bits)
        if not 0 <= radius <= bits:
            raise InvalidQuery(f"radius is 0 to {bits}, the width of the codes; got {radius}")
        self._bits, self._radius, self._threads = bits, radius, threads
        self._words = words_of(bits)
        self._codes = as_words(padded(codes, bits), bits)
        self._items = len(codes)
        self._buckets, self._depths = _layout(self._items, bits, radius)
        self.parts = PARTS * len(self._depths) if self._items > 1 else 0

    def groups(self, found: Groups | None = None) -> Iterator[Groups]:
        """The groups, better known with every step; the last that is yielded is complete.

        found: of an earlier run over the same codes and radius, to go on from. What is yielded changes with the next
        step: `Groups.copy` keeps it.
        """
        found = found or Groups.none(self._items, self.parts)
        if found.done.all():
            yield found
        # Each thread unites in an array of its own, as none may change what another follows.
        idle = [(np.arange(self._items, dtype=np.uint32), np.zeros(1, np.int64)) for _ in range(self._threads)]

        def part(table: _Table, number: int) -> None:
            parents, tally = idle.pop()  # a list's own lock is enough
            self._join(table, number, parents, tally)
            idle.append((parents, tally))

        for numbers in self._run(part, found.done):
            for parents, tally in idle:
                unite(found.parents, parents)
                found.pairs += int(tally[0])
                tally[0] = 0
            found.done[numbers] = True
            yield found

    def pairs(self, start: int = 0) -> Iterator[tuple[Progress, NDArray[np.uint32]]]:
        """Every pair once, part by part: `(pairs, 3)`, two places and their distance, in no promised order.

        start: parts to leave out, as an earlier run has been through them.
        """
        results: dict[int, NDArray[np.uint32]] = {}

        def part(table: _Table, number: int) -> None:
            results[number] = self._join(table, number, np.empty(0, np.uint32), np.zeros(1, np.int64))

        for numbers in self._run(part, np.arange(self.parts) < start):
            for number in numbers:
                yield Progress(number + 1, self.parts), results.pop(number)

    def _run(self, part: Callable[[_Table, int], None], done: NDArray[np.bool_]) -> Iterator[list[int]]:
        """Have `part` called for every part that is not `done`; yields those that are through, while none runs."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="pairs") as pool:
            for chunk in range(self.parts // PARTS):
                wanted = [number for number in range(chunk * PARTS, (chunk + 1) * PARTS) if not done[number]]
                table = self._table(chunk) if wanted else None
                for start in range(0, len(wanted), STEP):
                    numbers = wanted[start : start + STEP]
                    assert table is not None
                    for future in [pool.submit(part, table, number) for number in numbers]:
                        future.result()
                    yield numbers

    def _table(self, chunk: int) -> _Table:
        """The codes in the order of the buckets of `chunk`."""
        places = np.empty(self._items, np.uint32)
        self._buckets.sort(chunk, self._codes, self._words, places)
        ordered = np.empty_like(self._codes)
        in_order(self._codes, self._words, places, ordered)
        offsets = self._buckets.offsets_of(chunk).copy()
        work = _work(offsets)
        cuts = np.searchsorted(work, np.linspace(0, work[-1], PARTS + 1))
        cuts[0], cuts[-1] = 0, len(offsets) - 1
        flips, steps = _flips(int(self._buckets.widths[chunk]), self._depths[chunk], len(self._buckets.shifts), chunk)
        return _Table(places, ordered, offsets, cuts, flips, steps)

    def _join(
        self, table: _Table, number: int, parents: NDArray[np.uint32], tally: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        rows = table.codes.reshape(self._items, self._words)
        like = as_query(np.zeros(self._bits // 8, np.uint8), self._bits)
        first, last = (int(cut) for cut in table.cuts[number % PARTS : number % PARTS + 2])
        shifts = self._buckets.shifts
        masks = masks_of(shifts, self._buckets.widths)
        found: NDArray[np.uint32] = _join(
            table.codes,
            rows,
            like,
            table.places,
            table.offsets,
            first,
            last,
            table.flips,
            table.steps,
            shifts,
            masks,
            self._radius,
            parents,
            tally,
        )
        return found


@dataclass(slots=True)
class Groups:
    """Groups as far as they are known: each item's parent, up to one that stands for its group; and the parts done."""

    parents: NDArray[np.uint32]  # (n,)
    done: NDArray[np.bool_]  # (parts,)
    pairs: int = 0  # met in the parts done

    @classmethod
    def none(cls, items: int, parts: int) -> Groups:
        return cls(np.arange(items, dtype=np.uint32), np.zeros(parts, np.bool_))

    @property
    def progress(self) -> Progress:
        return Progress(int(self.done.sum()), len(self.done))

    def copy(self) -> Groups:
        return Groups(self.parents.copy(), self.done.copy(), self.pairs)

    def labels(self) -> NDArray[np.uint32]:
        """`(n,)`: for every item the least place of its group."""
        labels = self.parents
        while not np.array_equal(labels[labels], labels):
            labels = labels[labels]
        return labels

    def members(self) -> list[NDArray[np.intp]]:
        """The places of each group of two or more, the largest group first."""
        places, starts, sizes = self.spans()
        return [places[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]

    def spans(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """The places of all items, group by group, and where each group of two or more begins, and its size.

        The largest group first, of several as large the one with the first place; within a group places ascend.
        """
        labels = self.labels()
        places = np.argsort(labels, kind="stable")
        starts = np.flatnonzero(np.diff(labels[places], prepend=-1))
        sizes = np.diff(starts, append=len(places))
        starts, sizes = starts[sizes > 1], sizes[sizes > 1]
        order = np.lexsort((starts, -sizes))  # a group is labelled by its least place, so starts are in that order
        return places, starts[order], sizes[order]


@dataclass(frozen=True, slots=True)
class _Table:
    """The codes in the order of one chunk's buckets, and how to go through them."""

    places: NDArray[np.uint32]
    codes: Words
    offsets: NDArray[np.uint32]
    cuts: NDArray[np.int64]
    flips: NDArray[np.int64]
    steps: NDArray[np.int64]


def _layout(items: int, bits: int, radius: int) -> tuple[Buckets, list[int]]:
    """Buckets, and how far those looked at may differ in each chunk; one bucket of all where that is less work."""
    buckets = Buckets.layout(max(items, 2), bits)
    chunks = len(buckets.shifts)
    depths = [(radius - chunk) // chunks for chunk in range(chunks) if chunk <= radius]
    visits = 0.0
    for chunk, depth in enumerate(depths):
        width = int(buckets.widths[chunk])
        visits += 2.0**width * sum(math.comb(width, ones) for ones in range(depth + 1))
    if visits > _VISIT * items**2:
        return Buckets.single(bits), [0]
    return buckets, depths


def _flips(width: int, depth: int, chunks: int, chunk: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every mask of at most `depth` of `width` bits, and the step that it belongs to."""
    masks = np.zeros(1, np.int64)
    ones = np.zeros(1, np.int64)
    for bit in range(width):
        more = masks[ones < depth] | 1 << bit
        masks, ones = np.concatenate([masks, more]), np.concatenate([ones, ones[ones < depth] + 1])
    return masks, ones * chunks + chunk
