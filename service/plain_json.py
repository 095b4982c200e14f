"""JSON bodies that can only be read one way, and only as far as they may be large.

A body of a megabyte can hold a hundred thousand names, each of which becomes objects and, where it is unknown, a fault
to be told: names are counted before anything is parsed. A name that comes twice in one object is refused, since readers
differ on which of the two counts (RFC 8259, 4).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Iterable
from itertools import islice
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import from_json

from .errors import InvalidRequest, TooLarge, short
from .limits import media_type

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?', re.DOTALL)
"""Every string; it is a name where a colon follows."""


class JsonRoute(APIRoute):
    """A route whose JSON body is checked before FastAPI sees it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            kind = media_type(request.headers)
            if self.body_field is None or not (kind == "application/json" or kind.endswith("+json")):
                return await handle(request)
            parsed = _Parsed(request.scope, request.receive)
            if body := await parsed.body():
                parsed.value = parse(body, request.app.state.engine.settings.max_members)
            return await handle(parsed)

        return checked


class _Parsed(Request):
    """A request whose body has been parsed."""

    value: Any = None

    async def json(self) -> Any:
        return self.value


def parse(body: bytes, most: int) -> Any:
    """The JSON value `body`. Raises `TooLarge` beyond `most` names, `InvalidRequest` where it is not plain JSON."""
    check_members(body, most, "max_members")
    try:
        value = from_json(body)
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", [("", "not valid JSON")]) from None
    check_repeats(body, _members(value))
    return value


def check_members(body: bytes, most: int, setting: str) -> None:
    """Raise `TooLarge` where there are more than `most` names in the JSON text `body`."""
    if body.count(b":") <= most:  # one behind each name, and any number inside strings
        return
    names = (string for string in _STRINGS.finditer(body) if string.lastindex)
    if sum(1 for _ in islice(names, most + 1)) > most:
        raise TooLarge(
            f"the body has more than {most:,} names of members ({setting}), those of all objects in it counted; send "
            "it in parts"
        )


def check_repeats(body: bytes, members: int) -> None:
    """Raise `InvalidRequest` where a name comes twice in one object.

    members: how many there are in the parsed body, repeated ones counted once, or fewer. Where there are no more colons
    than that, no name is repeated; else the body is parsed once more to see.
    """
    if body.count(b":") > members:
        json.loads(body, object_pairs_hook=_distinct)


def members_of(value: Any) -> int:
    """How many members a parsed body has that came in JSON."""
    if isinstance(value, BaseModel):
        return len(value.model_fields_set) + sum(members_of(getattr(value, name)) for name in value.model_fields_set)
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return sum(map(members_of, value))
    return _members(value)


def _members(value: Any) -> int:
    """How many members there are in objects of plain JSON; those in a list that begins with a scalar may be missed."""
    count, waiting = 0, [value]
    while waiting:
        at = waiting.pop()
        inner: Iterable[Any] = ()
        if isinstance(at, dict):
            count += len(at)
            inner = at.values()
        elif isinstance(at, list) and at and isinstance(at[0], dict | list):
            inner = at
        waiting += (one for one in inner if isinstance(one, dict | list))
    return count


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidRequest(
                    f"the name {short(name)!r} comes more than once in one object; send it once",
                    [("", f"the name {short(name)!r} is repeated")],
                )
            seen.add(name)
