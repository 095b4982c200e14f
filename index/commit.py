"""Group commit: writers that wait for the disk at the same time wait for it once.

Each hands in a step of a transaction and is answered when it is durable. The first to find the store free takes along
all that have gathered while the last transaction was being written, so one writer waits for one fsync and a hundred
wait for hardly more. A step that is refused fails alone; where the disk has no room for all, each is tried by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .errors import StoreFull, StoreUnavailable
from .store import Store, faults
from .transaction import Change, Transaction

T = TypeVar("T")


class _Slot(Generic[T]):
    """A step that waits, and what became of it."""

    def __init__(self, step: Callable[[Transaction], T]) -> None:
        self.step = step
        self.woken = threading.Event()
        self.done = False
        self.result: T
        self.error: BaseException | None = None

    def answer(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result


class GroupCommit:
    """The only writer of a store. Safe to use from many threads."""

    def __init__(
        self,
        store: Store,
        publish: Callable[[Change], None],
        observe: Callable[[float, int], None] | None = None,
    ) -> None:
        """publish: called with each change once it is durable and before its writers are answered, one at a time.

        observe: called after that with the seconds that it took and how many steps were in it.
        """
        self._store = store
        self._publish = publish
        self._observe = observe
        self._gathering = threading.Lock()
        self._waiting: list[_Slot[Any]] = []
        self._led = False  # whether somebody writes, or is about to; the others gather meanwhile
        self._unpublished = False  # whether something is on disk that could not be published
        self.writing = threading.Lock()
        """Held while a transaction runs; who holds it sees the store and what was published in step."""

    def run(self, step: Callable[[Transaction], T]) -> T:
        """The result of `step`, when what it did is on disk. What it raises is raised, and then it did nothing."""
        slot = _Slot(step)
        with self._gathering:
            self._waiting.append(slot)
            leads, self._led = not self._led, True
        if not leads:
            slot.woken.wait()
        if not slot.done:
            self._lead()
        return slot.answer()

    def run_holding(self, step: Callable[[Transaction], T]) -> T:
        """As `run`, alone; for a caller who holds `writing`."""
        slot = _Slot(step)
        self._write([slot])
        return slot.answer()

    def _lead(self) -> None:
        """Write what has gathered, wake those it belongs to, and let the next of those who came meanwhile lead."""
        slots: list[_Slot[Any]] = []
        try:
            with self.writing:
                with self._gathering:
                    slots, self._waiting = self._waiting, []
                self._write(slots)
        finally:
            with self._gathering:
                self._led = bool(self._waiting)
                for slot in [*slots, *self._waiting[:1]]:
                    slot.woken.set()

    def _write(self, slots: list[_Slot[Any]]) -> None:
        try:
            if self._unpublished:
                raise StoreUnavailable("an earlier change is on disk, but searches miss it; restart the service")
            started = time.perf_counter()
            with self._store.transaction() as transaction:
                for slot in slots:
                    self._attempt(slot, transaction)
                change = transaction.change if transaction.changes else None
            if change is not None:
                self._unpublished = True
                self._publish(change)
                self._unpublished = False
                if self._observe is not None:
                    self._observe(time.perf_counter() - started, len(slots))
        except StoreFull as error:
            for slot in slots:
                slot.error = error
            if len(slots) > 1:
                for slot in slots:
                    self._write([slot])
        except BaseException as error:
            for slot in slots:
                slot.error = slot.error or error
            if not isinstance(error, Exception):
                raise
        finally:
            for slot in slots:
                slot.done = True

    def _attempt(self, slot: _Slot[Any], transaction: Transaction) -> None:
        slot.error = None
        try:
            with faults(self._store.path), transaction.step():
                slot.result = slot.step(transaction)
        except Exception as error:
            if not transaction.open:  # SQLite gave up all of it, so none of the steps before stands either
                raise
            slot.error = error
