"""What every kind of job has: a part in the service and a part in a child process.

The child is told one JSON object, its spec, and says one a line: `{"progress": ...}` as often as it likes, whatever the
service's part understands, and at the end `{"result": ...}` or `{"error": <problem>}`. It has no other way to change a
thing: what lasts is done by the service, which alone owns the data directory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

Lines = Iterator[dict[str, Any]]
"""What the child says."""


class Task:
    """A running job as its work sees it."""

    def __init__(self, id: str, report: Callable[[Mapping[str, Any]], None], ended: Callable[[], bool]) -> None:
        self.id = id
        self._report = report
        self._ended = ended

    def progress(self, progress: Mapping[str, Any]) -> None:
        """Show how far it is."""
        self._report(progress)

    def go_on(self) -> None:
        """Raise `JobEnded` where the job was cancelled or the service stops: look before what cannot be undone."""
        if self._ended():
            raise JobEnded


class JobEnded(BaseException):
    """The job was cancelled, or the service stops; no handler of an `Exception` may take it."""


class Work(ABC):
    """One job, in the service. Its methods are called on the job's own thread, one after another.

    What they raise fails the job with that problem; an attribute `result` of the error becomes the job's result.
    """

    kind: ClassVar[str]

    @cached_property
    def _held(self) -> ExitStack:
        return ExitStack()

    def hold(self, lent: AbstractContextManager[T]) -> T:
        """What `lent` gives, until the job has ended."""
        return self._held.enter_context(lent)

    def release(self) -> None:
        """Give back what is held; called when the job has ended, however it did."""
        self._held.close()

    @property
    @abstractmethod
    def subject(self) -> Mapping[str, str]:
        """What it is about, by the names of the request: `collection`, `model`, whatever tells it from others."""

    @abstractmethod
    def spec(self) -> Mapping[str, Any]:
        """What the child is told, as JSON; asked for when the job's turn comes."""

    def take(self, line: Mapping[str, Any], task: Task) -> None:
        """A line of the child that is neither progress nor its end."""
        raise ValueError(f"a {self.kind} job does not know the line {', '.join(line)[:100]}")

    @abstractmethod
    def finish(self, result: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
        """Make the child's result last; returns the job's."""

    @abstractmethod
    def discard(self) -> None:
        """Leave nothing of a job that did not succeed, however far it came."""
