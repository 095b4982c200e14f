"""/collections/{collection}/duplicates and the groups that its jobs find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import IO, Annotated, Any

from fastapi import APIRouter, Body, Query
from fastapi.responses import StreamingResponse

from ..dependencies import EngineDep, RunnerDep
from ..errors import InvalidRequest, pointer
from ..limits import STREAMED
from ..plain_json import JsonRoute
from ..schemas import Job
from ..schemas.duplicates import DuplicatesRequest
from ..work.duplicates import Duplicates, open_groups

router = APIRouter(route_class=JsonRoute)


@router.post("/collections/{collection}/duplicates", status_code=202, tags=["collections"])
def duplicates(
    collection: str,
    body: Annotated[DuplicatesRequest, Body(examples=[{"radius": 3}])],
    engine: EngineDep,
    runner: RunnerDep,
) -> Job:
    """Find all groups of items within a radius of one another, exactly, in the background.

    An item belongs to a group if it is within the radius of any of it, so the ends of a chain may lie further apart.
    The result has `pairs`, `groups_total`, `items_in_groups`, `largest`, and `groups`: the largest first, each with its
    `size` and its `ids`, the item stored first in front; `complete` is false where `max_groups`, or the 10,000 ids that
    a result lists, left some out. All of them are at `GET /jobs/{id}/groups`. The job looks at one state of the
    collection; what was changed or deleted before it ended is left out.
    """
    found = engine.catalogue.get(collection)
    if body.radius > found.bits:
        raise InvalidRequest(
            f"radius is 0 to {found.bits}, the width of the codes; got {body.radius}",
            [(pointer("radius"), f"at most {found.bits}")],
        )
    if body.max_groups > engine.settings.max_groups:
        raise InvalidRequest(
            f"max_groups is at most {engine.settings.max_groups} (max_groups); got {body.max_groups}. For all groups, "
            "read GET /jobs/{id}/groups",
            [(pointer("max_groups"), f"at most {engine.settings.max_groups}")],
        )
    return Job(**runner.submit(Duplicates(engine, found.name, body.radius, body.max_groups)))


_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            STREAMED: {
                "schema": {"type": "string", "description": "one group a line"},
                "example": '{"ids": ["a1", "b7", "c3"], "size": 3}\n{"ids": ["a2", "b9"], "size": 2}\n',
            }
        }
    }
}


@router.get("/jobs/{id}/groups", tags=["jobs"], response_class=StreamingResponse, responses=_LINES)
def groups(
    id: str,
    engine: EngineDep,
    runner: RunnerDep,
    start: Annotated[int, Query(ge=0, description="groups to pass over, as after a broken download")] = 0,
    limit: Annotated[int | None, Query(ge=1, description="at most so many; all when absent")] = None,
) -> StreamingResponse:
    """All groups that a duplicates job found, one a line, the largest first; kept until the next such job of the same
    collection, or until that is deleted."""
    file = open_groups(engine, runner.store.get(id))
    return StreamingResponse(_lines(file, start, limit), media_type=STREAMED)


def _lines(file: IO[bytes], start: int, limit: int | None) -> Iterator[bytes]:
    with closing(file):
        waiting: list[bytes] = []
        size = 0
        for line in islice(file, start, None if limit is None else start + limit):
            waiting.append(line)
            size += len(line)
            if size >= 1 << 16:  # a reply in parts of one line each would take ten times as long
                yield b"".join(waiting)
                waiting, size = [], 0
        yield b"".join(waiting)
