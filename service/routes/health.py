"""/livez, /readyz, /metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ..dependencies import EngineDep, MetricsDep
from ..errors import NotReady
from ..schemas import Health

router = APIRouter(tags=["health"])


@router.get("/livez", response_class=PlainTextResponse)
async def livez() -> str:
    """Whether the process answers."""
    return "ok"


@router.get("/readyz")
def readyz(engine: EngineDep) -> Health:
    """Whether the service can do its work: an example goes through the queue of every collection's model. Where one
    does not answer, this is a 503 that names it. What is damaged is named, and does not make the service unready: the
    rest of it is served."""
    damaged = [*engine.catalogue.damaged, *engine.registry.damaged, *engine.warm_up()]
    if hanging := engine.hanging():
        raise NotReady("; ".join(hanging))
    return Health(
        status="ok", collections=len(engine.catalogue.all()), models=len(engine.registry.list()), damaged=damaged
    )


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(found: MetricsDep) -> Response:
    """Prometheus metrics."""
    found.refresh()
    return Response(generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST)
