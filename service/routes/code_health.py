"""/collections/{collection}/health."""

from __future__ import annotations

import asyncio
from typing import Annotated, cast

import numpy as np
from fastapi import APIRouter, Depends, Request

from index.drift import Drift
from index.findings import worst
from index.health import Bits, Health

from ..dependencies import EngineDep
from ..health import Examinations, Examined
from ..schemas import ModelInfo
from ..schemas.health import (
    BitBalance,
    BitCorrelation,
    BitEntropy,
    BitPair,
    BucketChunk,
    Buckets,
    CodeDrift,
    CodeHealth,
    DriftOf,
    EqualCodes,
    HealthFinding,
    RadiusCurve,
    RadiusStep,
    ShiftedBit,
    WorstBit,
)

router = APIRouter(tags=["collections"])


def _examinations(request: Request) -> Examinations:
    return cast(Examinations, request.app.state.examinations)


@router.get("/collections/{collection}/health")
async def code_health(
    collection: str, engine: EngineDep, examinations: Annotated[Examinations, Depends(_examinations)]
) -> CodeHealth:
    """How good the codes are, in numbers and in words: bit balance, entropy, correlation, dead bits, equal codes,
    buckets, what a radius finds, and drift from the training set. Measured beside the searches, a second or so for a
    million items, and kept until the collection changes."""
    found = engine.catalogue.get(collection)
    return reply_for(found.name, await asyncio.wrap_future(examinations.ask(found)))


def reply_for(collection: str, examined: Examined) -> CodeHealth:
    health, key = examined.health, examined.model
    bits = health.bits
    return CodeHealth(
        collection=collection,
        model=ModelInfo(name=key.name, version=key.version, fingerprint=key.fingerprint) if key else None,
        items=health.items,
        bits=health.width,
        status=worst(examined.findings),
        findings=[HealthFinding(**vars(finding)) for finding in examined.findings],
        balance=_balance(health),
        entropy=BitEntropy(
            per_bit=[_short(value) for value in bits.entropy],
            total=_short(bits.entropy.sum()),
            effective_bits=_short(bits.effective),
        ),
        dead_bits=list(bits.dead),
        correlation=_correlation(bits),
        codes=EqualCodes(
            distinct=health.equals.distinct,
            sharing=health.equals.sharing,
            collision_rate=health.equals.sharing / max(health.items, 1),
            largest_group=health.equals.largest,
            largest_code=health.equals.code,
        ),
        buckets=_buckets(health),
        radius=RadiusCurve(
            queries=health.queries,
            steps=[RadiusStep(radius=step.radius, mean=_short(step.mean), p95=step.p95) for step in health.curve],
        ),
        drift=_drift(examined),
        no_drift=examined.no_drift,
        sequence=examined.sequence,
        measured_at=examined.at,
        took_ms=round(examined.seconds * 1000, 1),
    )


def _short(value: float) -> float:
    """To six digits: more would be noise, and a reply holds thousands of numbers."""
    return float(f"{value:.6g}")


def _balance(health: Health) -> BitBalance:
    ones = health.bits.ones
    bit = int(np.minimum(ones, 1 - ones).argmin())
    worst_bit = WorstBit(bit=bit, ones=_short(ones[bit])) if health.items else None
    return BitBalance(ones=[_short(share) for share in ones], worst=worst_bit)


def _correlation(bits: Bits) -> BitCorrelation:
    return BitCorrelation(
        mean=_short(bits.correlation),
        by_chance=_short(bits.correlation_by_chance),
        worst=[BitPair(a=pair.a, b=pair.b, r=_short(pair.r)) for pair in bits.pairs],
        items=bits.counted,
    )


def _buckets(health: Health) -> Buckets:
    return Buckets(
        in_use=health.hashed,
        chunks=[
            BucketChunk(
                bits=chunk.width,
                buckets=1 << chunk.width,
                used=chunk.used,
                largest=chunk.largest,
                largest_expected=chunk.largest_expected,
                met=_short(chunk.met),
                met_expected=_short(chunk.met_expected),
            )
            for chunk in health.chunks
        ],
        largest_share=health.fullest / max(health.items, 1),
        slowdown=_short(health.slowdown),
    )


def _drift(examined: Examined) -> CodeDrift | None:
    health, profile = examined.health, examined.profile
    if profile is None or health.drift is None:
        return None
    recent = None if health.recent_drift is None else _drift_of(health.recent_drift)
    return CodeDrift(training_items=profile.items, all=_drift_of(health.drift), recent=recent)


def _drift_of(drift: Drift) -> DriftOf:
    return DriftOf(
        items=drift.items,
        sampled=drift.sampled,
        score=_short(drift.score),
        discrepancy=_short(drift.discrepancy),
        expected=_short(drift.expected),
        limit=_short(drift.limit),
        stability=_short(drift.stability),
        stability_expected=_short(drift.stability_expected),
        strange=_short(drift.strange),
        shifted=[
            ShiftedBit(bit=shift.bit, training=_short(shift.training), now=_short(shift.now), z=_short(shift.z))
            for shift in drift.shifts
        ],
    )
