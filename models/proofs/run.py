"""Run proofs side by side, each with each seed in a process of its own, one thread each."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import torch

from ..data import load
from .base import PROOFS, Finding


@dataclass(frozen=True)
class Outcome:
    """What one proof found with one seed, or the error that ended it; `seconds` are of one core's time."""

    name: str
    seed: int
    findings: Sequence[Finding]
    seconds: float
    error: str | None = None


def run(names: Sequence[str], sources: Mapping[str, str], seeds: int, jobs: int) -> Iterator[Outcome]:
    """The outcomes of `names` with seeds 0, 1, ... as they come, at most `jobs` at a time.

    sources: for each need ("images", "texts", "sounds") the data set, as `data.load` takes it.
    The longest go first, so that the last one to end does not keep the others waiting.
    """
    order = sorted(names, key=lambda name: -PROOFS[name].seconds)
    context = multiprocessing.get_context("spawn")  # a fork would inherit OpenMP's threads
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1, initializer=_deaf) as pool:
        try:
            waiting = [
                pool.submit(_one, name, sources.get(PROOFS[name].needs), seed)
                for name in order
                for seed in range(seeds)
            ]
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:  # Ctrl-C, or nobody wants the rest: nothing goes on in the background
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _deaf() -> None:
    """Ctrl-C reaches every process of a terminal; the one that was started by the user sees to the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _one(name: str, source: str | None, seed: int) -> Outcome:
    torch.set_num_threads(1)
    started = time.process_time()
    found: list[Finding] = []
    try:
        found.extend(PROOFS[name].run(None if source is None else load(source), seed))
        error = None
    except Exception as caught:  # one proof that breaks must not take the hour of all the others with it
        error = f"{type(caught).__name__}: {caught}"
    return Outcome(name, seed, found, time.process_time() - started, error)
