"""Whether codes still come from where the training set's came from.

A model remembers the codes of its training set: how often each bit was 1, and a sample of whole codes. Codes that
arrive later are compared with it in three ways, each of which sees what the others do not:

- the maximum mean discrepancy (Gretton et al., JMLR 2012) between the two samples, with the kernel exp(-distance /
  mean distance), which sees any difference between the distributions, of single bits or of how they go together. What
  it would be without drift, for samples of these very sizes, is found by dealing the codes out anew at random, so its
  limit needs no assumption: codes of one distribution exceed it once in a hundred times;
- the population stability index of each bit, which says how large the difference is and in which bits;
- the share of items farther from every code of the sample than 99 % of the sample are from the rest of it, which says
  whether these are other items or only another mixture of the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import Codes, from_hex, to_hex
from .census import count_bits, count_distances
from .errors import InvalidCode

SAMPLE = 1000
"""Codes of each side that are compared: a quarter of a second, and a difference worth knowing shows."""
LEAST = 30
"""Fewer codes than this say nothing about a distribution."""
DEALS = 400
CHANCE = 0.01
_STRANGE = 0.99
"""Quantile of the training set's own nearest distances beyond which an item is like none of it."""
_WORST = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CodeProfile:
    """What is kept of a training set's codes."""

    items: int
    ones: Floats  # (bits,) share of the items
    sample: Codes  # (m, bits / 8)

    @classmethod
    def of(cls, codes: Codes, *, seed: int = 0) -> CodeProfile:
        """The profile of codes `(n, bits / 8)`, n > 0."""
        return cls(len(codes), count_bits(codes) / len(codes), sample_of(codes, SAMPLE, seed))

    def as_dict(self) -> dict[str, Any]:
        """The profile as JSON."""
        return {
            "items": self.items,
            "ones": [round(float(share), 6) for share in self.ones],
            "sample": [to_hex(code) for code in self.sample],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], bits: int) -> CodeProfile:
        """The profile that `as_dict` wrote. Raises `InvalidCode` where it is not one for codes of `bits` bits."""
        try:
            ones = np.array(stored["ones"], np.float64)
            sample = np.stack([from_hex(code, bits) for code in stored["sample"]])
            items = int(stored["items"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidCode(f"the profile of the training set's codes cannot be read: {error}") from None
        if ones.shape != (bits,) or not ((ones >= 0) & (ones <= 1)).all() or items < len(sample):
            raise InvalidCode(f"the profile of the training set's codes is not one of {bits} bits")
        return cls(items, ones, sample)


@dataclass(frozen=True)
class BitShift:
    """How often a bit was 1 in training and is now, and the difference in standard deviations of chance."""

    bit: int
    training: float
    now: float
    z: float


@dataclass(frozen=True)
class Drift:
    """Codes compared with a profile. `score` is `discrepancy / limit`: above 1 it is no chance."""

    items: int
    sampled: int
    score: float
    discrepancy: float
    expected: float
    """What the discrepancy is on average without drift, for samples of this size."""
    limit: float
    """What it exceeds once in a hundred times without drift."""
    stability: float
    """Population stability index, mean over the bits."""
    stability_expected: float
    strange: float
    """Share of the sample that is like nothing of the training set."""
    shifts: tuple[BitShift, ...]
    """The bits that changed most."""


def sample_of(codes: Codes, size: int, seed: int) -> Codes:
    """At most `size` of the codes, drawn without replacement, in their order."""
    if len(codes) <= size:
        return codes
    chosen = np.random.default_rng(seed).choice(len(codes), size, replace=False)
    return codes[np.sort(chosen)]


def drift(profile: CodeProfile, codes: Codes, *, seed: int = 0) -> Drift:
    """Compare codes `(n, bits / 8)`, n > 0, with those of the training set."""
    sample = sample_of(codes, SAMPLE, seed)
    discrepancy, dealt = _discrepancy(profile.sample, sample, seed)
    limit = float(np.quantile(dealt, 1 - CHANCE, method="higher"))
    now = count_bits(codes) / len(codes)
    stability = _stability(profile.ones, profile.items, now, len(codes))
    return Drift(
        items=len(codes),
        sampled=len(sample),
        score=discrepancy / limit if limit > 0 else 0.0,  # no limit: every code there is is the same
        discrepancy=discrepancy,
        expected=float(dealt.mean()),
        limit=limit,
        stability=float(stability.mean()),
        stability_expected=1 / profile.items + 1 / len(codes),
        strange=_strange(profile.sample, sample),
        shifts=_shifts(profile.ones, profile.items, now, len(codes)),
    )


def _apart(a: Codes, b: Codes) -> NDArray[np.int16]:
    """Distances `(n, m)`."""
    return np.stack([np.bitwise_count(row ^ b).sum(axis=1, dtype=np.int16) for row in a])


def _discrepancy(a: Codes, b: Codes, seed: int) -> tuple[float, Floats]:
    """The squared discrepancy of two samples, and what it is when the same codes are dealt out at random `(DEALS,)`."""
    both = np.concatenate([a, b])
    apart = _apart(both, both)
    likeness = np.exp(-apart / max(1.0, float(apart.mean()))).astype(np.float32)
    weights = np.concatenate([np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b))]).astype(np.float32)
    rng = np.random.default_rng(seed)
    deals = np.stack([weights, *(rng.permutation(weights) for _ in range(DEALS))], axis=1)  # (n + m, 1 + DEALS)
    found = np.einsum("id,id->d", deals, likeness @ deals, dtype=np.float64).clip(min=0)
    return float(found[0]), found[1:]


def _stability(before: Floats, n: int, now: Floats, m: int) -> Floats:
    """The population stability index of each bit; half an item is added to each side, so that it stays finite."""
    p, q = (before * n + 0.5) / (n + 1), (now * m + 0.5) / (m + 1)
    index: Floats = (q - p) * (np.log(q / p) - np.log((1 - q) / (1 - p)))
    return index


def _strange(known: Codes, codes: Codes) -> float:
    among = _apart(known, known)
    np.fill_diagonal(among, np.iinfo(np.int16).max)
    usual = np.quantile(among.min(axis=1), _STRANGE, method="higher")
    nearest = (count_distances(known, codes) > 0).argmax(axis=1)
    return float((nearest > usual).mean())


def _shifts(before: Floats, n: int, now: Floats, m: int) -> tuple[BitShift, ...]:
    pooled = (before * n + now * m + 0.5) / (n + m + 1)
    z = (now - before) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    worst = np.argsort(-np.abs(z), kind="stable")[:_WORST]
    return tuple(BitShift(int(bit), float(before[bit]), float(now[bit]), float(z[bit])) for bit in worst)
