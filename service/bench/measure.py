"""Contestants timed in turns, query by query, every answer checked against the reference's.

In every round each contestant, in an order drawn anew, answers the same block of queries back to back: what the
machine does meanwhile, it does to all. Each block begins with the last query of the one before, untimed, because
whoever ran just before has emptied the caches. No garbage is collected while the clock runs, and answers are judged
after it has stopped. A contestant that is slow stops early in each round, so that its queries are spread over the
whole run and its time stays near the limit; it answers one a round at least. The reference always answers all.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.bits import Codes, hamming

BLOCK = 64
WARM = 16  # queries before the first round, as far as the time of one round goes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer is worth beside the right one."""

    right: bool  # nothing missing, nothing that does not belong
    recall: float  # the share of the right answer that was found


Judge = Callable[[Codes, Any, Any], Verdict]
"""Of what was asked, the reference's answer and another's."""


@dataclass(slots=True)
class Contestant:
    """Somebody who answers, and how that went."""

    name: str
    exact: bool  # claims that every answer is right
    ask: Callable[[Codes], Any]
    taken: dict[int, int] = field(default_factory=dict)  # nanoseconds by place of the query
    recalls: list[float] = field(default_factory=list)
    wrong: int = 0  # answers that are not right, which nobody is blamed for who does not claim to be exact

    @property
    def recall(self) -> float:
        return float(np.mean(self.recalls))

    def micros(self, places: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Microseconds of its queries, or of those at `places`."""
        return np.array([self.taken[place] for place in (self.taken if places is None else places)]) / 1000


def race(
    reference: Contestant,
    others: Sequence[Contestant],
    asked: Sequence[Codes],
    judge: Judge,
    *,
    seconds: float,
    seed: int,
    block: int = BLOCK,
) -> None:
    """Let all answer `asked` in turns; fills in what `Contestant`s know of themselves afterwards."""
    everyone = [reference, *others]
    starts = range(0, len(asked), block)
    limit = int(1e9 * seconds / len(starts))  # nanoseconds of a contestant in a round
    rng = np.random.default_rng(seed)
    for one in everyone:
        _warm(one, asked[-WARM:], limit)
    for start in starts:
        part = asked[start : start + block]
        answers = {}
        for turn in rng.permutation(len(everyone)):
            one = everyone[turn]
            answers[turn] = _block(one, asked, start, block, None if one is reference else limit)
        for turn, given in answers.items():
            for query, truth, answer in zip(part, answers[0], given, strict=False):
                verdict = judge(query, truth, answer)
                everyone[turn].recalls.append(verdict.recall)
                everyone[turn].wrong += not verdict.right


def _warm(one: Contestant, asked: Sequence[Codes], limit: int) -> None:
    until = perf_counter_ns() + limit
    for query in asked:
        one.ask(query)
        if perf_counter_ns() > until:
            break


def _block(one: Contestant, asked: Sequence[Codes], start: int, block: int, limit: int | None) -> list[Any]:
    """Answers to the first of a block of `asked`, as many as fit into `limit` nanoseconds."""
    ask, answers, spent = one.ask, [], 0
    with _no_garbage():
        if block > 1:
            ask(asked[start - 1])
        for place, query in enumerate(asked[start : start + block], start):
            before = perf_counter_ns()
            answer = ask(query)
            took = perf_counter_ns() - before
            one.taken[place] = took
            answers.append(answer)
            spent += took
            if limit is not None and spent > limit:
                break
    return answers


@contextmanager
def _no_garbage() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def same_ids(_: Codes, truth: Any, answer: Any) -> Verdict:
    """Of a radius search: the same set of ids, each once."""
    expected, found = np.sort(truth), np.sort(np.asarray(answer, np.int64))
    if np.array_equal(expected, found):
        return Verdict(True, 1.0)
    return Verdict(False, len(np.intersect1d(expected, found)) / max(len(expected), 1))


def same_distances(codes: Codes) -> Judge:
    """Of a search for the nearest among `codes`: ids at the same distances, no id twice; ties may be broken anyhow.

    Recall counts every id that is no farther than the last one of the right answer.
    """

    def judge(query: Codes, truth: Any, answer: Any) -> Verdict:
        expected = np.sort(hamming(codes[truth], query))
        ids = np.unique(np.asarray(answer, np.int64))
        ids = ids[(ids >= 0) & (ids < len(codes))]
        found = np.sort(hamming(codes[ids], query))
        right = len(answer) == len(found) and np.array_equal(expected, found)
        return Verdict(right, min(1.0, float((found <= expected[-1]).sum()) / len(expected)))

    return judge


def all_of(judge: Judge) -> Judge:
    """Of a batch: as of its queries one by one."""

    def whole(queries: Codes, truths: Any, answers: Any) -> Verdict:
        if len(answers) != len(truths):
            return Verdict(False, 0.0)
        each = [judge(*one) for one in zip(queries, truths, answers, strict=True)]
        return Verdict(all(one.right for one in each), float(np.mean([one.recall for one in each])))

    return whole
