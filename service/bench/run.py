"""The benchmark of Hamming indexes: ours and others over the same codes, in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.bits import Codes

from . import machine
from .codes import clustered
from .faisses import Flat, one_thread
from .measure import BLOCK, Contestant, Judge, all_of, race, same_distances, same_ids
from .peers import PEERS, Batches, Entrant, Maker, Nearest, Peer, Within
from .table import Build, Report, Row

BATCH, BATCH_K = 256, 10
LIBRARIES = "faiss-cpu", "numpy", "numba", "usearch", "sqlite-vec", "lancedb"

# Items of a first build that is not measured: it loads what is loaded late and compiles what is compiled late.
_TASTE, _TASTE_OF_OURS = 1_000, 200_000


def index_benchmark(
    *,
    items: int,
    bits: int,
    radii: Sequence[int],
    ks: Sequence[int],
    peers: Sequence[str],
    seconds: float,
    seed: int,
    ours: Maker,
    also: Sequence[Maker] = (),
    queries: int = 1024,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Time `ours` and `peers` (names from `PEERS`) beside FAISS Flat over clustered codes.

    Questions: all within each of `radii`, the nearest for each of `ks`, and batches of 256 for the 10 nearest. There
    are `queries` of each, all of which FAISS Flat answers, since its answers are the right ones; another stops after
    about `seconds` a question. A peer that cannot take `items` in reasonable time is built over the first of them,
    and FAISS Flat and ours are built and asked again beside it.

    also: more of ours, such as its plain scan. say: is told what goes on.
    """
    most = max([BATCH_K, *ks])
    unknown = set(peers) - set(PEERS)
    if unknown:
        raise ValueError(f"there is no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if items < most:
        raise ValueError(f"at least {most} items are needed to find the {most} nearest; got {items}")
    facts = {**machine.facts(LIBRARIES), "codes": f"clustered, seed {seed}"}
    say(f"making {items:,} codes of {bits} bits")
    codes, asked = clustered(items, bits, max(queries, BATCH), seed)
    rows: list[Row] = []
    builds: list[Build] = []
    with one_thread():
        entrants, notes = _present(peers, bits, codes[:_TASTE])
        entrants = [*map(Entrant, also), *entrants]
        for make in (ours, *also):
            make(bits, codes[:_TASTE_OF_OURS]).close()
        for count in sorted({items, *(_size(entrant, items) for entrant in entrants)}, reverse=True):
            makers = [Flat, ours, *(entrant.make for entrant in entrants if _size(entrant, items) == count)]
            with ExitStack() as stack:
                built: list[Peer] = []
                for make in makers:
                    peer, build = _build(make, bits, codes[:count])
                    built.append(stack.enter_context(closing(peer)))
                    builds.append(build)
                    say(f"{peer.name}: built over {count:,} codes in {build.seconds:.1f} s")
                if count < items:
                    few = ", ".join(peer.name for peer in built[2:])
                    notes.append(
                        f"{few}: over the first {count:,} of {items:,} codes only, FAISS Flat and ours beside it"
                    )
                for question in _questions(codes[:count], asked, queries, radii, ks):
                    say(f"{count:,} x {bits} bits: {question.what}")
                    for contestant, ratios in _answers(question, built, seconds, seed):
                        rows.append(_row(question.what, contestant, count, bits, ratios))
    return Report(facts, rows, builds, notes)


def _size(entrant: Entrant, items: int) -> int:
    return min(items, entrant.most_items or items)


def _present(names: Sequence[str], bits: int, codes: Codes) -> tuple[list[Entrant], list[str]]:
    """Those of the peers that can be built here, and a line on each that cannot."""
    present, notes = [], []
    for name in names:
        try:
            for entrant in PEERS[name](bits):
                entrant.make(bits, codes).close()
                present.append(entrant)
        except ImportError as error:
            notes.append(f"{name}: not installed, so not compared ({error})")
    return present, notes


def _build(make: Maker, bits: int, codes: Codes) -> tuple[Peer, Build]:
    before = machine.resident_bytes()
    given = codes.copy()  # so that one who keeps the codes it is given is charged for them like one who copies them
    started = perf_counter()
    peer = make(bits, given)
    took = perf_counter() - started
    del given
    grown = machine.resident_bytes() - before
    return peer, Build(peer.name, len(codes), bits, took, grown / len(codes))


# -- questions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Question:
    what: str
    asked: Sequence[Codes]
    judge: Judge
    asker: Callable[[Peer], Callable[[Codes], Any] | None]  # how to ask a peer, None if it cannot answer
    block: int = BLOCK


def _questions(
    codes: Codes, asked: Codes, queries: int, radii: Sequence[int], ks: Sequence[int]
) -> Iterator[_Question]:
    single, nearest = list(asked[:queries]), same_distances(codes)
    for radius in radii:
        yield _Question(f"all within radius {radius}", single, same_ids, _within(radius))
    for k in ks:
        yield _Question(f"{k} nearest", single, nearest, _nearest(k))
    batches = [asked[start : start + BATCH] for start in range(0, len(asked) - BATCH + 1, BATCH)]
    what = f"{BATCH_K} nearest to each of {BATCH} in one call"
    yield _Question(what, batches, all_of(nearest), _batch, block=1)


def _within(radius: int) -> Callable[[Peer], Callable[[Codes], Any] | None]:
    return lambda peer: (lambda code: peer.within(code, radius)) if isinstance(peer, Within) else None


def _nearest(k: int) -> Callable[[Peer], Callable[[Codes], Any] | None]:
    return lambda peer: (lambda code: peer.nearest(code, k)) if isinstance(peer, Nearest) else None


def _batch(peer: Peer) -> Callable[[Codes], Any] | None:
    return (lambda codes: peer.batch(codes, BATCH_K)) if isinstance(peer, Batches) else None


# -- answers -------------------------------------------------------------------------------------------------------

_Ratios = tuple[NDArray[np.float64], NDArray[np.float64] | None]
"""At p50 and p99: FAISS Flat's time over the contestant's, and the contestant's over ours."""


def _answers(
    question: _Question, built: Sequence[Peer], seconds: float, seed: int
) -> Iterator[tuple[Contestant, _Ratios]]:
    """How each of `built`, FAISS Flat first and ours second, answered the question."""
    entered = [(peer, question.asker(peer)) for peer in built]
    everyone = {peer: Contestant(peer.name, peer.exact, ask) for peer, ask in entered if ask is not None}
    flat, ours = everyone[built[0]], everyone.get(built[1])
    others = [contestant for contestant in everyone.values() if contestant is not flat]
    race(flat, others, question.asked, question.judge, seconds=seconds, seed=seed, block=question.block)
    for contestant in everyone.values():
        against_ours = None if ours is None or contestant is ours else _ratio(contestant, ours)
        yield contestant, (_ratio(flat, contestant), against_ours)


def _ratio(slower: Contestant, faster: Contestant) -> NDArray[np.float64]:
    """The times of one over those of another at p50 and p99, on the queries that both have answered."""
    both = [place for place in slower.taken if place in faster.taken]
    above, below = (np.percentile(one.micros(both), [50, 99]) for one in (slower, faster))
    return np.asarray(above / below)


def _row(what: str, contestant: Contestant, items: int, bits: int, ratios: _Ratios) -> Row:
    (p50, p99), (flat, ours) = np.percentile(contestant.micros(), [50, 99]).tolist(), ratios
    return Row(
        what=what,
        contestant=contestant.name,
        items=items,
        bits=bits,
        queries=len(contestant.taken),
        p50_us=p50,
        p99_us=p99,
        p50_vs_flat=float(flat[0]),
        p99_vs_flat=float(flat[1]),
        ours_p50=None if ours is None else float(ours[0]),
        ours_p99=None if ours is None else float(ours[1]),
        exact=contestant.exact,
        wrong=contestant.wrong,
        recall=contestant.recall,
    )
