"""/ingest, as JSON, as a stream of lines, or as files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from index import Screen

from .. import ingest as ingesting
from ..dependencies import EngineDep
from ..engine import Engine
from ..errors import InvalidRequest, UnsupportedMedia, pointer, short
from ..examples import DIGIT
from ..limits import STREAMED, media_type
from ..plain_json import check_members
from ..rawroute import parsed
from ..schemas import IngestReply, IngestRequest
from ..stream import BYTE_ORDER_MARK, LineIngest

router = APIRouter(tags=["items"])

_ON_DUPLICATE = (
    "what becomes of an item within `radius` of another id's: `allow` looks for none; `reject` does not store it and "
    "lists it in the reply under `duplicates`; `tag` stores it, lists it, and puts the id of the nearest into its "
    'payload as `duplicate_of`, so that a filter finds it (`{"duplicate_of": {"$exists": true}}`). With `tag` that '
    "member is the service's: what is sent in it is replaced or, in an item that is no duplicate, dropped"
)

_EXAMPLE = {
    "collection": "my-digits",
    "model": "digits-hash",
    "items": [{"id": "a1", "image": DIGIT, "payload": {"label": 7}}],
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": IngestRequest.model_json_schema(ref_template="#/components/schemas/{model}"),
                "example": _EXAMPLE,
            },
            STREAMED: {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "one item a line, as in `items`: any number of lines, each of at most the size of "
                    "a body of another type (`max_body_bytes`). They are stored as they come, and the reply comes at "
                    "the end; where a line is refused, those before it are stored. `collection`, and for a new one "
                    "`model`, stand in the URL; there is no `Idempotency-Key`, so give every line an id",
                },
                "example": '{"id": "a1", "code": "9f3a5c0e11d2b784"}\n{"id": "a2", "code": "9f3a5c0e11d2b785"}\n',
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["collection", "files"],
                    "properties": {
                        "collection": {"type": "string"},
                        "model": {"type": "string", "description": "needed only when the call creates the collection"},
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "images, sounds (WAV, FLAC), texts in UTF-8, or float32 vectors; "
                            "the file's name is the id",
                        },
                    },
                },
            },
        },
    }
}


@router.post("/ingest", openapi_extra=_BODY)
async def ingest(
    request: Request,
    engine: EngineDep,
    on_error: Annotated[
        Literal["refuse", "skip"], Query(description="refuse what is bad, or leave it out and list it")
    ] = "refuse",
    on_duplicate: Annotated[Literal["allow", "tag", "reject"], Query(description=_ON_DUPLICATE)] = "allow",
    radius: Annotated[
        int | None, Query(ge=0, description="with on_duplicate=tag or reject: inclusive Hamming distance")
    ] = None,
    collection: Annotated[str | None, Query(description="for application/x-ndjson: where to store")] = None,
    model: Annotated[str | None, Query(description="for application/x-ndjson: where the collection is new")] = None,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255, description="the same request with it has one effect"),
    ] = None,
) -> IngestReply:
    """Store items. A 2xx means that they are on disk and that the next search finds them.

    JSON and files: all or nothing, unless `on_error=skip`. Lines of any number come as application/x-ndjson.

    With `on_duplicate=reject` or `tag` the items are taken one after another, and one that lies within `radius` of an
    item under another id, stored or earlier in the call, is a duplicate. To find one is not an error: the rest of the
    call is stored, and the reply lists it. Of near items that several clients send at once, only one is the first.
    An item that is stored already with the same code is not new and no duplicate of what came after it, so a call can
    be sent again; to look through what is stored, use `POST /collections/{collection}/duplicates`.
    """
    how = _How(on_error == "skip", _screen(on_duplicate, radius), idempotency_key)
    kind = media_type(request.headers)
    if kind == "application/json":
        body = await request.body()
        return await run_in_threadpool(_from_json, engine, body, how)
    if kind == "multipart/form-data":
        return await _from_form(request, engine, how)
    if kind == STREAMED:
        return await _from_lines(request, engine, collection, model, how)
    raise UnsupportedMedia(
        f"/ingest takes application/json, {STREAMED} or multipart/form-data; got {kind[:100] or 'no content type'}"
    )


@dataclass(frozen=True, slots=True)
class _How:
    """What the URL and the headers ask for."""

    skip_bad: bool
    screen: Screen | None
    key: str | None

    def sealed(self, parts: Iterable[bytes]) -> tuple[str, bytes] | None:
        """The idempotency key with a digest of everything that makes the request what it is."""
        if self.key is None:
            return None
        hasher = hashlib.sha256(b"skip" if self.skip_bad else b"refuse")
        if self.screen is not None:
            hasher.update(f"{self.screen}".encode())
        for part in parts:
            hasher.update(b"%d:" % len(part))
            hasher.update(part)
        return self.key, hasher.digest()


def _screen(on_duplicate: str, radius: int | None) -> Screen | None:
    if on_duplicate == "allow" and radius is not None:
        raise InvalidRequest(
            "a radius says what a duplicate is, and on_duplicate=allow (the default) looks for none; send "
            "on_duplicate=reject or tag with it, or leave it out",
            [(pointer("on_duplicate"), "reject or tag, with a radius")],
        )
    if on_duplicate != "allow" and radius is None:
        raise InvalidRequest(
            f"on_duplicate={on_duplicate} needs a radius: items at most so many bits apart are duplicates; 0 means "
            "equal codes, and POST /collections/{collection}/calibrate measures what other radii mean",
            [(pointer("radius"), "missing")],
        )
    return None if radius is None else Screen(radius, on_duplicate == "tag")


async def _from_lines(
    request: Request, engine: Engine, collection: str | None, model: str | None, how: _How
) -> IngestReply:
    if collection is None:
        raise InvalidRequest(f"a stream of {STREAMED} names its collection in the URL: /ingest?collection=...")
    if how.key is not None:
        raise InvalidRequest(
            "a stream is stored as it comes, not as one request, so an Idempotency-Key cannot stand for it; give every "
            "line an id, and sending it again is harmless"
        )
    ingest = LineIngest(engine, collection, model, skip_bad=how.skip_bad, screen=how.screen)
    return await ingest.run(request.stream())


def _from_json(engine: Engine, body: bytes, how: _How) -> IngestReply:
    check_members(body, engine.settings.max_ingest_members, "max_ingest_members")
    asked = parsed(IngestRequest, body.removeprefix(BYTE_ORDER_MARK))
    return ingesting.ingest(
        engine,
        asked.collection,
        asked.model,
        asked.items,
        skip_bad=how.skip_bad,
        screen=how.screen,
        key=how.sealed([body]),
    )


async def _from_form(request: Request, engine: Engine, how: _How) -> IngestReply:
    form = await request.form(max_files=engine.settings.max_items, max_fields=10)
    try:
        collection, model = form.get("collection"), form.get("model")
        if not isinstance(collection, str) or not (model is None or isinstance(model, str)):
            raise InvalidRequest("a form needs the field collection, and optionally model, as text")
        files = [value for value in form.getlist("files") if isinstance(value, UploadFile)]
        if not files:
            raise InvalidRequest("a form needs at least one file in the field files")
        uploads = [ingesting.Upload(_name_of(file), await file.read()) for file in files]
    finally:
        await form.close()
    parts = [collection.encode(), (model or "").encode()]
    parts += [part for upload in uploads for part in (upload.name.encode(), upload.data)]
    return await run_in_threadpool(
        ingesting.ingest,
        engine,
        collection,
        model,
        uploads,
        skip_bad=how.skip_bad,
        screen=how.screen,
        key=how.sealed(parts),
    )


def _name_of(file: UploadFile) -> str:
    """The name of an uploaded file. Raises `InvalidRequest` where it is not UTF-8, which Starlette reads as Latin-1."""
    try:
        for _, value in file.headers.raw:
            value.decode()
    except UnicodeDecodeError:
        name = short(file.filename or "")
        raise InvalidRequest(f"the name of a file, perhaps {name!r}, is not UTF-8; send it in UTF-8") from None
    return file.filename or ""
