"""/collections and the items in them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Query, Response

from index import Collection, Item, ModelKey

from .. import calibration
from .. import paths as _paths  # noqa: F401  knows {id:text}
from ..codecs import kept_output
from ..dependencies import EngineDep
from ..plain_json import JsonRoute
from ..schemas import (
    CollectionInfo,
    CollectionList,
    CollectionRequest,
    CompactReply,
    DamagedInfo,
    DeleteReply,
    DeleteRequest,
    FieldRequest,
    ItemList,
    ModelInfo,
    StoredItem,
)
from ..schemas.generations import GenerationInfo

router = APIRouter(prefix="/collections", tags=["collections"], route_class=JsonRoute)


def collection_info(collection: Collection) -> CollectionInfo:
    """What is said of a collection."""
    config, key = collection.config, collection.config.model
    return CollectionInfo(
        name=config.name,
        bits=config.bits,
        model=_model(key),
        items=len(collection),
        keep_inputs=config.keep_inputs,
        created_at=config.created_at,
        indexes=collection.fields,
        backend=collection.backend,
        memory_bytes=collection.nbytes,
        calibrated=calibration.known(collection) is not None,
        generations=[
            GenerationInfo(
                number=one.number,
                model=_model(one.model),
                bits=one.bits,
                state=one.state,
                items=one.items,
                created_at=one.created_at,
            )
            for one in collection.generations.all()
        ],
    )


def _model(key: ModelKey | None) -> ModelInfo | None:
    return None if key is None else ModelInfo(name=key.name, version=key.version, fingerprint=key.fingerprint)


def _stored(item: Item, *, with_input: bool = True) -> StoredItem:
    known = with_input and item.kind is not None and item.input is not None
    kept = kept_output(item.kind, item.input) if known else None  # type: ignore[arg-type]
    payload = dict(item.payload) if item.payload is not None else None
    return StoredItem(id=item.id, code=item.code.hex(), payload=payload, input=kept)


@router.get("")
def collections(engine: EngineDep) -> CollectionList:
    """Every collection; those that fail their checks are named with the reason."""
    return CollectionList(
        collections=list(engine.catalogue.each(collection_info).values()),
        damaged=[DamagedInfo(name=name, detail=detail) for name, detail in engine.catalogue.damaged.items()],
    )


@router.post("", status_code=201)
def create(
    body: Annotated[
        CollectionRequest,
        Body(
            examples=[
                {"name": "ready-made", "bits": 256},
                {"name": "my-photos", "model": "digits-hash", "indexes": ["label", "author.name"]},
            ]
        ),
    ],
    engine: EngineDep,
) -> CollectionInfo:
    """An empty collection, for a model's codes or, with `bits` alone, for ready-made ones."""
    made = engine.create_collection(body.name, body.model, body.bits, body.keep_inputs, body.indexes, body.backend)
    return collection_info(made)


@router.get("/{collection}")
def collection(collection: str, engine: EngineDep) -> CollectionInfo:
    """One collection."""
    return collection_info(engine.catalogue.get(collection))


@router.delete("/{collection}", status_code=204)
def delete(collection: str, engine: EngineDep) -> Response:
    """Delete a collection and everything in it."""
    engine.catalogue.delete(collection)
    return Response(status_code=204)


@router.get("/{collection}/items")
def items(
    collection: str,
    engine: EngineDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(description="of the page before")] = None,
    include: Annotated[
        list[Literal["input"]] | None, Query(description="kept inputs too; pages may be shorter")
    ] = None,
) -> ItemList:
    """The items in the order of their ids, page by page."""
    page: list[StoredItem] = []
    size = 0
    for item in engine.catalogue.get(collection).scan(after=cursor):
        if len(page) == limit or size > engine.settings.max_body_bytes:
            return ItemList(items=page, cursor=page[-1].id)
        if include:
            size += len(item.input or b"")
        page.append(_stored(item, with_input=bool(include)))
    return ItemList(items=page, cursor=None)


@router.get("/{collection}/items/{id:text}")
def item(collection: str, id: str, engine: EngineDep) -> StoredItem:
    """One item, with its input where inputs are kept."""
    return _stored(engine.catalogue.get(collection).get(id))


@router.delete("/{collection}/items/{id:text}")
def delete_item(collection: str, id: str, engine: EngineDep) -> DeleteReply:
    """Delete one item."""
    found = engine.catalogue.get(collection)
    found.get(id)
    return DeleteReply(deleted=found.delete([id]))


@router.post("/{collection}/delete")
def delete_items(
    collection: str,
    body: Annotated[
        DeleteRequest,
        Body(examples=[{"ids": ["a1", "a2"]}, {"filter": {"source": {"$in": ["old-scanner", "test"]}}}]),
    ],
    engine: EngineDep,
) -> DeleteReply:
    """Delete items by id, or all that match a filter; says how many of them there were."""
    found = engine.catalogue.get(collection)
    if body.filter is not None:
        return DeleteReply(deleted=found.delete_where(body.filter))
    return DeleteReply(deleted=found.delete(body.ids or []))


@router.post("/{collection}/indexes")
def index_field(
    collection: str, body: Annotated[FieldRequest, Body(examples=[{"field": "label"}])], engine: EngineDep
) -> CollectionInfo:
    """Index a payload field: filters on it become fast. Writers wait while it is built; searches go on."""
    found = engine.catalogue.get(collection)
    found.index_field(body.field)
    return collection_info(found)


@router.post("/{collection}/compact")
def compact(collection: str, engine: EngineDep) -> CompactReply:
    """Leave nothing on disk of what was deleted, and give the room back. Writers wait; searches go on."""
    found = engine.catalogue.get(collection)
    before = found.bytes_on_disk()
    found.compact()
    return CompactReply(bytes_before=before, bytes_after=found.bytes_on_disk())
