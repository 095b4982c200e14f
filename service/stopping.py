"""The word that the service is about to end, for those who would otherwise wait for something that need not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Stopping:
    """False, until the service is told to stop."""

    def __init__(self) -> None:
        self._begun = False
        self._waits: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}

    def __bool__(self) -> bool:
        return self._begun

    def begin(self) -> None:
        """Say so. May be called from a signal handler and from any thread, and more than once."""
        self._begun = True
        for wait, loop in list(self._waits.items()):
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                loop.call_soon_threadsafe(self._end, wait)

    def _end(self, wait: asyncio.Timeout) -> None:
        if wait in self._waits and not wait.expired():
            wait.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def wait_until(self, deadline: float) -> AsyncIterator[None]:
        """A block that ends by `TimeoutError` at `deadline` (of the loop's clock), or before where this begins."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(deadline) as wait:
            self._waits[wait] = loop
            try:
                if self._begun:
                    wait.reschedule(loop.time())
                yield
            finally:
                del self._waits[wait]
