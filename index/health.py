"""How good the codes of a collection are, in numbers; `findings` says what they mean.

Everything is exact but what is said to be of a sample, whose size is stated. Drawing is seeded: the same codes give the
same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtrc

from .bits import Codes
from .census import count_bits, count_chunk, count_distances, count_pairs, groups_of_equals
from .drift import LEAST, CodeProfile, Drift, drift, sample_of
from .multihash import HASHED_FROM, chunk_widths
from .words import words_of

DEAD = 0.01
"""A bit that is the same in more than 99 % of the items tells fewer than one in a hundred apart."""

_PAIR_WORK = 32_000_000
"""Items x words squared, counted in pairs of bits: two seconds. 2 million items of 256 bits, all of fewer."""
_QUERIES, _FEWEST = 256, 32
_QUERY_WORK = 3_000_000_000
"""Words compared for the curve: two seconds."""
_WORST = 5
RECENT = 10_000
"""The newest items that drift is told of: the last tenth, and no more than this."""
_RECENT_LEAST = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two bits and how they go together, -1 to 1."""

    a: int
    b: int
    r: float


@dataclass(frozen=True)
class Bits:
    """The bits alone and in pairs."""

    ones: Floats  # (bits,) share of the items
    entropy: Floats  # (bits,) 0 to 1
    dead: tuple[int, ...]
    effective: float
    """Of how many independent, even bits the distances between items are worth: (sum of variances)^2 / sum of squared
    covariances, what chance adds to the latter taken off."""
    correlation: float
    """Mean |r| of the pairs of bits that are not constant."""
    correlation_by_chance: float
    """What it would be if no bit knew of another, for so many items."""
    pairs: tuple[Pair, ...]
    """Those that go together most."""
    counted: int
    """Items whose pairs of bits were counted."""


@dataclass(frozen=True)
class Equals:
    """Items with one and the same code."""

    distinct: int
    sharing: int
    """Items whose code another item has too."""
    largest: int
    code: str | None
    """The code that most items have."""


@dataclass(frozen=True)
class Chunk:
    """A chunk of the multi-index hash: its buckets, and what looking up a stored item meets in one."""

    width: int
    used: int
    largest: int
    largest_expected: int
    met: float
    met_expected: float


@dataclass(frozen=True)
class Step:
    """How many other items a search by a stored item finds within a radius."""

    radius: int
    mean: float
    p95: int


@dataclass(frozen=True)
class Health:
    """The codes of a collection at one moment."""

    items: int
    width: int
    bits: Bits
    equals: Equals
    hashed: bool
    """Whether searches use the buckets; smaller collections are scanned."""
    chunks: tuple[Chunk, ...]
    curve: tuple[Step, ...]
    queries: int
    """Stored items, drawn at random, that the curve is of."""
    drift: Drift | None = None
    recent_drift: Drift | None = None

    @property
    def fullest(self) -> int:
        """Items in the fullest bucket of any chunk."""
        return max((chunk.largest for chunk in self.chunks), default=0)

    @property
    def met(self) -> float:
        """Items met by a look into one bucket of each chunk."""
        return sum(chunk.met for chunk in self.chunks)

    @property
    def slowdown(self) -> float:
        """The same, in times of what evenly spread codes would have there."""
        expected = sum(chunk.met_expected for chunk in self.chunks)
        return self.met / expected if expected else 1.0


def measure(codes: Codes, profile: CodeProfile | None = None, *, seed: int = 0) -> Health:
    """The health of codes `(n, bits / 8)` in the order they came, compared with `profile` where there is one."""
    n, width = len(codes), codes.shape[1] * 8
    queries = sample_of(codes, max(_FEWEST, min(_QUERIES, _QUERY_WORK // max(1, n * words_of(width)))), seed)
    known = profile is not None and len(profile.sample) >= LEAST and n >= LEAST
    recent = codes[-min(RECENT, max(_RECENT_LEAST, n // 10)) :]
    return Health(
        items=n,
        width=width,
        bits=_bits(codes, seed),
        equals=_equals(codes),
        hashed=n * words_of(width) >= HASHED_FROM,
        chunks=_chunks(codes),
        curve=_curve(codes, queries),
        queries=len(queries),
        drift=drift(profile, codes, seed=seed) if known and profile else None,
        recent_drift=drift(profile, recent, seed=seed) if known and profile and len(recent) < n else None,
    )


def _bits(codes: Codes, seed: int) -> Bits:
    n, width = len(codes), codes.shape[1] * 8
    ones = count_bits(codes) / max(n, 1)
    counted = sample_of(codes, _PAIR_WORK // words_of(width) ** 2, seed)
    m = max(len(counted), 1)
    together = count_pairs(counted) / m
    share = np.diag(together)
    variance = share * (1 - share)
    covariance = together - np.outer(share, share)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where((ones > 0) & (ones < 1), -ones * np.log2(ones) - (1 - ones) * np.log2(1 - ones), 0.0)
    alive = np.flatnonzero(variance > 0)
    a, b = np.triu_indices(len(alive), 1)
    a, b = alive[a], alive[b]
    r = covariance[a, b] / np.sqrt(variance[a] * variance[b])
    worst = np.argsort(-np.abs(r), kind="stable")[:_WORST]
    return Bits(
        ones=ones,
        entropy=entropy,
        dead=tuple(np.flatnonzero(np.minimum(ones, 1 - ones) < DEAD).tolist()) if n else (),
        effective=_effective(variance, covariance, m),
        correlation=float(np.abs(r).mean()) if len(r) else 0.0,
        correlation_by_chance=float(np.sqrt(2 / (np.pi * m))) if len(r) else 0.0,
        pairs=tuple(Pair(int(a[i]), int(b[i]), float(r[i].clip(-1, 1))) for i in worst),
        counted=len(counted),
    )


def _effective(variance: Floats, covariance: Floats, n: int) -> float:
    total = float(variance.sum())
    if total == 0 or n < 2:
        return 0.0
    squares = covariance**2
    np.fill_diagonal(squares, 0)
    chance = (total**2 - float((variance**2).sum())) / (n - 1)
    between = max(0.0, float(squares.sum()) - chance)
    return total**2 / (float((variance**2).sum()) + between)


def _equals(codes: Codes) -> Equals:
    places, sizes = groups_of_equals(codes)
    if len(sizes) == 0:
        return Equals(0, 0, 0, None)
    largest = int(sizes.argmax())
    return Equals(
        distinct=len(sizes),
        sharing=int(sizes[sizes > 1].sum()),
        largest=int(sizes[largest]),
        code=codes[places[largest]].tobytes().hex(),
    )


def _chunks(codes: Codes) -> tuple[Chunk, ...]:
    """Of the hash that a collection of so many items has, or would have if it were not small enough to scan."""
    n, width = len(codes), codes.shape[1] * 8
    if n < 2:
        return ()
    chunks, shift = [], 0
    for own in chunk_widths(n, width):
        sizes = count_chunk(codes, shift, int(own)).astype(np.float64)
        shift += int(own)
        load = n / len(sizes)
        expected = int(np.ceil(load))
        while len(sizes) * pdtrc(expected, load) > 0.5:
            expected += 1
        chunks.append(
            Chunk(
                width=int(own),
                used=int((sizes > 0).sum()),
                largest=int(sizes.max()),
                largest_expected=min(n, expected),
                met=float((sizes**2).sum() / n),
                met_expected=1 + (n - 1) / len(sizes),
            )
        )
    return tuple(chunks)


def _curve(codes: Codes, queries: Codes) -> tuple[Step, ...]:
    """From radius 0 to the first at which every search finds everything."""
    if len(queries) == 0:
        return ()
    within = count_distances(codes, queries).cumsum(axis=1) - 1  # (q, bits + 1), the item itself left out
    last = int((within == len(codes) - 1).all(axis=0).argmax())
    mean, p95 = within.mean(axis=0), np.quantile(within, 0.95, axis=0, method="higher")
    return tuple(Step(radius, float(mean[radius]), int(p95[radius])) for radius in range(last + 1))
