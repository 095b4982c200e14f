"""The health of a collection's codes: the reply of /collections/{collection}/health."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from .base import ModelInfo


class HealthFinding(BaseModel):
    severity: Literal["ok", "warning", "bad"]
    what: str
    detail: str = Field(description="what was seen, in a sentence")
    value: float = Field(description="what was held against the limit")
    limit: float | None
    advice: str | None = Field(description="what can be done; null where nothing need be")


class WorstBit(BaseModel):
    bit: int = Field(description="0 is the most significant bit of the first byte")
    ones: float


class BitBalance(BaseModel):
    ones: list[float] = Field(description="share of the items in which each bit is 1")
    worst: WorstBit | None = Field(description="the most one-sided; null of an empty collection")


class BitEntropy(BaseModel):
    per_bit: list[float] = Field(description="0 for a constant bit, 1 for an even one")
    total: float
    effective_bits: float = Field(
        description="of how many even, independent bits the distances are worth: (sum of variances)^2 / sum of squared "
        "covariances, without what chance adds to these"
    )


class BitPair(BaseModel):
    a: int
    b: int
    r: float


class BitCorrelation(BaseModel):
    mean: float = Field(description="of |r|, over all pairs of bits that are not constant")
    by_chance: float = Field(description="what the mean would be of independent bits, for so many items")
    worst: list[BitPair]
    items: int = Field(description="how many were counted: all, or a random part of a very large collection")


class EqualCodes(BaseModel):
    distinct: int
    sharing: int = Field(description="items whose code another item has too")
    collision_rate: float = Field(description="these, as a share of all")
    largest_group: int
    largest_code: str | None = Field(description="the code that most items have; search it with radius 0 to see them")


class BucketChunk(BaseModel):
    bits: int
    buckets: int
    used: int
    largest: int
    largest_expected: int = Field(description="with evenly spread codes")
    met: float = Field(description="items in the bucket that a stored item is in, on average")
    met_expected: float


class Buckets(BaseModel):
    in_use: bool = Field(description="false where the collection is so small that searches scan it")
    chunks: list[BucketChunk] = Field(description="the codes are cut into these; each has its buckets")
    largest_share: float = Field(description="the fullest bucket, as a share of all items")
    slowdown: float = Field(description="how many times as many items are met as with evenly spread codes")


class RadiusStep(BaseModel):
    radius: int
    mean: float
    p95: int


class RadiusCurve(BaseModel):
    queries: int = Field(description="stored items, drawn at random, that were compared with every item")
    steps: list[RadiusStep] = Field(description="how many other items a search finds, up to where it finds all")


class ShiftedBit(BaseModel):
    bit: int
    training: float
    now: float
    z: float = Field(description="the difference in standard deviations of chance")


class DriftOf(BaseModel):
    items: int
    sampled: int = Field(description="of these, drawn at random for the discrepancy")
    score: float = Field(description="discrepancy / limit: above 1 it is no chance")
    discrepancy: float = Field(description="squared maximum mean discrepancy, kernel exp(-distance / mean distance)")
    expected: float = Field(description="what it is on average without drift")
    limit: float = Field(description="what it exceeds once in a hundred times without drift")
    stability: float = Field(description="population stability index, mean over the bits; 0.25 is a lot")
    stability_expected: float
    strange: float = Field(
        description="share of items farther from the training set than 99 % of it are from each other; about 0.01 "
        "without drift"
    )
    shifted: list[ShiftedBit] = Field(description="the bits that changed most")


class CodeDrift(BaseModel):
    training_items: int
    all: DriftOf
    recent: DriftOf | None = Field(
        description="of the newest tenth, 200 to 10,000 items; null where that is the whole collection"
    )


class CodeHealth(BaseModel):
    """How good the codes of a collection are, and what to do about it."""

    collection: str
    model: ModelInfo | None
    items: int
    bits: int
    status: Literal["ok", "warning", "bad"] = Field(description="the severity of the worst finding")
    findings: list[HealthFinding] = Field(description="the worst first")
    balance: BitBalance
    entropy: BitEntropy
    dead_bits: list[int] = Field(description="the same in more than 99 % of the items")
    correlation: BitCorrelation
    codes: EqualCodes
    buckets: Buckets
    radius: RadiusCurve
    drift: CodeDrift | None = Field(description="of the stored codes against the training set's")
    no_drift: str | None = Field(description="why `drift` is null")
    sequence: int = Field(description="the state of the collection that this is of; every change has a higher number")
    measured_at: str
    took_ms: float
