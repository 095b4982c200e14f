"""/train and /jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from fastapi.openapi.models import Example
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from models.builtin import BUILTIN
from models.errors import DataError
from models.registry import check_name

from .. import training
from ..dependencies import EngineDep, RunnerDep
from ..jobs import ENDED
from ..plain_json import JsonRoute
from ..schemas import Job, JobList, TrainRequest
from ..work.places import scratch_of
from ..work.train import Train

router = APIRouter(tags=["jobs"], route_class=JsonRoute)

_POLL_S = 0.2
_EXAMPLE = {"name": "my-hash", "family": "binary-autoencoder", "bits": 64, "data": {"dataset": "digits"}, "seed": 0}
_EXAMPLES: dict[str, Example] = {
    "from the items alone": {"value": _EXAMPLE},
    "of a width that suits the data": {
        "value": {"name": "my-hash", "family": "itq", "bits": "auto", "data": {"dataset": "digits"}}
    },
    "with the labels of a collection": {
        "value": {
            "name": "my-hash",
            "family": "binary-autoencoder",
            "bits": 64,
            "data": {"collection": "digits", "label": "label"},
            "labels": True,
        }
    },
    "with pairs": {
        "value": {
            "name": "my-hash",
            "family": "binary-autoencoder",
            "bits": 64,
            "data": {"collection": "digits"},
            "pairs": [
                {"a": {"id": "digit-0000"}, "b": {"id": "digit-0010"}, "same": True},
                {"a": {"id": "digit-0000"}, "b": {"id": "digit-0001"}, "same": False},
            ],
        }
    },
}


@router.post("/train", status_code=202)
def train(body: Annotated[TrainRequest, Body(openapi_examples=_EXAMPLES)], engine: EngineDep, runner: RunnerDep) -> Job:
    """Train a model on a collection's kept inputs or a built-in data set, in the background.

    With `"bits": "auto"` a width is proposed from the size of the data and its neighbourhoods, in seconds, before
    training begins: the progress, and later the metrics of the model under `bits_chosen`, say which and why.
    Nothing but the items is learned from, and nothing else chooses the epoch, unless `labels` or `pairs` are given:
    then the metrics of the model say `supervised`, and its figures are no longer those of a model that saw none.
    """
    check_name(body.name)
    pairs = None if body.pairs is None else [(pair.a.id, pair.b.id, pair.same) for pair in body.pairs]
    asked = training.Training(body.name, body.family, body.bits, body.params, body.seed, body.labels, pairs)
    training.check(asked)
    if body.data.dataset is not None:
        if body.data.dataset not in BUILTIN:  # a path would let a client read the server's files
            raise DataError(f"the built-in data sets are {', '.join(BUILTIN)}; ingest your own items into a collection")
        return Job(**runner.submit(Train(engine.registry, asked, {"dataset": body.data.dataset})))
    found = engine.catalogue.get(body.data.collection or "")
    data = {"collection": found.name, "label": body.data.label or "label"}
    return Job(**runner.submit(Train(engine.registry, asked, data, found.lent(scratch_of(engine.settings)))))


@router.get("/jobs")
def jobs(runner: RunnerDep) -> JobList:
    """The hundred newest jobs, newest first."""
    return JobList(jobs=[Job(**job) for job in runner.store.list()])


@router.get("/jobs/{id}")
def job(id: str, runner: RunnerDep) -> Job:
    """One job."""
    return Job(**runner.store.get(id))


@router.delete("/jobs/{id}")
def cancel(id: str, runner: RunnerDep) -> Job:
    """Cancel a job that has not ended; one that has stays as it is."""
    return Job(**runner.cancel(id))


def _known(id: str, runner: RunnerDep) -> str:
    """An unknown job is refused before a stream begins."""
    return str(runner.store.get(id)["id"])


@router.get("/jobs/{id}/events", response_class=EventSourceResponse)
async def events(id: Annotated[str, Depends(_known)], runner: RunnerDep) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the job whenever it changes, until it has ended or the service stops."""
    last: dict[str, Any] | None = None
    while True:
        job = await run_in_threadpool(runner.store.get, id)
        if job != last:
            yield ServerSentEvent(data=job, event="job")
            last = job
        if job["state"] in ENDED or runner.stopping:
            return
        await asyncio.sleep(_POLL_S)
