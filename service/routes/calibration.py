"""/collections/{collection}/calibrate and /calibration."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body

from index import to_hex

from .. import calibration as calibrating
from ..calibrating import codes_of
from ..dependencies import EngineDep, RunnerDep
from ..errors import InvalidRequest, pointer
from ..plain_json import JsonRoute
from ..schemas import Job, ModelInfo
from ..schemas.calibration import CalibrateRequest, Calibration
from ..work.calibrate import Calibrate

router = APIRouter(prefix="/collections", tags=["collections"], route_class=JsonRoute)

_EXAMPLES = {
    "by labels": {"value": {"by": "labels", "field": "label"}},
    "by given pairs": {
        "value": {
            "pairs": [
                {"a": {"id": "digit-0000"}, "b": {"code": "00" * 8}, "same": False},
                {"a": {"id": "digit-0000"}, "b": {"id": "digit-0000"}, "same": True},
            ]
        }
    },
    "without labels": {"value": {"by": "augmentation", "queries": 200}},
}


@router.post("/{collection}/calibrate", status_code=202)
def calibrate(
    collection: str,
    body: Annotated[CalibrateRequest, Body(openapi_examples=_EXAMPLES)],
    engine: EngineDep,
    runner: RunnerDep,
) -> Job:
    """Measure what each radius means, in the background: precision, recall, and how much a search finds.

    By labels: a sample of stored items is compared with all others, and two belong together when their labels are
    equal. By given pairs: each says whether its two belong together. By augmentation: stored inputs are changed a
    little, the item itself is the right result and every other a wrong one, so each query has one right answer in the
    whole collection; true near-duplicates count as wrong, so this precision is rather too low than too high. Precision
    is of all results of all queries together. Half of the queries make the curve, the other half check it. It is kept
    with the collection for the model that serves (`GET .../calibration`), and lets `/search` take `target_precision`.
    """
    found = engine.catalogue.get(collection)
    if body.queries > engine.settings.max_calibration_queries:
        raise InvalidRequest(
            f"queries is at most {engine.settings.max_calibration_queries} (max_calibration_queries); "
            f"got {body.queries}",
            [(pointer("queries"), f"at most {engine.settings.max_calibration_queries}")],
        )
    asked: dict[str, Any] = {
        "by": body.way,
        "field": body.field or "label",
        "queries": body.queries,
        "strength": body.strength,
        "seed": body.seed,
    }
    if body.way == "augmentation":
        engine.model_of(found)  # says that there is none
    if body.pairs is not None:
        same = [pair.same for pair in body.pairs]
        if all(same) or not any(same):
            raise InvalidRequest(
                "of the pairs, some must belong together and some not", [(pointer("pairs"), "all have the same `same`")]
            )
        model = found.config.model
        codes = codes_of(engine, found, body.pairs)
        asked |= {
            "fingerprint": model.fingerprint if model else None,
            "pairs": [[to_hex(a), to_hex(b), is_same] for (a, b), is_same in zip(codes, same, strict=True)],
        }
    return Job(**runner.submit(Calibrate(engine, found.name, asked)))


@router.get("/{collection}/calibration")
def calibration(collection: str, engine: EngineDep) -> Calibration:
    """What each radius means, as last measured for the model that serves."""
    found = engine.catalogue.get(collection)
    model = found.config.model
    kept = calibrating.kept(found)
    return Calibration(
        **{name: value for name, value in kept.items() if name in Calibration.model_fields},
        model=ModelInfo(name=model.name, version=model.version, fingerprint=model.fingerprint) if model else None,
    )
