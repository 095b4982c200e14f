"""Routes that take the body as bytes and give the reply as bytes.

They are described in the OpenAPI document as any other, by a function whose types say what goes in and out. Requests go
past FastAPI's own handling, which would look at the body and at the reply a second and a third time: a handler parses
the body itself, with pydantic-core, and an exception that it raises becomes the same problem as everywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from . import errors
from .plain_json import check_members, check_repeats, members_of

Handler = Callable[[Any, bytes], Awaitable[bytes]]
"""From the application's state and a body of JSON to a reply of JSON."""

Body = TypeVar("Body", bound=BaseModel)

_JSON = b"application/json"


class RawRoute(APIRoute):
    """A POST route of JSON, answered by `handler`."""

    def __init__(self, path: str, described_by: Callable[..., Any], handler: Handler, **options: Any) -> None:
        """described_by: its parameters, return type and docstring describe the route; it is never called."""
        super().__init__(path, described_by, methods=["POST"], **options)
        self._handler = handler
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises what the handler raises."""
        body = await _body_of(scope, receive)
        state = scope["app"].state
        check_members(body, state.engine.settings.max_members, "max_members")
        reply = await self._handler(state, body)
        headers = [(b"content-length", b"%d" % len(reply)), (b"content-type", _JSON)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})


class RawRoutes:
    """ASGI middleware that hands requests to raw routes before a router compares their path with every route."""

    def __init__(self, app: ASGIApp, routes: Sequence[RawRoute]) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            await route.answer(scope, receive, send)
        except Exception as error:
            reply = errors.reply_to(error)
            if reply is None:
                raise
            await reply(scope, receive, send)


async def _body_of(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises `RequestValidationError` where it is not said to be JSON, or there is none."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        parts = [body]
        while message.get("more_body", False):
            message = await receive()
            parts.append(message.get("body", b""))
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if not body:
        raise RequestValidationError([{"type": "missing", "loc": ("body",), "msg": "Field required"}])
    if kind != _JSON and not _is_json(kind):
        raise RequestValidationError([{"type": "model_attributes_type", "loc": ("body",), "msg": ""}])
    return body


def _is_json(kind: bytes) -> bool:
    """Whether a content type is JSON's own, or one of those that are written in it (RFC 6839)."""
    main, _, sub = kind.partition(b";")[0].strip().lower().partition(b"/")
    return main == b"application" and (sub == b"json" or sub.endswith(b"+json"))


def parsed(kind: type[Body], body: bytes) -> Body:
    """`body` as `kind`. Raises `RequestValidationError`, and `InvalidRequest` where a name comes twice in it."""
    try:
        value = kind.model_validate_json(body)
    except ValidationError as error:
        raise errors.refused_body(error) from None
    check_repeats(body, members_of(value))
    return value
