"""/models and /families."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response

from models.base import families as known_families
from models.capabilities import capabilities
from models.errors import UnknownModel
from models.registry import Entry
from models.specs import InputParams, spec_of
from models.train import TrainConfig

from ..dependencies import EngineDep
from ..engine import Engine
from ..plain_json import JsonRoute
from ..schemas import AliasRequest, DamagedInfo, FamilyInfo, FamilyList, ModelCard, ModelList

router = APIRouter(tags=["models"], route_class=JsonRoute)


def model_card(entry: Entry, *, whole: bool = False) -> ModelCard:
    """What the API says of a model; its vocabulary and its card only where it is asked for alone."""
    config = entry.artefact.config
    shape = {name: value for name, value in config["input"].items() if whole or name != "vocabulary"}
    return ModelCard(
        name=entry.name,
        version=entry.version,
        fingerprint=entry.fingerprint,
        aliases=list(entry.aliases),
        family=config["family"],
        bits=config["bits"],
        input=shape,
        capabilities=sorted(capabilities(known_families()[config["family"]], spec_of(config["input"]))),
        metrics=dict(entry.artefact.metrics),
        card=entry.artefact.card if whole else None,
    )


@router.get("/models")
def models(engine: EngineDep) -> ModelList:
    """Every version of every model, and those that are damaged."""
    return ModelList(
        models=[model_card(entry) for entry in engine.registry.list()],
        damaged=[DamagedInfo(name=name, detail=detail) for name, detail in engine.registry.damaged.items()],
    )


@router.get("/models/{reference}")
def model(reference: str, engine: EngineDep) -> ModelCard:
    """The model that `name`, `name:3` or `name@alias` refers to, with its card."""
    return model_card(engine.registry.get(reference), whole=True)


@router.put("/models/{name}/aliases/{alias}")
def set_alias(
    name: str, alias: str, body: Annotated[AliasRequest, Body(examples=[{"version": 1}])], engine: EngineDep
) -> ModelCard:
    """Let `name@alias` mean a version; the alias `champion` is what the bare name means."""
    return model_card(_alias(engine, name, alias, body.version))


def _alias(engine: Engine, name: str, alias: str, version: int) -> Entry:
    if ":" in name or "@" in name:
        raise UnknownModel(f"an alias is set on a model's bare name; got {name[:100]!r}")
    return engine.registry.alias(f"{name}:{version}", alias)


@router.delete("/models/{reference}", status_code=204)
def delete(reference: str, engine: EngineDep) -> Response:
    """Delete one version. Refused while a collection was filled by it."""
    engine.delete_model(reference)
    return Response(status_code=204)


@router.get("/families")
def families() -> FamilyList:
    """Every family: what it is, what it can do, and its parameters."""
    return FamilyList(
        families=[
            FamilyInfo(
                name=name,
                summary=(family.__doc__ or "").strip(),
                capabilities=sorted(capabilities(family)),
                supervised=family.supervised,
                params=family.Params.model_json_schema(),
            )
            for name, family in sorted(known_families().items())
        ],
        training=TrainConfig.model_json_schema(),
        input=InputParams.model_json_schema(),
    )
