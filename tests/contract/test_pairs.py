"""All pairs and groups equal those of the brute force; a run can be stopped and gone on with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from index import hamming
from index.errors import InvalidQuery
from index.pairs import AllPairs, Progress


def codes_of(n: int, width: int, centres: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    noise = np.packbits(rng.random((n, width)) < 0.04, axis=1)
    return rng.integers(0, 256, (centres, width // 8)).astype(np.uint8)[rng.integers(0, centres, n)] ^ noise


def expected(codes: Any, radius: int) -> tuple[set[tuple[int, int, int]], Any]:
    distances = hamming(codes[:, None], codes[None])
    near = distances <= radius
    pairs = {(int(i), int(j), int(distances[i, j])) for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True)}
    return pairs, connected_components(near)[1]


def same_partition(a: Any, b: Any) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pairs_and_groups_equal_the_brute_force(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from([8, 16, 32, 40, 64, 128, 256]))
    n = data.draw(st.sampled_from([0, 1, 2, 30, 400]))
    codes = codes_of(n, width, data.draw(st.sampled_from([1, 5, 100])), data.draw(st.integers(0, 99)))
    radius = data.draw(st.sampled_from([0, 1, 2, 3, 5, width // 4, width]))
    pairs, labels = expected(codes, radius)
    run = AllPairs(width, codes, radius, threads=data.draw(st.sampled_from([1, 2, 3])))
    found = [(*sorted((int(a), int(b))), int(d)) for _, part in run.pairs() for a, b, d in part]
    assert len(found) == len(set(found)), "every pair once"
    assert set(found) == pairs
    *_, groups = run.groups()
    assert same_partition(groups.labels(), labels)
    assert groups.pairs == len(pairs)
    members = groups.members()
    assert all(len(group) > 1 for group in members)
    assert sorted(map(len, members), reverse=True) == [len(group) for group in members]
    assert {int(place) for group in members for place in group} == {place for pair in pairs for place in pair[:2]}


@pytest.mark.parametrize("radius", [0, 3, 8])
def test_six_thousand_codes(radius: int) -> None:
    codes = codes_of(6_000, 64, 300, 1)
    near = np.concatenate([hamming(codes[at : at + 500, None], codes[None]) <= radius for at in range(0, 6_000, 500)])
    run = AllPairs(64, codes, radius)
    assert run.parts > 256 or radius == 0, "by buckets, not by comparing all with all"
    assert sum(len(part) for _, part in run.pairs()) == np.triu(near, 1).sum()
    *_, groups = run.groups()
    assert groups.pairs == np.triu(near, 1).sum()
    assert same_partition(groups.labels(), connected_components(near)[1])


def test_a_run_can_be_stopped_anywhere_and_gone_on_with() -> None:
    codes = codes_of(5000, 64, 200, 2)
    *_, whole = AllPairs(64, codes, 4).groups()
    steps = sum(1 for _ in AllPairs(64, codes, 4).groups())
    assert steps > 5
    for stop in range(steps):
        for step, groups in enumerate(AllPairs(64, codes, 4).groups()):
            if step == stop:
                kept = groups.copy()
                break
        assert len(list(AllPairs(64, codes, 4).groups(kept))) == max(steps - 1 - stop, 1)
        assert kept.pairs == whole.pairs
        assert same_partition(kept.labels(), whole.labels())


def test_pairs_go_on_where_an_earlier_run_was() -> None:
    codes = codes_of(3000, 64, 100, 3)
    run = AllPairs(64, codes, 4)
    parts = list(run.pairs())
    assert [progress for progress, _ in parts] == [Progress(done, run.parts) for done in range(1, run.parts + 1)]
    later = list(run.pairs(start=300))
    assert later[0][0] == Progress(301, run.parts)
    for (_, a), (_, b) in zip(parts[300:], later, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("radius", [-1, 65])
def test_a_radius_that_is_none(radius: int) -> None:
    with pytest.raises(InvalidQuery, match="0 to 64"):
        AllPairs(64, codes_of(5, 64, 1, 0), radius)
