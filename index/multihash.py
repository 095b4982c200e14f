"""`HammingIndex` by multi-index hashing, with a planner: no query costs much more than a scan.

The codes lie in a FAISS `IndexBinaryFlat`, in the order of their first chunk; buckets and keys lie beside them. Before
any candidate is touched the planner reads the sizes of the buckets that a search would visit. Where looking at them
would cost more than comparing with every code, it scans instead.

Nothing changes once it is built: `without` returns another index that shares all but the bitmap of what is alive.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from .bits import Codes, check_width
from .pages import use_large_pages
from .probe import in_order, places_of, probe, sort_by_chunk
from .protocol import Hits, Plan
from .scan import Bitmap, places_where, scan, scan_many, visit
from .words import Query, Words, as_query, as_words, padded, unpadded, word_type, words_of

HASHED_FROM = 32_768
"""Words of codes from which buckets are made: a scan of fewer takes less time than calling anything."""
INLINE_BYTES = 128 << 20
"""Buckets keep copies of the codes while these take no more memory than this: twice the speed at a radius of 4."""

SCAN_NS = 0.28
"""To compare with one 64-bit word, from memory. This and the following on one core of an EPYC 9004; only their ratios
count, and they are those of cache misses to bandwidth, much the same on any machine of its decade."""
PRICES = np.array([60.0, 8.0, 15.0])
"""Nanoseconds for a bucket, for a candidate beside the last, and for one anywhere in memory."""
WASTE = 0.25
"""How much of a scan a k-NN search may spend on buckets before it scans after all: the price of an unlucky guess. The
few who pay it are those whose scan is quick, so that even the slowest hundredth stays within 1.1 of a scan."""

FEW = 64
"""When a filter leaves less than 1/64 of the items these are visited one by one, each a cache miss."""

NO_BITMAP: Bitmap = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True)
class KeyBitmap:
    """A set of keys: bit i, least significant first, stands for the key `first + i`."""

    first: int
    bits: Bitmap


def chunk_widths(items: int, bits: int) -> NDArray[np.int64]:
    """`(m,)` bits of each chunk, for at least two items: at most log2(items), so that a bucket holds about one."""
    chunks = math.ceil(bits / math.log2(items))
    widths = np.full(chunks, bits // chunks, np.int64)
    # The bits that are left over go to the chunks after the first, whose candidates are dearer to look at.
    widths[(1 + np.arange(bits % chunks)) % chunks] += 1
    return widths


@dataclass(frozen=True, slots=True)
class Buckets:
    """The items sorted by the value of each chunk; the arguments of `probe`, where they are explained."""

    shifts: NDArray[np.int64]  # (m,)
    widths: NDArray[np.int64]  # (m,)
    starts: NDArray[np.int64]  # (m,)
    offsets: NDArray[np.uint32]
    places: NDArray[np.uint32]  # ((m - 1) * n,)
    copies: Words  # ((m - 1) * n * words,) or (0,)

    @classmethod
    def layout(cls, items: int, bits: int) -> Self:
        """Empty buckets for so many items."""
        widths = chunk_widths(items, bits)
        chunks = len(widths)
        edges = np.concatenate([[0], np.cumsum(widths)])
        starts = np.concatenate([[0], np.cumsum((1 << widths) + 1)])
        return cls(
            np.array(edges[:-1], np.int64),
            widths,
            starts[:-1].astype(np.int64),
            np.empty(starts[-1], np.uint32),
            np.empty((chunks - 1) * items, np.uint32),
            np.empty(0, word_type(bits)),
        )

    @classmethod
    def single(cls, bits: int) -> Self:
        """One chunk of no bits, so one bucket, which holds everything."""
        nothing = np.zeros(1, np.int64)
        places, copies = np.empty(0, np.uint32), np.empty(0, word_type(bits))
        return cls(nothing, nothing, nothing, np.empty(2, np.uint32), places, copies)

    def offsets_of(self, chunk: int) -> NDArray[np.uint32]:
        """`(2**width + 1,)`, where each bucket of `chunk` begins and the last ends."""
        start = int(self.starts[chunk])
        return self.offsets[start : start + (1 << int(self.widths[chunk])) + 1]

    def sort(self, chunk: int, codes: Words, words: int, places: NDArray[np.uint32]) -> None:
        """Fill the offsets of `chunk`, and `places` in the order of its buckets."""
        sort_by_chunk(codes, words, self.shifts[chunk], self.widths[chunk], self.offsets_of(chunk), places)


@dataclass(frozen=True, slots=True)
class MultiHashIndex:
    """Exact search over immutable codes."""

    bits: int
    _flat: Any  # FAISS's IndexBinaryFlat, which owns the memory of the codes
    _codes: Words
    _keys: NDArray[Any]  # (n,) less `_first`; ascending, or within each bucket of chunk 0 where there are buckets
    _first: int
    _buckets: Buckets | None
    _alive: Bitmap
    _count: int
    _few: NDArray[np.uint32] | None = None  # the places of all that is alive, where that is little of the whole

    @classmethod
    def build(
        cls,
        bits: int,
        keys: NDArray[np.int64],
        codes: Codes,
        *,
        inline_bytes: int = INLINE_BYTES,
        hashed_from: int = HASHED_FROM,
    ) -> MultiHashIndex:
        """inline_bytes: the most that copies of the codes, in the order of the buckets, may take.

        hashed_from: the fewest words of codes for which buckets are made.
        """
        check_width(bits)
        words, items = words_of(bits), len(keys)
        own = as_words(padded(codes, bits), bits)
        first, short = relative(keys)
        buckets = None
        if items >= 2 and items * words >= hashed_from:
            buckets = Buckets.layout(items, bits)
            order = np.empty(items, np.uint32)
            buckets.sort(0, own, words, order)
            ordered = np.empty_like(own)
            in_order(own, words, order, ordered)
            own, short = ordered, short[order]
            del ordered, order  # which would stay, beside what takes their place, until all is built
        flat = faiss.IndexBinaryFlat(words * own.itemsize * 8)
        if items == 0:
            own = np.empty_like(own)  # as all others are, which the kernels are compiled for
        else:
            flat.add(own.view(np.uint8).reshape(items, -1))
            own = faiss.rev_swig_ptr(flat.xb.data(), own.nbytes).view(own.dtype)
            use_large_pages(own)
        if buckets is not None:
            buckets = _filled(buckets, own, words, items, inline_bytes)
        index = cls(bits, flat, own, short, first, buckets, NO_BITMAP, items)
        index._warm()
        return index

    def _warm(self) -> None:
        """Compile what a search will need, so that none has to wait for it."""
        code = np.zeros(self.bits // 8, np.uint8)
        self.within(code, 0)
        self.many(code[None, :], 0, 1)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory taken: codes, keys, buckets, and what is marked as gone."""
        buckets = self._buckets
        more = buckets.offsets.nbytes + buckets.places.nbytes + buckets.copies.nbytes if buckets else 0
        return self._codes.nbytes + self._keys.nbytes + self._alive.nbytes + more

    @property
    def gone(self) -> int:
        """How many items it was built with that a search no longer finds."""
        return len(self._keys) - self._count

    def lost_since(self, earlier: MultiHashIndex) -> tuple[NDArray[np.int64], Codes]:
        """Keys and codes of what `earlier` still finds; this index came from it by `without` alone."""
        if self._alive is earlier._alive:
            return np.empty(0, np.int64), np.empty((0, self.bits // 8), np.uint8)
        before = earlier._alive if len(earlier._alive) else np.uint8(0xFF)
        lost = np.flatnonzero(np.unpackbits(before & ~self._alive, count=len(self._keys), bitorder="little"))
        return self._keys[lost].astype(np.int64) + self._first, self._packed_codes()[lost]

    def _packed_codes(self) -> Codes:
        return unpadded(self._codes, self.bits)

    def without(self, keys: NDArray[np.int64], codes: Codes) -> MultiHashIndex:
        """The same index less `keys`, whose codes are `codes`; keys that it does not hold are ignored."""
        places = self._places(keys, codes)
        if len(places) == 0:
            return self
        alive = self._alive.copy() if len(self._alive) else np.full(-(-len(self._keys) // 8), 0xFF, np.uint8)
        standing = alive[places >> 3] >> (places & 7) & 1
        np.bitwise_and.at(alive, places >> 3, ~(1 << (places & 7)).astype(np.uint8))
        return replace(self, _alive=alive, _count=self._count - int(standing.sum()))

    def _places(self, keys: NDArray[np.int64], codes: Codes) -> NDArray[np.int64]:
        """The distinct places of those of `keys` that are here."""
        if len(keys) == 0 or len(self._keys) == 0:
            return np.empty(0, np.int64)
        if self._buckets is None:
            at = np.minimum(np.searchsorted(self._keys, keys - self._first), len(self._keys) - 1)
            found = np.where(self._keys[at] == keys - self._first, at, -1)
        else:
            shift, width = self._buckets.shifts[0], self._buckets.widths[0]
            own = as_words(padded(codes, self.bits), self.bits)
            found = places_of(
                own, words_of(self.bits), shift, width, self._buckets.offsets, self._keys, self._first, keys
            )
        return np.unique(found[found >= 0])

    def contents(self) -> tuple[NDArray[np.int64], Codes]:
        """Keys `(n,)` ascending and codes `(n, bits / 8)` of the items that can be found."""
        keys = self._keys.astype(np.int64)
        keys += self._first
        codes = self._packed_codes()
        if len(self._alive):
            alive = np.unpackbits(self._alive, count=len(keys), bitorder="little").view(np.bool_)
            keys, codes = keys[alive], codes[alive]
        order = np.argsort(keys, kind="stable")
        return keys[order], codes[order]

    # -- searching -----------------------------------------------------------------------------------------

    def search(self, code: Codes, k: int, radius: int | None = None) -> Hits:
        """The `k` nearest (within `radius`) and every further item at the k-th distance."""
        radius = self.bits if radius is None else radius
        found = self._run(as_query(code, self.bits), radius, k, WASTE * self.scan_ns, math.inf)
        assert found is not None  # for an allowance without end
        return found

    def within(self, code: Codes, radius: int) -> Hits:
        found = self._run(as_query(code, self.bits), radius, 0, self.scan_ns, math.inf)
        assert found is not None
        return found

    def within_allowance(self, code: Codes, k: int | None, radius: int | None, nanoseconds: float) -> Hits | None:
        """As `search`, or without k as `within`; None where the planner's prices for it are above `nanoseconds`.

        Buckets are priced before any candidate is touched, so to find out costs little against what is saved.
        """
        share = 1.0 if k is None else WASTE
        radius = self.bits if radius is None else radius
        budget = min(share * self.scan_ns, nanoseconds)
        return self._run(as_query(code, self.bits), radius, k or 0, budget, nanoseconds)

    @property
    def scan_ns(self) -> float:
        """What it costs to compare with every code, in nanoseconds."""
        return SCAN_NS * len(self._codes)

    def _run(self, query: Query, radius: int, k: int, budget: float, allowance: float) -> Hits | None:
        """By buckets while these cost no more than `budget`, else by scan; None where that is beyond `allowance`."""
        buckets = self._buckets
        items = len(self._keys)
        if self._few is not None:
            if PRICES[2] * len(self._few) > allowance:
                return None
            found = visit(self._codes, self._keys, self._first, self._few, query, radius, k)
            found.sort()
            return Hits(found, Plan("scan", len(self._few)))
        if buckets is not None and k < self._count:
            found, candidates = probe(
                self._codes,
                self._keys,
                self._first,
                query,
                self._alive,
                buckets.shifts,
                buckets.widths,
                buckets.starts,
                buckets.offsets,
                buckets.places,
                buckets.copies,
                radius,
                k,
                budget,
                PRICES,
            )
            if candidates >= 0:
                found.sort()
                bucket = k == 0 and radius < len(buckets.shifts)
                return Hits(found, Plan("bucket" if bucket else "multi-index-hash", candidates))
        if self.scan_ns > allowance:
            return None
        found = scan(self._codes, self._keys, self._first, query, self._alive, radius, k)
        found.sort()
        return Hits(found, Plan("scan", items))

    def only(self, selected: KeyBitmap) -> MultiHashIndex:
        """The same index of the selected items alone."""
        chosen, count = places_where(self._keys, self._first, self._alive, selected.bits, selected.first)
        few = None
        if count * FEW <= len(self._keys):
            few = np.flatnonzero(np.unpackbits(chosen, count=len(self._keys), bitorder="little")).astype(np.uint32)
        return replace(self, _alive=chosen, _count=count, _few=few)

    def many(self, codes: Codes, radius: int, k: int) -> list[Hits]:
        """By scan, the answers for several codes `(q, bits / 8)`; k = 0 for all within the radius."""
        like = as_query(codes[0], self.bits)
        queries = as_words(padded(codes, self.bits), self.bits).reshape(len(codes), -1)
        found, ends = scan_many(self._codes, self._keys, self._first, queries, like, self._alive, radius, k)
        answers = []
        for part in np.split(found, ends[:-1]):
            part.sort()
            answers.append(Hits(part, Plan("scan", len(self._keys))))
        return answers


def _filled(buckets: Buckets, codes: Words, words: int, items: int, inline_bytes: int) -> Buckets:
    """The buckets of all chunks but the first, whose order the codes are already in."""
    chunks = len(buckets.shifts)
    if (chunks - 1) * codes.nbytes <= inline_bytes:
        buckets = replace(buckets, copies=np.empty((chunks - 1) * len(codes), codes.dtype))

    def fill(chunk: int) -> None:
        places = buckets.places[(chunk - 1) * items : chunk * items]
        buckets.sort(chunk, codes, words, places)
        if len(buckets.copies):
            in_order(codes, words, places, buckets.copies[(chunk - 1) * len(codes) : chunk * len(codes)])

    # Sorting waits for memory, not for the processor, so two at a time take little longer than one.
    with ThreadPoolExecutor(2, thread_name_prefix="buckets") as pool:
        list(pool.map(fill, range(1, chunks)))
    return buckets


def relative(keys: NDArray[np.int64]) -> tuple[int, NDArray[Any]]:
    """The first of ascending `keys`, and all of them less it, in four bytes each where that holds them."""
    if len(keys) == 0:
        return 0, np.empty(0, np.uint32)
    first = int(keys[0])
    small = int(keys[-1]) - first <= np.iinfo(np.uint32).max
    return first, (keys - first).astype(np.uint32 if small else np.int64)
