"""Ingest of a stream: one item a line, any number of lines, stored as they come.

Lines are committed in batches, each of them on disk before the next is read. A stream is therefore not one transaction:
where a line is refused, the lines before its batch stay stored and the reply says how many. A line with an id can be
sent again without harm, so the way out is always to send the whole stream again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from typing_extensions import TypedDict

from index import PutResult, new_id
from index.errors import HammingIndexError

from . import ingest as ingesting
from .engine import Engine
from .errors import InvalidRequest, TooLarge, plainly, pointer
from .schemas import MOST, IngestItem, IngestReply, ItemError, ModelInfo

BATCH_LINES = 5_000
"""Lines of one commit: at this size the disk is waited for a tenth of the time."""
BATCH_BYTES = 8 << 20
"""A batch of long lines is cut earlier: with images, a few hundred of them."""


class _CodeLine(TypedDict, total=False):
    """The line that most streams consist of: it takes a path that makes no object of it."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # type: ignore[misc]

    id: str
    code: str


_CODE_LINE = TypeAdapter(_CodeLine)


class LineIngest:
    """The state of one stream."""

    def __init__(self, engine: Engine, collection: str, model: str | None, *, skip_bad: bool) -> None:
        self._engine, self._collection, self._model, self._skip_bad = engine, collection, model, skip_bad
        self._started = time.perf_counter()
        self._lines = 0
        self._created = self._updated = self._unchanged = 0
        self._ids: list[str] | None = []
        self._errors: list[ItemError] = []
        self._made_by: ModelInfo | None = None
        self._there = False  # once the collection is known to exist and to be of the model

    async def run(self, chunks: AsyncIterator[bytes]) -> IngestReply:
        """Store every line of the body. Raises as `ingest` does, naming the line."""
        waiting: list[bytes] = []
        rest, size = b"", 0
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > self._engine.settings.max_body_bytes:
                raise TooLarge(
                    f"line {self._lines + len(waiting) + 1} is longer than {self._engine.settings.max_body_bytes:,} "
                    f"bytes (max_body_bytes); {self._so_far()}"
                )
            waiting += lines
            size += len(chunk)
            if len(waiting) >= BATCH_LINES or size >= BATCH_BYTES:
                await run_in_threadpool(self._store, waiting)
                waiting, size = [], 0
        await run_in_threadpool(self._store, [*waiting, rest] if rest else waiting)
        if self._lines == 0:
            raise InvalidRequest("the stream has no line; send one item a line, each a JSON object")
        return self._reply()

    def _store(self, lines: list[bytes]) -> None:
        """Commit a batch. Empty lines count, so that a line keeps its number, and are passed over."""
        for start in range(0, len(lines), BATCH_LINES):
            part = lines[start : start + BATCH_LINES]
            if not (self._there and self._store_codes(part)):
                self._store_items(part)
            self._lines += len(part)

    def _store_codes(self, lines: list[bytes]) -> bool:
        """Commit lines that are ids and codes; False, and nothing done, where one is anything else."""
        collection = self._engine.catalogue.get(self._collection)
        size = collection.bits // 8
        try:
            parsed = [_CODE_LINE.validate_json(line) for line in lines]
            codes = [line["code"] for line in parsed]
            data = bytes.fromhex("".join(codes))
        except (ValidationError, KeyError, ValueError):
            return False
        if len(data) != size * len(codes) or any(len(code) != 2 * size for code in codes):
            return False
        ids = [line["id"] if "id" in line else new_id() for line in parsed]
        try:
            result = collection.put_codes(ids, np.frombuffer(data, np.uint8).reshape(len(codes), size))
        except HammingIndexError as error:
            if getattr(error, "position", None) is None:
                raise
            return False  # an id that cannot be: the other path names its line
        self._count(result, ids)
        return True

    def _store_items(self, lines: list[bytes]) -> None:
        """Commit any lines."""
        items: list[IngestItem] = []
        places: list[int] = []
        for place, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                items.append(IngestItem.model_validate_json(line))
                places.append(place)
            except ValidationError as error:
                faults = error.errors(include_url=False, include_input=False, include_context=False)
                self._bad(place, None, plainly(faults)[0])
        for start in range(0, len(items), self._engine.settings.max_items):
            part = items[start : start + self._engine.settings.max_items]
            reply = ingesting.ingest(self._engine, self._collection, self._model, part, skip_bad=True)
            self._made_by, self._there = reply.model, True
            self._count(PutResult(reply.created, reply.updated, reply.unchanged), reply.ids or [])
            for fault in reply.errors or ():
                self._bad(places[start + fault.position], fault.id, fault.detail)

    def _count(self, result: PutResult, ids: list[str]) -> None:
        self._created += result.created
        self._updated += result.updated
        self._unchanged += result.unchanged
        if self._ids is not None:
            self._ids = self._ids + ids if len(self._ids) + len(ids) <= MOST else None

    def _bad(self, place: int, id: str | None, detail: str) -> None:
        line = self._lines + place + 1
        if not self._skip_bad:
            raise InvalidRequest(f"line {line}: {detail}. {self._so_far()}", [(pointer(line - 1), detail)])
        if len(self._errors) >= MOST:
            raise InvalidRequest(f"line {line}: more than {MOST:,} lines are bad. {self._so_far()}")
        self._errors.append(ItemError(position=line - 1, id=id, detail=detail))

    def _so_far(self) -> str:
        stored = self._created + self._updated + self._unchanged
        return (
            f"{stored:,} items of the stream are stored and stay; mend it and send all of it again: what has an id is "
            "stored once"
        )

    def _reply(self) -> IngestReply:
        return IngestReply(
            collection=self._collection,
            model=self._made_by,
            created=self._created,
            updated=self._updated,
            unchanged=self._unchanged,
            ids=self._ids,
            errors=self._errors if self._skip_bad else None,
            took_ms=round((time.perf_counter() - self._started) * 1000, 3),
        )
