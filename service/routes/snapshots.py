"""Snapshots: made, listed, fetched, deleted, restored."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.from_thread
from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from ..dependencies import EngineDep
from ..engine import Engine
from ..errors import Stopped, TooLarge, UnsupportedMedia
from ..limits import ARCHIVE, media_type
from ..plain_json import JsonRoute
from ..restore import Restored, restore
from ..schemas.base import ModelInfo
from ..schemas.catalogue import DamagedInfo
from ..schemas.snapshots import RestoredModelInfo, RestoreReply, RestoreRequest, SnapshotInfo, SnapshotList
from ..snapshots import Written
from .collections import collection_info

router = APIRouter(tags=["snapshots"], route_class=JsonRoute)

_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "a snapshot as it was fetched, or a backup; of at most `max_snapshot_bytes`, stored as it comes",
        "content": {ARCHIVE: _FILE},
    }
}


def _info(one: Written) -> SnapshotInfo:
    (held,) = one.manifest.collections
    serving = next((model for model in one.manifest.models if held.models[:1] == [model.fingerprint]), None)
    return SnapshotInfo(
        name=one.path.stem,
        size=one.size,
        checksum=one.sha256,
        created_at=one.manifest.created_at,
        items=held.items,
        model=serving and ModelInfo(name=serving.name, version=serving.version, fingerprint=serving.fingerprint),
    )


@router.post("/collections/{collection}/snapshots", status_code=201)
def create(
    collection: str,
    engine: EngineDep,
    name: Annotated[str | None, Query(description="of the snapshot; made of the time where it is left out")] = None,
) -> SnapshotInfo:
    """One file that holds the collection in one committed state, its models and its settings.

    Made while everything goes on; verified before it gets its name. It stays when the collection is deleted.
    """
    return _info(engine.snapshots.create(engine.catalogue.get(collection), engine.registry, name))


@router.get("/collections/{collection}/snapshots")
def snapshots(collection: str, engine: EngineDep) -> SnapshotList:
    """The snapshots of a collection, also of one that has been deleted."""
    found, damaged = engine.snapshots.list(collection)
    if not found and not damaged:
        engine.catalogue.get(collection)
    return SnapshotList(
        snapshots=[_info(one) for one in found],
        damaged=[DamagedInfo(name=name, detail=detail) for name, detail in damaged.items()],
    )


@router.get(
    "/collections/{collection}/snapshots/{name}",
    response_class=FileResponse,
    responses={200: {"content": {ARCHIVE: _FILE}, "description": "the file, a tar archive; ranges can be asked for"}},
)
def fetch(collection: str, name: str, engine: EngineDep) -> FileResponse:
    """The file of a snapshot. The header `repr-digest` states its SHA-256 (RFC 9530)."""
    path = engine.snapshots.get(collection, name)
    digest = base64.b64encode(bytes.fromhex(engine.snapshots.checksum(path))).decode()
    return FileResponse(
        path,
        media_type=ARCHIVE,
        filename=f"{collection}-{name}.tar",
        stat_result=path.stat(),
        headers={"repr-digest": f"sha-256=:{digest}:"},
    )


@router.delete("/collections/{collection}/snapshots/{name}", status_code=204)
def delete(collection: str, name: str, engine: EngineDep) -> Response:
    """Delete a snapshot."""
    engine.snapshots.delete(collection, name)
    return Response(status_code=204)


@router.post("/collections/{collection}/restore", status_code=201)
def restore_stored(
    collection: str,
    body: Annotated[
        RestoreRequest,
        Body(
            examples=[
                {"snapshot": "nightly", "replace": True},
                {"snapshot": "nightly", "source": "digits", "replace": True},
            ]
        ),
    ],
    engine: EngineDep,
) -> RestoreReply:
    """Make the collection of this name from a stored snapshot, verified whole before it can be seen.

    The models of the snapshot come along where they are not here.
    """
    path = engine.snapshots.get(body.source or collection, body.snapshot)
    with path.open("rb") as file:
        return _reply(engine, restore(engine, file, name=collection, replace_there=body.replace))


@router.post("/snapshots/restore", status_code=201, openapi_extra=_UPLOAD)
async def restore_upload(
    request: Request,
    engine: EngineDep,
    collection: Annotated[
        str | None, Query(description="what the collection in the file is called here; as there, where left out")
    ] = None,
    replace: Annotated[bool, Query(description="collections of the same names; they serve until that moment")] = False,
) -> RestoreReply:
    """Restore an uploaded snapshot, from this machine or another: nothing is seen before all of it is verified."""
    kind = media_type(request.headers)
    if kind != ARCHIVE:
        raise UnsupportedMedia(f"a snapshot is sent as {ARCHIVE}; got {kind[:100] or 'no content type'}")
    most = engine.settings.max_snapshot_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise TooLarge(f"the body has {int(declared):,} bytes, the limit is {most:,} (max_snapshot_bytes)")
    arriving = _Arriving(request.stream())

    def run() -> RestoreReply:
        found = restore(engine, arriving, name=collection, replace_there=replace, most_bytes=most)
        return _reply(engine, found)

    return await run_in_threadpool(run)


class _Arriving:
    """A body that is just arriving, to be read by a worker thread: part by part, none of it before it is asked for."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)

    def read(self, size: int) -> bytes:
        """At least one byte and at most `size`; none at the end."""
        while not self._rest:
            try:
                chunk = anyio.from_thread.run(self._next)
            except Stopped:
                raise Stopped("the service is about to end: nothing was restored; send it again then") from None
            if chunk is None:
                return b""
            self._rest = chunk
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def _reply(engine: Engine, restored: Restored) -> RestoreReply:
    return RestoreReply(
        collections=[collection_info(engine.catalogue.get(name)) for name in restored.collections],
        replaced=restored.replaced,
        models=[
            RestoredModelInfo(
                name=one.entry.name,
                version=one.entry.version,
                fingerprint=one.entry.fingerprint,
                added=one.added,
                archived_as=one.archived.reference,
            )
            for one in restored.models
        ],
    )
