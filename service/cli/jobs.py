"""Long work that is done elsewhere, by a service or a child process: watched to its end, and cancelled by Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .base import CommandError, say
from .places import Reply, Service
from .progress import bar

_EVERY_S = 0.3
_UNFINISHED = ("queued", "running")
_COUNTS = (("step", "steps"), ("done", "total"), ("queries", "of"), ("groups", "of"))
"""What the kinds of jobs call how far they are, and of how much."""


def followed(service: Service, what: str, job: Reply) -> dict[str, Any]:
    """The result of `job` when it has succeeded. Raises `CommandError` where it has not.

    Whatever ends this before, Ctrl-C or an error, cancels the job.
    """
    try:
        with bar(what, 1) as show:
            while job["state"] in _UNFINISHED:
                show(_share(job["progress"]), _note(job))
                time.sleep(_EVERY_S)
                job = service.job(job["id"])
            if job["state"] == "succeeded":
                show(1, "")
    except BaseException:
        _cancel(service, job["id"])
        raise
    if job["state"] != "succeeded":
        why = (job["error"] or {}).get("detail", "its process was ended")
        raise CommandError(f"job {job['id']} {job['state']}: {why}")
    return dict(job["result"])


def _cancel(service: Service, id: str) -> None:
    try:
        service.cancel(id)
        say(f"job {id} is cancelled")
    except CommandError as error:
        say(f"job {id} may go on: {error}")


def _share(progress: Mapping[str, Any]) -> float:
    """How much is done, 0 to 1."""
    for done, total in _COUNTS:
        if progress.get(total):
            return float(min(1.0, progress.get(done, 0) / progress[total]))
    return float(progress.get("done", 0))


def _note(job: Mapping[str, Any]) -> str:
    if job["state"] == "queued":
        return "waiting for its turn"
    progress = job["progress"]
    parts = [str(progress["stage"])] if "stage" in progress else []
    if progress.get("items_per_s"):
        parts.append(f"{progress['items_per_s']:,.0f} items/s")
    return ", ".join(parts)
