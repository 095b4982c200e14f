"""The health of codes: every number against a plain computation, every reading at its limit, small collections."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from index import Codes, census, hamming, unpack
from index.drift import CHANCE, CodeProfile, drift
from index.errors import InvalidCode
from index.findings import findings, worst
from index.health import Health, measure
from index.multihash import MultiHashIndex

SEED = 0


def codes_of(n: int, bits: int, *, seed: int = SEED, share: float = 0.5) -> Codes:
    rng = np.random.default_rng(seed)
    return np.packbits(rng.random((n, bits)) < share, axis=1)


@pytest.mark.parametrize("bits", [8, 24, 32, 40, 64, 128, 200, 256, 1024])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 4200])
def test_counting_agrees_with_numpy(bits: int, n: int) -> None:
    codes = codes_of(n, bits, share=0.3)
    x = unpack(codes).astype(np.float64)
    assert np.array_equal(census.count_bits(codes), x.sum(axis=0))
    assert np.array_equal(census.count_pairs(codes), x.T @ x)
    apart = np.stack([hamming(code, codes) for code in codes[:3]])
    assert np.array_equal(
        census.count_distances(codes, codes[:3]), np.stack([np.bincount(row, minlength=bits + 1) for row in apart])
    )
    places, sizes = census.groups_of_equals(codes)
    known, counts = np.unique(codes, axis=0, return_counts=True)
    assert sorted(map(bytes, codes[places])) == sorted(map(bytes, known))
    assert dict(zip(map(bytes, codes[places]), sizes, strict=True)) == dict(zip(map(bytes, known), counts, strict=True))


def test_codes_of_one_digest_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.concatenate([codes_of(50, 256), codes_of(20, 256)])
    monkeypatch.setattr(census, "_digests", lambda wide: np.zeros(len(wide), np.uint64))
    places, sizes = census.groups_of_equals(codes)
    assert len(places) == 50
    assert sorted(sizes) == [1] * 30 + [2] * 20


def test_buckets_are_those_of_the_index() -> None:
    codes = codes_of(2000, 64, share=0.2)
    index = MultiHashIndex.build(64, np.arange(2000), codes, hashed_from=0)
    assert index._buckets is not None
    chunks = measure(codes).chunks
    for number, chunk in enumerate(chunks):
        sizes = np.diff(index._buckets.offsets_of(number).astype(np.int64))
        assert (chunk.width, chunk.used, chunk.largest) == (
            index._buckets.widths[number],
            (sizes > 0).sum(),
            sizes.max(),
        )
        assert chunk.met == pytest.approx((sizes**2).sum() / 2000)


def test_the_numbers_of_codes_drawn_at_random_are_those_of_theory() -> None:
    health = measure(codes_of(20_000, 64))
    assert health.bits.entropy.sum() == pytest.approx(64, abs=0.05)
    assert health.bits.effective == pytest.approx(64, rel=0.01)
    assert health.bits.correlation == pytest.approx(health.bits.correlation_by_chance, rel=0.1)
    assert (health.bits.dead, health.equals.distinct, health.equals.sharing) == ((), 20_000, 0)
    assert health.slowdown == pytest.approx(1, rel=0.02)
    assert all(abs(chunk.largest - chunk.largest_expected) <= 2 for chunk in health.chunks)
    # Within radius 16 of 64: the binomial tail, 19,999 times.
    from math import comb

    tail = sum(comb(64, r) for r in range(25)) / 2**64
    assert next(step.mean for step in health.curve if step.radius == 24) == pytest.approx(19_999 * tail, rel=0.02)


def test_each_repeated_bit_takes_one_effective_bit() -> None:
    bits = unpack(codes_of(20_000, 64))
    bits[:, 32:] = bits[:, :32]  # every bit twice
    health = measure(np.packbits(bits, axis=1))
    assert health.bits.effective == pytest.approx(32, rel=0.01)
    assert {(pair.a + 32, pair.r) for pair in health.bits.pairs} == {(pair.b, 1.0) for pair in health.bits.pairs}


def test_the_curve_counts_what_a_search_finds() -> None:
    codes = codes_of(300, 16, share=0.2)
    health = measure(codes)
    apart = np.stack([hamming(code, codes) for code in codes])
    drawn = np.sort(np.random.default_rng(0).choice(300, 256, replace=False))
    for step in health.curve:
        others = (apart[drawn] <= step.radius).sum(axis=1) - 1
        assert step.mean == pytest.approx(others.mean())
        assert step.p95 == np.quantile(others, 0.95, method="higher")
    assert health.curve[-1].mean == 299


@pytest.mark.parametrize("bits", [8, 64, 1024])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 29, 30, 100])
@pytest.mark.parametrize("share", [0.5, 0.0, 1.0], ids=["random", "zeros", "ones"])
def test_small_and_equal_collections_have_sensible_numbers(n: int, bits: int, share: float) -> None:
    profile = CodeProfile.of(codes_of(50, bits, seed=1))
    health = measure(codes_of(n, bits, share=share), profile)
    text = json.dumps(asdict(health), default=lambda value: value.tolist(), allow_nan=False)
    assert "NaN" not in text
    for finding in findings(health):
        assert np.isfinite(finding.value)
        assert finding.detail
    assert (health.drift is None) == (n < 30)
    if share == 0.5:
        assert worst(findings(health)) == "ok" or bits == 8
    elif n >= 10:
        assert worst(findings(health)) == "bad", "all items have one code"


def found(health: Health, what: str) -> tuple[str, float]:
    return next((finding.severity, finding.value) for finding in findings(health) if finding.what == what)


def biased(n: int, bits: int, shares: dict[int, float]) -> Codes:
    every = np.full(bits, 0.5)
    for bit, share in shares.items():
        every[bit] = share
    return np.packbits(np.random.default_rng(1).random((n, bits)) < every, axis=1)


def test_each_reading_turns_at_its_limit() -> None:
    good = measure(codes_of(1000, 64))
    assert {finding.severity for finding in findings(good)} == {"ok"}
    assert found(measure(biased(1000, 64, {3: 0.001})), "dead bits") == ("warning", 1)
    assert found(measure(biased(1000, 64, dict.fromkeys(range(17), 0.0))), "dead bits") == ("bad", 17)
    assert found(measure(biased(1000, 64, dict.fromkeys(range(6), 0.05))), "balance")[0] == "ok"
    assert found(measure(biased(1000, 64, dict.fromkeys(range(7), 0.95))), "balance")[0] == "warning"
    for repeats, severity in ((4, "ok"), (16, "warning"), (64, "bad")):
        bits = np.repeat(unpack(codes_of(1000, 64 if repeats == 4 else 8))[:, : 64 // repeats], repeats, axis=1)
        assert found(measure(np.packbits(bits, axis=1)), "effective bits")[0] == severity
    for same, severity in ((150, "ok"), (300, "warning"), (600, "bad")):
        codes = codes_of(1000, 64)
        codes[:same] = codes[0]
        assert found(measure(codes), "equal codes") == (severity, same / 1000)
    near = unpack(codes_of(1000, 64)) | np.random.default_rng(2).integers(0, 2, (1000, 1)).astype(np.uint8)
    assert found(measure(np.packbits(near, axis=1)), "correlation")[0] == "ok"
    one = np.random.default_rng(2).random((1000, 1)) < 0.5
    flipped = np.random.default_rng(3).random((1000, 64)) < 0.15
    assert found(measure(np.packbits(one ^ flipped, axis=1)), "correlation")[0] == "warning"


def test_a_bucket_that_holds_a_fifth_of_everything_is_bad() -> None:
    codes = codes_of(40_000, 64)
    assert found(measure(codes), "buckets")[0] == "ok"
    codes[:8000, :2] = 0
    severity, _ = found(measure(codes), "buckets")
    assert severity == "bad"


# -- drift ---------------------------------------------------------------------------------------------------------


def test_codes_of_the_same_source_exceed_the_limit_as_seldom_as_said() -> None:
    """The seed is fixed, so this is no game of chance; 150 draws of 1 % each exceed 6 once in a thousand times."""
    rng = np.random.default_rng(SEED)
    mixing = rng.random((8, 32)) < 0.5

    def draw(n: int) -> Codes:  # bits that depend on one another
        hidden = rng.random((n, 8)) < 0.5
        return np.packbits(((hidden.astype(int) @ mixing) % 2) ^ (rng.random((n, 32)) < 0.1), axis=1)

    scores = []
    for number in range(150):
        profile, codes = CodeProfile.of(draw(150)), draw(int(rng.integers(30, 200)))
        scores.append(drift(profile, codes, seed=number).score)
    assert np.mean(np.array(scores) > 1) <= 6 / 150, (SEED, CHANCE)


def test_bits_that_only_go_together_differently_are_seen() -> None:
    rng = np.random.default_rng(SEED)
    apart = rng.random((1000, 32)) < 0.5
    together = np.repeat(rng.random((1000, 16)) < 0.5, 2, axis=1)
    result = drift(CodeProfile.of(np.packbits(apart, axis=1)), np.packbits(together, axis=1))
    assert result.score > 2
    assert result.stability < 0.05, "no bit alone has changed"


def test_a_bit_that_turned_is_named() -> None:
    before, after = codes_of(800, 64, seed=1), unpack(codes_of(800, 64, seed=2))
    after[:, 17] = np.random.default_rng(0).random(800) < 0.95
    result = drift(CodeProfile.of(before), np.packbits(after, axis=1))
    assert result.shifts[0].bit == 17
    assert result.shifts[0].z > 10


def test_items_like_none_of_the_training_set_are_counted() -> None:
    rng = np.random.default_rng(SEED)
    centre = rng.random(128) < 0.5
    near = np.packbits(centre ^ (rng.random((500, 128)) < 0.05), axis=1)
    far = np.packbits(centre ^ (rng.random((100, 128)) < 0.5), axis=1)
    profile = CodeProfile.of(near[:250])
    assert drift(profile, near[250:]).strange <= 0.05
    mixed = drift(profile, np.concatenate([near[350:], far]))
    assert mixed.strange == pytest.approx(0.4, abs=0.05)


def test_the_newest_items_are_looked_at_alone() -> None:
    old, new = codes_of(3000, 64, seed=1), codes_of(300, 64, seed=2, share=0.9)
    health = measure(np.concatenate([old, new]), CodeProfile.of(codes_of(1000, 64, seed=3)))
    assert health.recent_drift is not None
    assert health.drift is not None
    assert health.recent_drift.items == 330
    assert health.recent_drift.score > 3 * health.drift.score > 0
    readings = [(finding.severity, finding.detail.split(" (")[0]) for finding in findings(health)]
    assert ("bad", "the newest items") in readings
    assert found(replace(health, recent_drift=None), "drift")[0] == "warning"


def test_a_profile_survives_being_written_and_one_that_did_not_is_refused() -> None:
    profile = CodeProfile.of(codes_of(2000, 64))
    stored: dict[str, Any] = json.loads(json.dumps(profile.as_dict()))
    again = CodeProfile.from_dict(stored, 64)
    assert np.array_equal(again.sample, profile.sample)
    assert len(again.sample) == 1000
    assert np.allclose(again.ones, profile.ones, atol=1e-6)
    assert again.items == 2000
    wrong: list[dict[str, Any]] = [
        {},
        stored | {"ones": stored["ones"][1:]},
        stored | {"ones": [2.0] * 64},
        stored | {"sample": ["00"]},
        stored | {"sample": []},
        stored | {"items": 5},
        stored | {"sample": [1]},
    ]
    for broken in wrong:
        with pytest.raises(InvalidCode):
            CodeProfile.from_dict(broken, 64)
