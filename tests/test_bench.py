"""The benchmark: its codes are what they are said to be, its peers answer, and nobody's wrong answer goes unseen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from index import BruteIndex, Codes, FlatIndex, hamming
from service.bench import PEERS, Batches, IndexPeer, Nearest, Peer, Within, clustered, index_benchmark
from service.bench.faisses import Flat
from service.bench.measure import Contestant, all_of, race, same_distances, same_ids
from service.bench.peers import Entrant

ITEMS = 2_000
MAKERS = {
    "flat": [Entrant(Flat)],
    "ours": [Entrant(IndexPeer.maker(FlatIndex.build, "ours"))],
    **{name: entrants(64) for name, entrants in PEERS.items()},
}


# -- codes ---------------------------------------------------------------------------------------------------------


def test_codes_are_the_same_for_a_seed_and_shorter_ones_are_prefixes() -> None:
    codes, queries = clustered(20_000, 128, 50, seed=3)
    assert codes.shape == (20_000, 16)
    assert queries.shape == (50, 16)
    assert codes.dtype == queries.dtype == np.uint8
    for items, bits in ((20_000, 128), (20_000, 64), (500, 128), (17_000, 40)):
        fewer, same = clustered(items, bits, 50, seed=3)
        assert np.array_equal(fewer, codes[:items, : bits // 8])
        assert np.array_equal(same, queries[:, : bits // 8])
    assert not np.array_equal(clustered(100, 128, 1, seed=4)[0], codes[:100])
    # What another machine, or a later numpy, must make too.
    assert clustered(1, 64, 1, seed=0)[0].tobytes().hex() == "c204de36cbcc39be"


def test_codes_are_clustered() -> None:
    codes, queries = clustered(20_000, 256, 300, seed=0)
    assert np.unpackbits(codes).mean() == pytest.approx(0.5, abs=0.02)
    nearest = np.array([np.sort(hamming(codes, query))[[0, 9]] for query in queries])
    first, tenth = np.median(nearest, axis=0)
    assert 30 <= first <= 45, "two items of a centre differ in 2p(1 - p) of their bits, 42 of 256 in the mean"
    assert first < tenth < 100
    # One in ten is noise, a few are of centres without another item: these are as far as random codes are.
    assert 0.1 <= (nearest[:, 0] > 80).mean() <= 0.5


# -- peers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def codes() -> tuple[Codes, Codes]:
    return clustered(ITEMS, 64, 12, seed=1)


@pytest.fixture(params=[(name, place) for name, entrants in MAKERS.items() for place in range(len(entrants))], ids=str)
def peer(request: pytest.FixtureRequest, codes: tuple[Codes, Codes]) -> Iterator[Peer]:
    name, place = request.param
    try:
        made = MAKERS[name][place].make(64, codes[0])
    except ImportError as error:
        pytest.skip(f"{name}: {error}")
    with closing(made):
        yield made


def test_a_peer_answers_as_brute_force_does(peer: Peer, codes: tuple[Codes, Codes]) -> None:
    stored, queries = codes
    brute = BruteIndex.build(64, np.arange(ITEMS), stored)
    judge, abilities = same_distances(stored), 0
    if isinstance(peer, Within):
        abilities += 1
        for query in queries:
            for radius in (0, 3, 8, 20):
                assert same_ids(query, brute.within(query, radius).keys, peer.within(query, radius)).right, radius
    for k in (1, 10, 100):
        truths = [brute.search(query, k).keys[:k] for query in queries]
        if isinstance(peer, Nearest):
            abilities += 1
            found = [judge(*one, peer.nearest(one[0], k)) for one in zip(queries, truths, strict=True)]
            assert not peer.exact or all(verdict.right for verdict in found)
            assert np.mean([verdict.recall for verdict in found]) > 0.5
        if isinstance(peer, Batches):
            verdict = all_of(judge)(queries, truths, peer.batch(queries, k))
            assert verdict.right or not peer.exact
            assert verdict.recall > 0.5
    assert abilities


@pytest.mark.parametrize("bits", [8, 24, 104])
def test_odd_widths_and_radii_beyond_a_chunk(bits: int) -> None:
    codes, queries = clustered(500, bits, 3, seed=0)
    for entrant in [*PEERS["faiss-multihash"](bits), *PEERS["numpy"](bits)]:
        with closing(entrant.make(bits, codes)) as peer:
            assert isinstance(peer, Within)
            for query in queries:
                expected = BruteIndex.build(bits, np.arange(500), codes).within(query, 20).keys
                assert same_ids(query, expected, peer.within(query, 20)).right, peer.name


# -- judging -------------------------------------------------------------------------------------------------------


def test_an_answer_is_judged() -> None:
    codes = np.array([[0b0], [0b1], [0b10], [0b11], [0b11111111]], np.uint8)
    query, nearest = codes[0], same_distances(codes)
    assert nearest(query, [0, 1], [2, 0]).right, "ids 1 and 2 are equally far"
    for wrong, recall in (([0, 3], 0.5), ([0, 0], 0.5), ([0], 0.5), ([0, 1, 2], 1.0), ([0, -1], 0.5), ([0, 99], 0.5)):
        verdict = nearest(query, [0, 1], wrong)
        assert (verdict.right, verdict.recall) == (False, recall), wrong
    assert same_ids(query, [0, 1, 2], [2, 1, 0]).right
    for wrong, recall in (([0, 1], 2 / 3), ([0, 1, 1], 2 / 3), ([0, 1, 2, 3], 1.0), ([], 0.0)):
        verdict = same_ids(query, [0, 1, 2], wrong)
        assert (verdict.right, verdict.recall) == (False, recall), wrong
    assert same_ids(query, [], []).right
    assert not all_of(nearest)(codes[:2], [[0, 1], [1, 0]], [[0, 1], [1, 4]]).right
    assert not all_of(nearest)(codes[:2], [[0, 1], [1, 0]], [[0, 1]]).right


def test_the_slow_answer_less_and_the_rest_everything() -> None:
    asked = [np.array([number], np.uint8) for number in range(100)]

    def slow(code: Codes) -> Any:
        until = perf_counter() + 0.005
        while perf_counter() < until:
            pass
        return code

    reference, fast, late = (Contestant(name, True, ask) for name, ask in (("a", list), ("b", list), ("c", slow)))
    race(reference, [fast, late], asked, same_ids, seconds=0.2, seed=0, block=10)
    assert list(reference.taken) == list(fast.taken) == list(range(100))
    assert sorted({place // 10 for place in late.taken}) == list(range(10)), "in every round"
    assert 10 <= len(late.taken) <= 50
    assert late.micros().min() >= 5000
    assert fast.wrong == late.wrong == 0


# -- the whole -----------------------------------------------------------------------------------------------------


class Liar(IndexPeer):
    """Forgets an item of every answer."""

    def within(self, code: Codes, radius: int) -> Any:
        return super().within(code, radius)[1:]

    def nearest(self, code: Codes, k: int) -> Any:
        return np.append(super().nearest(code, k)[1:], ITEMS - 1)


def small(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "items": ITEMS,
        "bits": 64,
        "radii": [8],
        "ks": [10],
        "peers": ["faiss-multihash", "numpy"],
    }
    settings |= {"seconds": 0.1, "seed": 0, "ours": IndexPeer.maker(FlatIndex.build, "ours"), "queries": 64}
    return index_benchmark(**settings | changes)


def test_a_wrong_answer_is_reported_loudly() -> None:
    report = small(ours=Liar.maker(FlatIndex.build, "liar"), peers=["numpy"])
    assert {(row.contestant, row.what) for row in report.broken} == {
        ("liar", "all within radius 8"),
        ("liar", "10 nearest"),
    }
    assert all(row.wrong > 0 and row.recall < 1 for row in report.broken)
    assert report.as_dict()["broken"] is True
    text = "\n".join(report.markdown())
    assert "**WRONG** " in text
    assert "**WRONG ANSWERS**" in text


def test_a_report_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(bits: int, codes: Codes) -> Peer:
        raise ImportError("No module named 'nothing'")

    few = Entrant(partial(Flat), 1_500)
    monkeypatch.setitem(PEERS, "missing", lambda bits: [Entrant(missing)])
    monkeypatch.setitem(PEERS, "few", lambda bits: [few])
    said: list[str] = []
    report = small(peers=["faiss-multihash", "numpy", "missing", "few"], say=said.append)
    assert not report.broken
    sizes = {(row.contestant, row.items) for row in report.rows}
    assert sizes == {("FAISS MultiHash 4x16", ITEMS), ("FAISS MultiHash 3x21", ITEMS), ("numpy", ITEMS)} | {
        (name, items) for name in ("FAISS Flat", "ours") for items in (ITEMS, 1_500)
    }
    assert "not installed" in report.notes[0]
    assert "first 1,500 of 2,000" in report.notes[1]
    whats = {"all within radius 8", "10 nearest", "10 nearest to each of 256 in one call"}
    assert {row.what for row in report.rows} == whats
    assert all(any(what in line for line in said) for what in whats)
    for row in report.rows:
        assert 0 < row.p50_us <= row.p99_us
        assert row.p50_vs_flat > 0
        assert (row.ours_p50 is None) == (row.contestant == "ours" or "call" in row.what)
    assert {build.contestant for build in report.builds} == {row.contestant for row in report.rows}
    assert report.facts["faiss-cpu"][0].isdigit()


def test_the_markdown_is_tables() -> None:
    report = small()
    lines = report.markdown()
    assert "### 10 nearest; 2,000 x 64 bits" in lines
    for start in [place for place, line in enumerate(lines) if line.startswith("### ")]:
        table = lines[start + 2 : lines.index("", start + 2)]
        assert len(table) >= 3
        assert {line.count("|") for line in table} == {table[0].count("|")}
        assert set(table[1]) <= set("|-: ")


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="no peer pinecone"):
        small(peers=["pinecone"])
    with pytest.raises(ValueError, match="at least 100 items"):
        small(items=50, ks=[100])
