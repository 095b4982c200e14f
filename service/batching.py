"""Encoding in batches: one queue and one thread for each model.

Whatever has queued while the last batch ran goes next, and where nothing runs nothing waits. Many items of one request
come in slices that take turns with the items of searches, so nobody stands behind an ingest of thousands. What fails
as a whole is halved until the bad items stand alone; the others get their answers. A model that hangs costs its
requests their deadline and the queue one thread, which is replaced.

The code of an item is the same alone as in any batch (see `Model.logits`). Its logits may differ in the last digit, and
where they are wanted themselves the item is encoded `alone`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.base import Model
from models.errors import InvalidInput

from .errors import Overloaded, TimedOut

log = logging.getLogger(__name__)

MOST_ITEMS = 256
"""Items of one batch: beyond it a batch takes longer, and an item of it no less."""
MOST_NUMBERS = 1 << 22
"""Numbers in the inputs of one batch: 16 MB as float32."""
SLICE_S = 0.1
"""A slice of a large request has so many items as take about so long; a search waits for one slice at most."""
IDLE_S = 60.0
"""A thread that has had nothing to do for so long ends."""
QUICK_NUMBERS = 2_000_000
"""Numbers in a model that encodes an item on the event loop: some tens of microseconds to read them once."""
MOST_STUCK = 3
"""Threads that may hang in one model before it is given nothing more until one of them comes back."""

Row = NDArray[np.float32]
Told = Row | Exception
"""What comes of an item: its logits `(bits,)`, or why it has none."""


class Timings(Protocol):
    """Where the times of a queue are noted; seconds."""

    def encoded(self, name: str, items: int, queued: Sequence[float], took: float) -> None:
        """A batch of `items` was encoded by `name` in `took`, after each request had waited as `queued` says."""


@dataclass(slots=True, eq=False)
class _Wish:
    """Items that somebody waits for."""

    items: Sequence[Any]
    alone: bool
    deliver: Callable[[], None]
    since: float = field(default_factory=time.monotonic)
    told: list[Told] | None = None  # set once, before it is delivered


@dataclass(slots=True, eq=False)
class _Worker:
    """The thread of a queue, and what it is at."""

    batch: list[_Wish] = field(default_factory=list)
    since: float = 0.0
    given_up: bool = False


class Canary(NamedTuple):
    """What came of encoding an example: what is wrong, and whether it is that nothing came."""

    fault: str | None
    hangs: bool


class Encoder:
    """The queue of one model. Safe to use from many threads and event loops."""

    def __init__(self, model: Model, name: str, *, most_waiting: int, timeout_s: float, timings: Timings) -> None:
        """name: of the model, for messages. most_waiting: searches in the queue. timeout_s: for each answer."""
        self._model, self._name, self._timings = model, name, timings
        self._most_waiting, self._timeout_s = most_waiting, timeout_s
        self._lock = threading.Condition()
        self._single: deque[_Wish] = deque()
        self._slices: deque[_Wish] = deque()
        self._slice_next = False
        self._worker: _Worker | None = None
        self._stuck = 0
        self._item_s = SLICE_S / 16  # for an item, by the last batches
        numbers = sum(part.numel() for part in model.state_dict().values())
        small = numbers <= QUICK_NUMBERS and model.device.type == "cpu"
        self.quick = small and model.encodes_at_once and model.input.at_once
        """Whether an item alone takes so little, and so surely, that `at_once` may be asked for it."""
        self._canary_lock = threading.Lock()
        self._canary: tuple[float, Canary] = (-1e9, Canary(None, False))
        self._closed = False

    # -- asking ------------------------------------------------------------------------------------------------

    async def logits(self, item: Any, *, alone: bool = False) -> Row:
        """The logits `(bits,)` of an item, for code on an event loop.

        Raises what the model raises for it, `Overloaded` where too many wait, `TimedOut`.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def deliver() -> None:
            loop.call_soon_threadsafe(_settle, done)

        wish = _Wish([item], alone, deliver)
        self._ask(wish, self._single)
        try:
            async with asyncio.timeout(self._timeout_s):
                await done
        except TimeoutError:
            self._late(wish)
        except BaseException:
            self._forget(wish)  # nobody waits for it any more
            raise
        return self._only(wish)

    def at_once(self, item: Any) -> Row:
        """The same on the event loop itself, which costs less than to hand it to a thread. Only for a `quick` one."""
        started = time.monotonic()
        told = self._checked([item])[0]
        self._timings.encoded(self._name, 1, [0.0], time.monotonic() - started)
        if isinstance(told, Exception):
            raise told
        return told

    def logits_now(self, item: Any, *, alone: bool = False) -> Row:
        """The same for code on a thread of its own."""
        return self._only(self._waited([item], self._single, alone=alone))

    def each(self, items: Sequence[Any]) -> list[Told]:
        """What comes of each of many items, for code on a thread of its own. Raises `TimedOut`."""
        found: list[Told] = []
        while len(found) < len(items):
            size = self._slice_size()
            wish = self._waited(items[len(found) : len(found) + size], self._slices)
            assert wish.told is not None
            found += wish.told
        return found

    def canary(self, timeout_s: float) -> Canary:
        """How the model does with an example that goes through this queue as any other item.

        Tried once a second at most; those who ask meanwhile share the answer.
        """
        with self._canary_lock:
            asked, found = self._canary
            if time.monotonic() - asked >= 1:
                self._canary = time.monotonic(), (found := self._tried(timeout_s))
            return found

    def _tried(self, timeout_s: float) -> Canary:
        try:
            self._only(self._waited([self._model.input.example()], self._single, timeout_s=timeout_s))
        except Overloaded:
            return Canary(None, False)  # busy, and well
        except TimedOut:
            return Canary(f"model {self._name} hangs: it did not encode an example within {timeout_s:g} s", True)
        except Exception as error:  # whatever is wrong with the model: it is told, and nothing else depends on it
            return Canary(f"model {self._name} cannot encode an example: {error}", False)
        return Canary(None, False)

    def close(self) -> None:
        """Let the thread end once it has nothing to do."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _waited(
        self, items: Sequence[Any], queue: deque[_Wish], *, alone: bool = False, timeout_s: float | None = None
    ) -> _Wish:
        done = threading.Event()
        wish = _Wish(items, alone, done.set)
        self._ask(wish, queue)
        if not done.wait(self._timeout_s if timeout_s is None else timeout_s):
            self._late(wish, timeout_s)
        return wish

    def _only(self, wish: _Wish) -> Row:
        assert wish.told is not None
        told = wish.told[0]
        if isinstance(told, Exception):
            raise told
        return told

    def _ask(self, wish: _Wish, queue: deque[_Wish]) -> None:
        with self._lock:
            if self._stuck >= MOST_STUCK:
                raise TimedOut(
                    f"model {self._name} hangs ({self._stuck} calls of it have not come back); try again later"
                )
            # Slices are as many as there are threads that wait for them, which is a limit of its own.
            if queue is self._single and len(queue) >= self._most_waiting:
                raise Overloaded(
                    f"{len(queue)} items wait to be encoded by {self._name}, the limit is {self._most_waiting} "
                    "(max_encode_waiting); try again in a moment"
                )
            queue.append(wish)
            if self._worker is None:
                self._start()
            else:
                self._lock.notify()

    def _start(self) -> None:
        """A new thread. The caller holds the lock."""
        self._worker = _Worker()
        thread = threading.Thread(target=self._work, args=(self._worker,), name=f"encode-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._worker = None
            self._single.clear()
            self._slices.clear()
            raise Overloaded(f"no thread could be started to encode with {self._name}: {error}") from None

    def _forget(self, wish: _Wish) -> None:
        with self._lock:
            for queue in (self._single, self._slices):
                if wish in queue:
                    queue.remove(wish)

    def _late(self, wish: _Wish, timeout_s: float | None = None) -> None:
        """Raise `TimedOut`, unless the answer has come by now; a thread that has hung all the time is replaced."""
        self._forget(wish)
        limit = self._timeout_s if timeout_s is None else timeout_s
        with self._lock:
            if wish.told is not None:
                return
            worker = self._worker
            if worker is not None and worker.batch and time.monotonic() - worker.since >= 0.9 * limit:
                worker.given_up = True
                self._stuck += 1
                log.error("model %s hangs: a batch of %d has run for %.1f s", self._name, len(worker.batch), limit)
                self._worker = None
                if self._single or self._slices:
                    self._start()
        raise TimedOut(
            f"model {self._name} did not encode this within {limit:g} s (request_timeout_s); nothing was changed by "
            "it, so it can be sent again"
        )

    # -- encoding ----------------------------------------------------------------------------------------------

    def _slice_size(self) -> int:
        by_size = MOST_NUMBERS // max(1, self._model.input.size)
        return max(1, min(MOST_ITEMS, by_size, int(SLICE_S / max(self._item_s, 1e-9))))

    def _work(self, me: _Worker) -> None:
        try:
            self._go_on(me)
        finally:
            with self._lock:  # whatever ended it: what still waits, and what comes, finds a thread
                if self._worker is me:
                    self._worker = None
                    if self._single or self._slices:
                        self._start()

    def _go_on(self, me: _Worker) -> None:
        while True:
            with self._lock:
                while not (self._single or self._slices):
                    if self._closed or not self._lock.wait(IDLE_S):
                        return
                me.batch, me.since = self._next(), time.monotonic()
            told = self._told([item for wish in me.batch for item in wish.items])
            took = time.monotonic() - me.since
            with self._lock:
                batch, me.batch = me.batch, []
                if me.given_up:  # those who waited have been told, and another thread goes on
                    self._stuck -= 1
                    return
                if len(told) > 1 or took > SLICE_S:  # of one item alone the call itself is most
                    self._item_s += 0.3 * (took / len(told) - self._item_s)
                at = 0
                for wish in batch:
                    wish.told = told[at : at + len(wish.items)]
                    at += len(wish.items)
            for wish in batch:
                try:
                    wish.deliver()
                except RuntimeError:  # its event loop is closed: nobody waits
                    continue
            self._timings.encoded(self._name, len(told), [me.since - wish.since for wish in batch], took)

    def _next(self) -> list[_Wish]:
        """The next batch: a slice, or as many items of searches as go together, in turns. The caller holds the lock."""
        if self._slices and (self._slice_next or not self._single):
            self._slice_next = False
            return [self._slices.popleft()]
        self._slice_next = True
        batch = [self._single.popleft()]
        most = max(1, min(MOST_ITEMS, MOST_NUMBERS // max(1, self._model.input.size)))
        while not batch[0].alone and self._single and len(batch) < most and not self._single[0].alone:
            batch.append(self._single.popleft())
        return batch

    def _told(self, items: Sequence[Any]) -> list[Told]:
        """What comes of each item. Never raises: whatever happens in a model happens to an item."""
        told: list[Told] = [_UNTOLD] * len(items)
        parts = [range(len(items))]
        while parts:
            part = parts.pop()
            try:
                told[part.start : part.stop] = self._checked(items[part.start : part.stop])
            except Exception as error:
                if len(part) == 1:
                    told[part.start] = error
                else:
                    middle = len(part) // 2
                    parts += [part[:middle], part[middle:]]
        return told

    def _checked(self, items: Sequence[Any]) -> list[Told]:
        logits = self._model.logits(items)
        if logits.shape != (len(items), self._model.bits):
            raise ValueError(
                f"{self._name} gave logits {logits.shape} for {len(items)} items of {self._model.bits} bits"
            )
        finite: list[bool] = np.isfinite(logits).all(axis=1).tolist()  # type: ignore[assignment]
        return [
            row if good else InvalidInput("the model gives no finite logits for this item, so it has no code")
            for row, good in zip(logits, finite, strict=True)
        ]


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


_UNTOLD: Told = RuntimeError("this item was not encoded")


class Encoders:
    """The queues of all models that are in use. Safe to use from many threads."""

    def __init__(self, name_of: Callable[[Model], str], *, most_waiting: int, timeout_s: float) -> None:
        """name_of: how messages call a model. The rest as for `Encoder`."""
        self._name_of, self._most_waiting, self._timeout_s = name_of, most_waiting, timeout_s
        self._lock = threading.Lock()
        self._found: dict[Model, Encoder] = {}
        self.timings: Timings | None = None
        """Where times are noted, once that is known."""

    def of(self, model: Model) -> Encoder:
        """The queue of a loaded model."""
        found = self._found.get(model)
        if found is None:
            with self._lock:
                found = self._found.get(model)
                if found is None:
                    name = self._name_of(model)
                    found = self._found[model] = Encoder(
                        model, name, most_waiting=self._most_waiting, timeout_s=self._timeout_s, timings=self
                    )
        return found

    def encoded(self, name: str, items: int, queued: Sequence[float], took: float) -> None:
        if self.timings is not None:
            self.timings.encoded(name, items, queued, took)

    def all(self) -> list[Encoder]:
        with self._lock:
            return list(self._found.values())

    def keep_only(self, models: Collection[Model]) -> None:
        """Let go of all other models."""
        with self._lock:
            for model in [model for model in self._found if model not in models]:
                self._found.pop(model).close()

    def close(self) -> None:
        """Let all threads end."""
        self.keep_only(())
