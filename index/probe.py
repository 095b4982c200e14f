"""Exact Hamming search by multi-index hashing: the kernels. (Norouzi, Punjani and Fleet, CVPR 2012)

A code is cut into m chunks, and for each chunk the items are sorted into buckets by its value. If a code differs from
the query in at most r bits then, by the pigeonhole principle in its exact form, some chunk i differs in at most
(r - i) // m. So the search goes in steps: step s looks at the buckets of chunk s % m that differ from the query's in
exactly s // m bits, and after it everything within distance s has been met. A radius takes r + 1 steps; the k nearest
are known as soon as k lie within the steps made.

No set of visited items is kept. An item is first met at step min over j of (m * d_j + j), d_j being the distance of
its chunk j, so meeting it at a later step is recognised by computing that.

Items lie in the order of chunk 0, so that its buckets are stretches of the codes themselves. Every other chunk has a
list of places and, where memory allows, a second copy of the codes in its order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scan import STRETCH, Bitmap, Found, Keys, counts, distance_at, finished, grown, least, packed, tighten
from .words import Query, Words, inlined, kernel, popcount, prefetch

Integers = NDArray[Any]

_FETCHED, _FETCHED_WIDE = 64, 16
"""Codes at the head of a bucket, of one word and of more, that are asked for before they are needed; what is beyond,
the machine foresees. Measured: half or twice as many take longer, and at 128 bits 64 take three times as long."""


@kernel
def chunk_at(codes: Words, place: int, words: int, shift: int, width: int) -> Any:
    """Bits `shift` to `shift + width` of the code at `place`, counted from the lowest of its first word."""
    at = place * words + (shift >> 6)  # where words have 32 bits, there is but one
    low = shift & 63
    value = np.uint64(codes[at]) >> np.uint64(low)
    if low + width > 64:
        value |= np.uint64(codes[at + 1]) << np.uint64(64 - low)
    return np.int64(value & np.uint64((1 << width) - 1))


@kernel
def sort_by_chunk(codes: Words, words: int, shift: int, width: int, offsets: Integers, places: Integers) -> None:
    """Counting sort, stable: fills `offsets` `(2**width + 1,)` of the buckets and the `places` in their order."""
    items = len(codes) // words
    offsets[:] = 0
    for place in range(items):
        offsets[chunk_at(codes, place, words, shift, width) + 1] += np.uint32(1)
    for bucket in range(1 << width):
        offsets[bucket + 1] += offsets[bucket]
    # Filling moves the start of each bucket to its end, which is the start of the next: shifted back afterwards.
    for place in range(items):
        bucket = chunk_at(codes, place, words, shift, width)
        places[offsets[bucket]] = place
        offsets[bucket] += np.uint32(1)
    for bucket in range((1 << width) - 1, -1, -1):
        offsets[bucket + 1] = offsets[bucket]
    offsets[0] = 0


@kernel
def in_order(codes: Words, words: int, places: Integers, ordered: Words) -> None:
    """Copy the codes at `places` to `ordered`."""
    for i in range(len(places)):
        for w in range(words):
            ordered[i * words + w] = codes[np.int64(places[i]) * words + w]


@kernel
def places_of(
    codes: Words, words: int, shift: int, width: int, offsets: Integers, keys: Keys, first: int, wanted: Integers
) -> Any:
    """The place of each item of `codes` whose key is `wanted` `(n,)`; -1 where there is none.

    offsets: of chunk 0, in whose order the places are. Within a bucket the keys ascend.
    """
    found = np.empty(len(wanted), np.int64)
    for i in range(len(wanted)):
        bucket = chunk_at(codes, i, words, shift, width)
        low, high = np.int64(offsets[bucket]), np.int64(offsets[bucket + 1])
        end = high
        while low < high:
            middle = (low + high) >> 1
            if first + np.int64(keys[middle]) < wanted[i]:
                low = middle + 1
            else:
                high = middle
        found[i] = low if low < end and first + np.int64(keys[low]) == wanted[i] else -1
    return found


@kernel
def binomial(n: int, k: int) -> Any:
    """Number of buckets that differ in exactly `k` of `n` bits, as a float: it can be huge."""
    value = 1.0
    for i in range(k):
        value *= (n - i) / (i + 1)
    return value if k <= n else 0.0


@kernel
def masks_of(shifts: Integers, widths: Integers) -> Any:
    """`(m, 2)`: the bits of each chunk in the word where it begins, and in the next."""
    masks = np.zeros((len(shifts), 2), np.uint64)
    for j in range(len(shifts)):
        ones = np.uint64((1 << widths[j]) - 1)
        low = shifts[j] & 63
        masks[j, 0] = ones << np.uint64(low)
        if low + widths[j] > 64:
            masks[j, 1] = ones >> np.uint64(64 - low)
    return masks


@kernel
def first_met(codes: Words, at: int, asked: Words, shifts: Integers, masks: Integers, step: int) -> Any:
    """Whether no step before `step` has met the code at `at`."""
    words, chunks = len(asked), len(shifts)
    for j in range(chunks):
        word = shifts[j] >> 6
        apart = popcount(np.uint64(codes[at * words + word] ^ asked[word]) & masks[j, 0])
        if masks[j, 1] != 0:
            apart += popcount(np.uint64(codes[at * words + word + 1] ^ asked[word + 1]) & masks[j, 1])
        if apart * chunks + j < step:
            return False
    return True


@kernel
def _shell(
    asked: Words, step: int, shifts: Integers, widths: Integers, starts: Integers, buckets: Integers, count: int
) -> Any:
    """Append the buckets of one step to `buckets` `(.., 2)`: the step, and the place in `offsets`. Returns how many."""
    i, apart = step % len(shifts), step // len(shifts)
    if apart > widths[i]:
        return count
    own = np.uint64(chunk_at(asked, 0, len(asked), shifts[i], widths[i]))
    end = np.uint64(1) << np.uint64(widths[i])
    mask = (np.uint64(1) << np.uint64(apart)) - np.uint64(1)
    while mask < end:
        buckets[count, 0], buckets[count, 1] = step, starts[i] + np.int64(own ^ mask)
        count += 1
        if mask == 0:
            break
        # The next larger mask with as many ones (Gosper).
        lowest = mask & (~mask + np.uint64(1))
        ripple = mask + lowest
        mask = ripple | (((mask ^ ripple) >> np.uint64(2)) // lowest)
    return count


@inlined
def _visit_stretch(
    table: Words,
    low: int,
    high: int,
    to_place: Integers,
    query: Query,
    asked: Words,
    alive: Bitmap,
    shifts: Integers,
    masks: Integers,
    step: int,
    k: int,
    limit: int,
    histogram: Integers,
    found: Found,
    count: int,
) -> Any:
    """Look at codes that lie side by side, `low` to `high` of `table`. Returns count, limit."""
    words = len(query)
    if high - low > 8 and least(table[low * words : high * words], query) > limit:
        return count, limit
    for at in range(low, high):
        distance = distance_at(table, at, query)
        if distance <= limit and first_met(table, at, asked, shifts, masks, step):
            place = np.int64(to_place[at]) if len(to_place) > 0 else at
            if counts(alive, place):
                found[count] = packed(distance, place)
                count += 1
                if k > 0:
                    limit = tighten(histogram, distance, limit, k)
    return count, limit


@kernel
def _visit_places(
    codes: Words,
    wanted: Integers,
    size: int,
    query: Query,
    asked: Words,
    alive: Bitmap,
    shifts: Integers,
    masks: Integers,
    k: int,
    limit: int,
    histogram: Integers,
    found: Found,
    count: int,
) -> Any:
    """Look at codes that lie anywhere: `wanted`, the place in the lower 32 bits, above it the step. As above."""
    for at in range(size):
        place = wanted[at] & 0xFFFFFFFF
        distance = distance_at(codes, place, query)
        if (
            distance <= limit
            and first_met(codes, place, asked, shifts, masks, wanted[at] >> 32)
            and counts(alive, place)
        ):
            found[count] = packed(distance, place)
            count += 1
            if k > 0:
                limit = tighten(histogram, distance, limit, k)
    return count, limit


@kernel
def probe(
    codes: Words,
    keys: Keys,
    first: int,
    query: Query,
    alive: Bitmap,
    shifts: Integers,
    widths: Integers,
    starts: Integers,
    offsets: Integers,
    places: Integers,
    copies: Words,
    radius: int,
    k: int,
    budget: float,
    prices: Any,
) -> Any:
    """As `scan.scan`, by multi-index hashing, unless it would cost more than `budget`.

    shifts, widths: of the m chunks. starts: where in `offsets` each chunk begins. places: `((m - 1) * n,)`, the items
    of the chunks after the first, in bucket order. copies: their codes in that order, or of length 0. budget, prices:
    nanoseconds; prices of a bucket, of a code read in order, of one read by its place.
    Returns (found, candidates); candidates is -1 where the budget did not reach, and then nothing was found.
    """
    words, chunks = len(query), len(shifts)
    items = len(codes) // words
    inline = len(copies) > 0
    fetched = _FETCHED if words == 1 else _FETCHED_WIDE
    asked = np.empty(words, codes.dtype)  # a tuple cannot be indexed fast by a number that is not fixed
    for w in range(words):
        asked[w] = query[w]
    masks = masks_of(shifts, widths)
    found, count, limit = np.empty(4 * STRETCH, np.uint64), 0, radius
    histogram = np.zeros(radius + 2, np.int64)
    nowhere = places[:0]
    buckets = np.empty((64, 2), np.int64)
    spans = np.empty((64, 3), np.int64)  # step, from, to
    wanted = np.empty(2 * STRETCH, np.int64)
    waiting = 0
    candidates: Any = 0
    spent, done = 0.0, -1
    while done < radius:
        last = radius if k == 0 else done + 1
        # What is ahead is priced before any of it is touched: first the number of buckets, then their sizes.
        number = 0.0
        for step in range(done + 1, last + 1):
            number += binomial(widths[step % chunks], step // chunks)
        spent += number * prices[0]
        if spent > budget:
            return found[:0], -1
        if number > len(buckets):
            buckets = np.empty((np.int64(number), 2), np.int64)
            spans = np.empty((np.int64(number), 3), np.int64)
        ahead = 0
        for step in range(done + 1, last + 1):
            ahead = _shell(asked, step, shifts, widths, starts, buckets, ahead)
        for b in range(ahead):
            prefetch(offsets, buckets[b, 1])
        used = 0
        for b in range(ahead):
            step, bucket = buckets[b, 0], buckets[b, 1]
            low, high = np.int64(offsets[bucket]), np.int64(offsets[bucket + 1])
            if high == low:
                continue
            chunk = step % chunks
            candidates += high - low
            spent += (high - low) * (prices[1] if inline or chunk == 0 else prices[2])
            low += max(chunk - 1, 0) * items
            high += max(chunk - 1, 0) * items
            spans[used, 0], spans[used, 1], spans[used, 2] = step, low, high
            used += 1
            if inline or chunk == 0:
                table = codes if chunk == 0 else copies
                for at in range(low, min(high, low + fetched), max(1, 8 // words)):
                    prefetch(table, at * words)
            else:
                prefetch(places, low)
        if spent > budget:
            return found[:0], -1
        for span in range(used):
            step, low, high = spans[span, 0], spans[span, 1], spans[span, 2]
            if inline or step % chunks == 0:
                table = codes if step % chunks == 0 else copies
                for at in range(low, high, STRETCH):
                    if count + STRETCH > len(found):
                        found = grown(found, count)
                    count, limit = _visit_stretch(
                        table,
                        at,
                        min(at + STRETCH, high),
                        nowhere if step % chunks == 0 else places,
                        query,
                        asked,
                        alive,
                        shifts,
                        masks,
                        step,
                        k,
                        limit,
                        histogram,
                        found,
                        count,
                    )
                continue
            for at in range(low, high):
                place = np.int64(places[at])
                prefetch(codes, place * words)
                wanted[waiting] = step << 32 | place
                waiting += 1
                if waiting == 2 * STRETCH:
                    # The older half has had time to arrive.
                    if count + STRETCH > len(found):
                        found = grown(found, count)
                    count, limit = _visit_places(
                        codes, wanted, STRETCH, query, asked, alive, shifts, masks, k, limit, histogram, found, count
                    )
                    wanted[:STRETCH] = wanted[STRETCH:]
                    waiting = STRETCH
        if count + 2 * STRETCH > len(found):
            found = grown(found, count)
        count, limit = _visit_places(
            codes, wanted, waiting, query, asked, alive, shifts, masks, k, limit, histogram, found, count
        )
        waiting = 0
        done = last
        if k > 0 and histogram[-1] >= k and limit <= done:
            break
    return finished(found, count, limit, keys, first), candidates
