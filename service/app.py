"""The application: engine, middleware, routes and error handlers put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from . import __version__, errors, openapi
from .application import Application
from .deadlines import Deadlines
from .engine import Engine
from .gate import Gate
from .health import Examinations
from .health_gauges import HealthGauges
from .jobs import JobStore
from .keys import KeyRing
from .limits import BodyLimits
from .observability import Metrics, Observe
from .opening import Opening
from .rawroute import RawRoutes
from .routes import (
    calibration,
    code_health,
    collections,
    create,
    duplicates,
    generations,
    health,
    ingest,
    jobs,
    models,
    page,
    reference,
    search,
    snapshots,
)
from .runner import Runner
from .security import secure
from .settings import Settings
from .standing import Standing
from .tracing import telemetry
from .work.duplicates import sweep
from .work.places import tidy

log = logging.getLogger(__name__)

_PARTS = (
    ingest,
    create,
    code_health,
    collections,
    generations,
    snapshots,
    models,
    jobs,
    health,
    duplicates,
    calibration,
    page,
    reference,
)

_DESCRIPTION = """
Semantic hashing: a model learns binary codes from your own items; search finds what is near in Hamming distance,
exactly. Every error is an RFC 9457 problem that says what was wrong and what to do.
"""


def create_app(settings: Settings | None = None, opening: Opening | None = None) -> FastAPI:
    """The service over `settings.data_dir`. Raises `DataDirectoryError` where that cannot be used.

    opening: of that directory, where it has begun.
    """
    settings = settings or Settings()
    keys = KeyRing(settings.keys_folder)
    engine = Engine(settings, opening)
    sweep(settings.data_dir / "collections")
    tidy(settings)
    runner = Runner(
        JobStore(settings.data_dir / "jobs.db"),
        most_waiting=settings.max_jobs_waiting,
        at_once=settings.max_jobs_running,
        admit=engine.check_room,
    )
    examinations = Examinations(engine)

    @asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[None]:
        for fault in await run_in_threadpool(engine.warm_up):
            log.error("%s", fault)
        if not settings.cors_origins:
            app.shorten(around(RawRoutes(app, raw_routes)), [route.path for route in raw_routes])
        yield
        runner.close()
        examinations.close()
        engine.close()

    def around(inner: ASGIApp) -> ASGIApp:
        """`inner` within the service's own layers, for the short way past FastAPI's."""
        for layer, options in layers:
            inner = layer(inner, **options)
        return inner

    app = Application(
        title="Hammingbird",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        separate_input_output_schemas=False,
        generate_unique_id_function=openapi.operation_id,
        responses=openapi.ERRORS,
        telemetry=telemetry(),
        docs_url=None,  # FastAPI's own loads its script from another site; see routes/reference.py
        redoc_url=None,
    )
    app.state.engine, app.state.runner, app.state.metrics = engine, runner, Metrics(engine)
    app.state.examinations = examinations
    app.state.metrics.registry.register(HealthGauges(examinations, settings.health_every_s))
    engine.commits.register(app.state.metrics.registry)
    Standing(engine, runner.store).register(app.state.metrics.registry)
    raw_routes = search.routes(generate_unique_id_function=openapi.operation_id, responses=openapi.ERRORS)
    app.router.routes += raw_routes
    for part in _PARTS:
        app.include_router(part.router)
    errors.install(app)
    layers: list[tuple[Any, dict[str, Any]]] = [
        (BodyLimits, {"settings": settings, "stopping": engine.stopping}),
        (Gate, {"settings": settings, "keys": keys}),
        (Observe, {"metrics": app.state.metrics, "slow_ms": settings.slow_request_ms}),
    ]
    app.add_middleware(Deadlines, settings=settings)
    app.add_middleware(RawRoutes, routes=raw_routes)
    for layer, options in layers[:-1]:
        app.add_middleware(layer, **options)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=("authorization", "content-type", "idempotency-key", "x-api-key", "x-request-id"),
            expose_headers=("retry-after", "x-request-id"),
        )
    observe, options = layers[-1]  # outermost: it sees what the others refuse
    app.add_middleware(observe, **options)

    openapi.describe(app)
    secure(app, keys)
    return app
