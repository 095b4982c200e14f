"""Ingest of a stream: one item a line, any number of lines, stored as they come.

Lines are committed in batches, each of them on disk before the next is read. A stream is therefore not one transaction:
where a line is refused, what came before it is stored, nothing from it on, and the reply says how much that is. A line
with an id can be sent again without harm, so the way out is always to send the whole stream again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from typing_extensions import TypedDict

from index import Collection, PutResult, Screen, new_id
from index.errors import HammingIndexError, UnknownCollection
from models.errors import ModelsError

from . import ingest as ingesting
from .codecs import share_of_request
from .engine import Engine
from .errors import InvalidRequest, NoRoom, Stopped, TooLarge, faults_of, plainly, pointer, short
from .plain_json import check_members, check_repeats, members_of
from .schemas import MOST, DuplicateItem, IngestItem, IngestReply, ItemError, ModelInfo
from .twofold import again

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs put before UTF-8. RFC 8259 lets a reader pass over it, at the very beginning and nowhere else."""
BATCH_LINES = 5_000
"""Lines of one commit: at this size the disk is waited for a tenth of the time."""
BATCH_BYTES = 8 << 20
"""A batch of long lines is cut earlier: with images, a few hundred of them."""
BATCH_S = 1.0
"""What comes slowly is committed with the first part that comes so long after it."""
_FIRST_ITEMS = 20
"""Items of a call that may make the collection: where all of them are bad it is refused, and that lists so many."""


class _CodeLine(TypedDict, total=False):
    """The line that most streams consist of: it takes a path that makes no object of it."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # type: ignore[misc]

    id: str
    code: str


_CODE_LINE = TypeAdapter(_CodeLine).validator


class LineIngest:
    """The state of one stream."""

    def __init__(
        self, engine: Engine, collection: str, model: str | None, *, skip_bad: bool, screen: Screen | None = None
    ) -> None:
        self._engine, self._collection, self._model = engine, collection, model
        self._skip_bad, self._screen = skip_bad, screen
        self._started = time.perf_counter()
        self._lines = 0
        self._created = self._updated = self._unchanged = 0
        self._ids: list[str] | None = []
        self._errors: list[ItemError] = []
        self._duplicates: list[DuplicateItem] = []
        self._duplicates_total = 0
        self._made_by: ModelInfo | None = None
        self._into: Collection | None = None  # while it is None, the model is to make it

    async def run(self, chunks: AsyncIterator[bytes]) -> IngestReply:
        """Store every line of the body. Raises as `ingest` does, naming the line."""
        await run_in_threadpool(self._open)
        try:
            await self._take(chunks)
        except (HammingIndexError, ModelsError, NoRoom) as error:
            if self._stored:
                error.args = (f"{error}; {self._so_far()}. Send all of the stream again",)
            raise
        if not (self._stored or self._errors or self._duplicates):
            raise InvalidRequest("the stream has no line; send one item a line, each a JSON object")
        if self._into is None:
            first = self._sorted_errors()[0]
            raise InvalidRequest(
                f"line {first.position + 1}: {first.detail}. No line can be stored, so there is no new collection",
                [(pointer(first.position), first.detail)],
            )
        return self._reply()

    def _open(self) -> None:
        """Find the collection, or the model that is to make it."""
        entry = None if self._model is None else self._engine.registry.get(self._model)
        try:
            self._into = self._engine.catalogue.get(self._collection)
        except UnknownCollection:
            if entry is None:
                raise UnknownCollection(
                    f"there is no collection {short(self._collection)!r}; name a model to create it: "
                    "/ingest?collection=...&model=..."
                ) from None
            return
        self._into.check_fingerprint(entry.fingerprint if entry else None)
        if self._into.config.model is not None:
            entry, _ = self._engine.model_of(self._into)
            self._made_by = ModelInfo(name=entry.name, version=entry.version, fingerprint=entry.fingerprint)

    async def _take(self, chunks: AsyncIterator[bytes]) -> None:
        most = self._engine.settings.max_body_bytes
        waiting: list[bytes] = []
        rest, size, since = bytearray(), 0, time.monotonic()
        async for chunk in self._until_stopped(chunks, waiting):
            end, *lines = chunk.split(b"\n")
            rest += end
            if lines:
                lines = [bytes(rest), *lines]
                rest = bytearray(lines.pop())
            if max(map(len, lines), default=0) > most or len(rest) > most:
                whole = next((place for place, line in enumerate(lines) if len(line) > most), len(lines))
                await run_in_threadpool(self._store, waiting + lines[:whole])
                detail = f"longer than {most:,} bytes (max_body_bytes)"
                raise TooLarge(
                    f"line {self._lines + 1} is {detail}; {self._so_far()}", [(pointer(self._lines), detail)]
                )
            if not waiting:
                since = time.monotonic()
            waiting += lines
            size += len(chunk)
            if len(waiting) >= BATCH_LINES or size >= BATCH_BYTES or time.monotonic() - since >= BATCH_S:
                await run_in_threadpool(self._store, waiting)
                waiting.clear()
                size = 0
        await run_in_threadpool(self._store, [*waiting, bytes(rest)] if rest else waiting)

    async def _until_stopped(self, chunks: AsyncIterator[bytes], waiting: list[bytes]) -> AsyncIterator[bytes]:
        """The chunks. Where the service is about to end, whole lines that wait are stored, and it is said how far."""
        try:
            async for chunk in chunks:
                yield chunk
        except Stopped:
            await run_in_threadpool(self._store, waiting)
            raise Stopped(
                f"the service is about to end: it took {self._lines:,} lines; {self._so_far()}. When it is back, send "
                "the rest, or where every line has an id all of it again"
            ) from None

    def _store(self, lines: list[bytes]) -> None:
        """Commit a batch. Empty lines count, so that a line keeps its number, and are passed over. Raises `NoRoom`."""
        for start in range(0, len(lines), BATCH_LINES):
            self._engine.check_room()
            part = lines[start : start + BATCH_LINES]
            if self._lines == 0 and part:
                part[0] = part[0].removeprefix(BYTE_ORDER_MARK)
            if not self._store_codes(part):
                self._store_items(part)
            self._lines += len(part)

    def _store_codes(self, lines: list[bytes]) -> bool:
        """Commit lines that are ids and codes; False, and nothing done, where one is anything else."""
        collection = self._into
        if collection is None or self._screen is not None:
            return False
        size = collection.bits // 8
        try:
            parsed = [_CODE_LINE.validate_json(line) for line in lines]
            codes = [line["code"] for line in parsed]
            for line, found in zip(lines, parsed, strict=True):
                check_repeats(line, len(found))
            data = bytes.fromhex("".join(codes))
        except (ValidationError, KeyError, ValueError, InvalidRequest):
            return False
        if len(data) != size * len(codes) or any(len(code) != 2 * size for code in codes):
            return False
        ids = [line["id"] if "id" in line else new_id() for line in parsed]
        try:
            array = np.frombuffer(data, np.uint8).reshape(len(codes), size)
            result = again(lambda: collection.put_codes(ids, array))
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
        refused: tuple[int, str] | None = None
        for place, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                check_members(line, self._engine.settings.max_members, "max_members")
                item = IngestItem.model_validate_json(line)
                check_repeats(line, members_of(item))
                items.append(item)
                places.append(place)
            except (ValidationError, TooLarge, InvalidRequest) as error:
                detail = _fault(error) if isinstance(error, ValidationError) else str(error)
                if not self._skip_bad:
                    refused = place, detail
                    break  # what came before it is stored first
                self._bad(place, None, detail)
        for part in self._requests(items):
            self._ingest(items[part], places[part])
        if refused is not None:
            self._bad(refused[0], None, refused[1])

    def _requests(self, items: Sequence[IngestItem]) -> Iterator[slice]:
        """The items in parts that have no more items, pixels and seconds than one request may."""
        settings = self._engine.settings
        start, held = 0, 0.0
        for place, item in enumerate(items):
            more = share_of_request(item, settings)
            most = settings.max_items if self._into is not None else min(settings.max_items, _FIRST_ITEMS)
            if place - start >= most or (place > start and held + more > 1):
                yield slice(start, place)
                start, held = place, 0.0
            held += more
        if items:
            yield slice(start, len(items))

    def _ingest(self, items: Sequence[IngestItem], places: Sequence[int]) -> None:
        """Commit items, which stand at `places` of the batch, or all before the first that is bad."""
        if self._into is not None and self._engine.catalogue.get(self._collection) is not self._into:
            raise UnknownCollection(f"collection {self._collection!r} was deleted while the stream ran")
        model = self._model if self._into is None else None  # no later part may make the collection again
        try:
            reply = ingesting.ingest(
                self._engine, self._collection, model, items, skip_bad=self._skip_bad, screen=self._screen
            )
        except InvalidRequest as error:
            faults = [(int(at.rpartition("/")[2]), detail) for at, detail in error.errors if at.startswith("/items/")]
            if not faults:
                raise
            if not self._skip_bad and (good := faults[0][0]):
                self._ingest(items[:good], places[:good])
            for position, detail in faults:
                self._bad(places[position], items[position].id, detail)
            return
        self._made_by, self._into = reply.model, self._engine.catalogue.get(self._collection)
        self._count(PutResult(reply.created, reply.updated, reply.unchanged), reply.ids or [])
        self._duplicates_total += reply.duplicates_total or 0
        for near in (reply.duplicates or [])[: MOST - len(self._duplicates)]:
            self._duplicates.append(near.model_copy(update={"position": self._lines + places[near.position]}))
        for fault in reply.errors or ():
            self._bad(places[fault.position], fault.id, fault.detail)

    def _count(self, result: PutResult, ids: list[str]) -> None:
        self._created += result.created
        self._updated += result.updated
        self._unchanged += result.unchanged
        if self._ids is not None:
            self._ids = self._ids + ids if len(self._ids) + len(ids) <= MOST else None

    def _bad(self, place: int, id: str | None, detail: str) -> None:
        line = self._lines + place
        at = [(pointer(line), detail)]
        if not self._skip_bad:
            raise InvalidRequest(
                f"line {line + 1}: {detail}; {self._so_far()}. Mend it and send all of the stream again, or send "
                "on_error=skip",
                at,
            )
        if len(self._errors) >= MOST:
            raise InvalidRequest(f"line {line + 1}: more than {MOST:,} lines are bad; {self._so_far()}", at)
        self._errors.append(ItemError(position=line, id=None if id is None else short(id, 512), detail=detail))

    @property
    def _stored(self) -> int:
        return self._created + self._updated + self._unchanged

    def _so_far(self) -> str:
        stay = " (they stay; what has an id is stored once, however often it is sent)" if self._stored else ""
        return f"items stored before that: {self._stored:,}{stay}"

    def _sorted_errors(self) -> list[ItemError]:
        return sorted(self._errors, key=lambda error: error.position)

    def _reply(self) -> IngestReply:
        return IngestReply(
            collection=self._collection,
            model=self._made_by,
            created=self._created,
            updated=self._updated,
            unchanged=self._unchanged,
            ids=self._ids,
            errors=self._sorted_errors() if self._skip_bad else None,
            duplicates=None if self._screen is None else self._duplicates,
            duplicates_total=None if self._screen is None else self._duplicates_total,
            took_ms=round((time.perf_counter() - self._started) * 1000, 3),
        )


def _fault(error: ValidationError) -> str:
    """What is wrong with a line."""
    return plainly(faults_of(error))[0].removeprefix("the body: ")
