"""Body limits for every route: a size and a time to arrive in.

uvicorn itself waits for a body for ever and takes one of any size. Both refusals are problems, and close the
connection, since what remains of the body is not read. A stream to be ingested is stored while it comes: it may be of
any length, as long as it keeps coming.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator
from functools import partial
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import Stopped, problem
from .settings import Settings
from .stopping import Stopping

STREAMED = "application/x-ndjson"
ARCHIVE = "application/x-tar"
_UNSIZED = {
    "/ingest": (STREAMED, "what was stored of it stays, so where every line has an id, send all of it again"),
    "/snapshots/restore": (ARCHIVE, "nothing of it was restored; send it again"),
}
"""Bodies of these types that are sent there are stored while they come: here they have no size, and the time limit is
between one part and the next."""


class BodyLimits:
    """ASGI middleware that answers 413 beyond `max_body_bytes` and 408 after `body_timeout_s`.

    A stream is also told when the service is about to end: it would use up the time of grace, and may be endless.
    """

    def __init__(self, app: ASGIApp, settings: Settings, stopping: Stopping) -> None:
        self._app = app
        self._stopping = stopping
        self._most = settings.max_body_bytes
        self._timeout = settings.body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = given = encoding = b""
        for name, value in scope["headers"]:
            if name == b"content-length":
                declared = declared or value
            elif name == b"content-type":
                given = given or value  # of several the first counts, here as for whoever reads the body
            elif name == b"content-encoding":
                encoding = value
        rest = _UNSIZED.get(scope["path"], ("", ""))[1]
        streamed = _is_unsized(scope, given)
        if not streamed and declared.isdigit() and int(declared) > self._most:
            await self._too_large(scope, receive, send)
            return
        if encoding and encoding.strip().lower() != b"identity":
            await self._encoded(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        seen = 0
        done = False

        async def limited() -> Message:
            nonlocal seen, done
            if done:  # what comes now is a disconnect, which may take as long as the reply
                return await receive()
            if streamed:
                message = await self._more(receive, rest)
                done = not message.get("more_body", False)
                return message
            message = await _received(receive, deadline)
            done = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise _TooLarge
            return message

        try:
            await self._app(scope, limited, send)
        except _TooLarge:
            await self._too_large(scope, receive, send)
        except ClientDisconnect:
            return  # nobody is left to answer
        except _TooSlow:
            await self._too_slow(scope, receive, send, rest if streamed else None)

    async def _more(self, receive: Receive, rest: str) -> Message:
        """The next part of a stream. Raises `Stopped` where the service is about to end before it comes."""
        try:
            if self._stopping:
                raise TimeoutError
            async with self._stopping.wait_until(asyncio.get_running_loop().time() + self._timeout):
                return await receive()
        except TimeoutError:
            if self._stopping:
                raise Stopped(f"the service is about to end; {rest}, when it is back") from None
            raise _TooSlow from None

    async def _too_slow(self, scope: Scope, receive: Receive, send: Send, rest: str | None) -> None:
        limit = f"{self._timeout:g} s (body_timeout_s)"
        if rest is not None:
            detail = f"nothing more of the stream came for {limit}; {rest}"
        else:
            detail = f"the body had not arrived after {limit}; send less, or faster"
        reply = problem(408, "body-timeout", "The body came too slowly", detail, headers={"connection": "close"})
        await reply(scope, receive, send)

    async def _encoded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A few kilobytes can stand for gigabytes, so nothing compressed is taken."""
        reply = problem(
            415,
            "unsupported-media-type",
            "The body's type is not taken here",
            "the body has a Content-Encoding; send it as it is, without compression",
            headers={"accept-encoding": "identity", "connection": "close"},
        )
        await reply(scope, receive, send)

    async def _too_large(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = problem(
            413,
            "too-large",
            "The request is too large",
            f"the body is larger than the limit of {self._most:,} bytes (max_body_bytes); send it in parts",
            headers={"connection": "close"},
        )
        await reply(scope, receive, send)


async def _received(receive: Receive, deadline: float) -> Message:
    """The next message. Raises `_TooSlow` where it has not come by `deadline`.

    Mostly it is there already: a coroutine that returns at its first step needs no clock, which costs more than all
    the rest.
    """
    coming = receive()
    step = coming.__await__()
    try:
        waits_for = next(step)
    except StopIteration as arrived:
        message: Message = arrived.value
        return message
    try:
        async with asyncio.timeout_at(deadline):
            return await _resumed(step, waits_for)
    except TimeoutError:
        raise _TooSlow from None


@types.coroutine
def _resumed(step: Generator[Any, Any, Message], waits_for: Any) -> Generator[Any, Any, Message]:
    """Await a coroutine that was started by hand and waits for something."""
    while True:
        try:
            got = yield waits_for
        except BaseException as error:  # a cancellation among others: it belongs to whoever is inside
            resume = partial(step.throw, error)
        else:
            resume = partial(step.send, got)
        try:
            waits_for = resume()
        except StopIteration as done:
            message: Message = done.value
            return message


def is_unsized(scope: Scope) -> bool:
    """Whether the body of a request is a stream that is taken in while it comes."""
    return scope["path"] in _UNSIZED and _is_unsized(
        scope, Headers(scope=scope).get("content-type", "").encode("latin-1")
    )


def _is_unsized(scope: Scope, content_type: bytes) -> bool:
    kind = _UNSIZED.get(scope["path"], ("", ""))[0]
    return kind != "" and scope["method"] == "POST" and _bare(content_type.decode("latin-1")) == kind


def media_type(headers: Headers) -> str:
    """The type of the body, without its parameters."""
    return _bare(headers.get("content-type", ""))


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


class _TooLarge(BaseException):
    """Passes through the application to the middleware; no handler of an `Exception` may take it."""


class _TooSlow(BaseException):
    """As `_TooLarge`."""
