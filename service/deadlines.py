"""A deadline for every request.

What is only read has `request_timeout_s`, what stores, makes or rewrites something `long_request_timeout_s`. A reply
that has begun may take as long as its reader does; a stream that is taken in while it comes, as long as it comes.
Work on a thread cannot be ended from outside: it goes on by itself, and what it does is not undone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio.to_thread
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import Overloaded, TimedOut, reply_to
from .limits import is_unsized
from .settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Deadlines:
    """ASGI middleware that answers 503 where the application has not begun to answer in time."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._short, self._long = settings.request_timeout_s, settings.long_request_timeout_s
        self._left_alone: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_unsized(scope):
            await self._app(scope, receive, send)
            return
        begun = given_up = False

        async def watched(message: Message) -> None:
            nonlocal begun
            if not given_up:
                begun = True
                await send(message)

        only_read = scope["method"] in _READS
        limit = self._short if only_read else self._long
        work: asyncio.Task[None] = asyncio.ensure_future(_run(self._app, scope, receive, watched))
        try:
            await asyncio.wait({work}, timeout=limit)
            if work.done() or begun:
                await work
                return
        except asyncio.CancelledError:
            work.cancel()
            raise
        given_up = True
        self._left_alone.add(work)
        work.add_done_callback(self._ended)
        work.cancel()
        reply = reply_to(TimedOut(_READ.format(limit) if only_read else _CHANGED.format(limit)))
        assert reply is not None
        await reply(scope, receive, send)

    def _ended(self, work: asyncio.Task[None]) -> None:
        """What came of work that nobody waits for."""
        self._left_alone.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            log.error("a request that had run out of time ended with %s: %s", type(error).__name__, error)


_READ = "there was no answer within {:g} s (request_timeout_s); nothing was changed, so it can be asked again"
_CHANGED = (
    "there was no answer within {:g} s (long_request_timeout_s), and whether it is done is unknown; look, or send it "
    "again with the same ids or Idempotency-Key, which does nothing twice"
)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def in_thread(
    timeout_s: float, most_waiting: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The result of `function`, which only reads, run on a worker thread.

    Raises `TimedOut` where it is not there in time, `Overloaded` where `most_waiting` others wait for a thread.
    """
    waiting = anyio.to_thread.current_default_thread_limiter().statistics().tasks_waiting
    if waiting >= most_waiting:
        raise Overloaded(
            f"{waiting} requests wait for a thread, the limit is {most_waiting} (max_search_waiting); try "
            "again in a moment"
        )
    work = asyncio.ensure_future(run_in_threadpool(function, *args, **kwargs))
    try:
        await asyncio.wait({work}, timeout=timeout_s)
    except asyncio.CancelledError:
        work.cancel()
        raise
    if not work.done():
        work.cancel()  # it does not begin if it has not begun; else it ends by itself, and its result is nobody's
        raise TimedOut(_READ.format(timeout_s))
    return work.result()
