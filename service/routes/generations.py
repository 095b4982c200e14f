"""/collections/{c}/reencode, flip, rollback, standby: another model for a collection that goes on serving."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from index import Collection, Generation

from ..dependencies import EngineDep, RunnerDep
from ..engine import Engine
from ..plain_json import JsonRoute
from ..schemas import CollectionInfo, Job
from ..schemas.generations import ReencodeRequest
from ..work import reencode as work
from .collections import collection_info

router = APIRouter(prefix="/collections", tags=["models of collections"], route_class=JsonRoute)


@router.post("/{collection}/reencode", status_code=202)
def reencode(
    collection: str,
    body: Annotated[
        ReencodeRequest,
        Body(examples=[{"model": "digits-vae", "gate": {"min_overlap": 0.2}, "flip": True}]),
    ],
    engine: EngineDep,
    runner: RunnerDep,
) -> Job:
    """Go over to another model, in the background, while the collection serves and is written to.

    The kept inputs are encoded anew, recent searches are tried on both, and where the new codes pass the gate they
    serve from one moment to the next; the old ones are kept for `/rollback`. A search is always answered by one model
    alone, which the reply names. Cancelling the job, or a crash, leaves the old codes serving. What was kept from an
    earlier change is given up at the start. Refused with 409 where items have no kept input.
    """
    found, entry = engine.catalogue.get(collection), engine.registry.get(body.model)
    work.check(engine, found, entry)
    return Job(**runner.submit(work.Reencode(engine, found, entry, body.gate, flip=body.flip)))


@router.post("/{collection}/flip")
def flip(collection: str, engine: EngineDep) -> CollectionInfo:
    """Let the codes serve that a `/reencode` with `flip: false` has made ready; those that serve now are kept."""
    found = engine.catalogue.get(collection)
    return _flipped(engine, found, found.generations.beside("ready"))


@router.post("/{collection}/rollback")
def rollback(collection: str, engine: EngineDep) -> CollectionInfo:
    """Let the kept codes of the model before serve again, at once and with all that was written since.

    Those that serve now are kept in turn, so a second rollback undoes the first.
    """
    found = engine.catalogue.get(collection)
    return _flipped(engine, found, found.generations.beside("kept"))


@router.delete("/{collection}/standby")
def give_up(collection: str, engine: EngineDep) -> CollectionInfo:
    """Give up the codes that do not serve, kept or ready: writes are then encoded by one model again."""
    found = engine.catalogue.get(collection)
    found.generations.drop(found.generations.beside("kept", "ready").number)
    return collection_info(found)


def _flipped(engine: Engine, collection: Collection, generation: Generation) -> CollectionInfo:
    if generation.fingerprint is not None:  # first make sure that its model can still be used
        engine.registry.load(engine.registry.by_fingerprint(generation.fingerprint))
    collection.generations.flip(generation.number)
    return collection_info(collection)
