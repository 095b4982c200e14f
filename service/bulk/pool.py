"""The worker processes, as the process that started them sees them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from .task import Spec, Task, Told

_EACH = 2
"""Tasks that a worker may have: one it is at, and one that it finds when it is done."""
_AHEAD = 3
"""Tasks for each worker that may have been begun and not been taken: what keeps memory flat where one is slow."""
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
"""A process is a thread's worth of work; threads of OpenMP that spin would take the other workers' cores."""

T = TypeVar("T")


class WorkerDied(Exception):
    """A worker process ended before it was told to."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[Any, tuple[int, list[Told]]]
    has: int = 0


class Pool:
    """So many processes that make codes. They start as new programs, never as copies of this one, which has threads."""

    def __init__(self, size: int, spec: Spec) -> None:
        self._workers: list[_Worker] = []
        try:
            for _ in range(size):
                self._workers.append(_started(spec))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, whatever they are at: nothing depends on them."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.connection.close()

    def ordered(self, tasks: Iterable[tuple[T, Task]]) -> Iterator[tuple[T, list[Told]]]:
        """What the workers make of each task, with what stands beside it, in the order of the tasks.

        Tasks are taken as workers get free. Raises `WorkerDied`.
        """
        coming = iter(tasks)
        beside: dict[int, T] = {}
        made: dict[int, list[Told]] = {}
        sent = given = 0
        more = True
        while more or given < sent:
            while more and sent - given < _AHEAD * len(self._workers) and (worker := self._free()) is not None:
                following = next(coming, None)
                if following is None:
                    more = False
                    break
                beside[sent], task = following
                _send(worker, (sent, task))
                worker.has += 1
                sent += 1
            if given in made:
                yield beside.pop(given), made.pop(given)
                given += 1
            elif given < sent:
                made.update(self._received())

    def _free(self) -> _Worker | None:
        worker = min(self._workers, key=lambda one: one.has)
        return worker if worker.has < _EACH else None

    def _received(self) -> Iterator[tuple[int, list[Told]]]:
        """The answers that are there, at least one."""
        ready = set(wait([worker.connection for worker in self._workers]))
        for worker in self._workers:
            if worker.connection in ready:
                try:
                    number, made = worker.connection.recv()
                except (EOFError, OSError):
                    raise _died(worker) from None
                worker.has -= 1
                yield number, made


def _started(spec: Spec) -> _Worker:
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "service.bulk.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT},
            process_group=0,  # a terminal's Ctrl-C is for who started it, and ends it
        )
    worker = _Worker(process, ours)
    _send(worker, spec)
    return worker


def _send(worker: _Worker, message: object) -> None:
    try:
        worker.connection.send(message)
    except OSError:
        raise _died(worker) from None


def _died(worker: _Worker) -> WorkerDied:
    code = worker.process.wait()
    how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"
    return WorkerDied(f"worker process {worker.process.pid} ended with {how}")
