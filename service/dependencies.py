"""What routes ask for: the engine, the jobs, the metrics of the running application."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from .engine import Engine
from .observability import Metrics
from .runner import Runner


def _engine(request: Request) -> Engine:
    return cast(Engine, request.app.state.engine)


def _runner(request: Request) -> Runner:
    return cast(Runner, request.app.state.runner)


def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)


EngineDep = Annotated[Engine, Depends(_engine)]
RunnerDep = Annotated[Runner, Depends(_runner)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
