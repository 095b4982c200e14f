"""Long work: a row in SQLite a job, one child process at a time, progress as it comes.

A job that was waiting or running when the service ended is `interrupted`: what it would have made is not there. The
child is spawned, never forked, and ends with the service.
"""

from __future__ import annotations

import json
import logging
import queue
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from index.errors import HammingIndexError, StoreDamaged
from index.store import faults
from models.errors import ModelsError
from models.registry import Registry

from .engine import now
from .errors import Overloaded, UnknownJob, describe, describe_error

log = logging.getLogger(__name__)

ENDED = frozenset({"succeeded", "failed", "cancelled", "interrupted"})
_FIELDS = ("id", "kind", "state", "progress", "result", "error", "created_at", "updated_at")
_JSON = frozenset({"progress", "result", "error"})
_STOP_S = 10


class JobStore:
    """The rows. One connection under a lock: a job changes a few times a second at most."""

    def __init__(self, path: Path) -> None:
        """Open the rows at `path`. A damaged file is put aside under another name: jobs are history, not truth."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._db = self._opened()
        except StoreDamaged as error:
            aside = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
            log.error("%s; it is put aside as %s and a new one begun", error, aside.name)
            path.rename(aside)
            self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        with faults(self._path):
            db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute(
                    "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL,"
                    " progress TEXT NOT NULL, result TEXT NOT NULL, error TEXT NOT NULL,"
                    " created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT"
                )
                db.execute(
                    "UPDATE jobs SET state = 'interrupted', updated_at = ? WHERE state IN ('queued', 'running')",
                    (now(),),
                )
            except BaseException:
                db.close()
                raise
        return db

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, kind: str) -> str:
        """A new queued job; returns its id."""
        id = uuid.uuid4().hex
        with self._lock, faults(self._path):
            self._db.execute(
                "INSERT INTO jobs VALUES (?, ?, 'queued', '{}', 'null', 'null', ?, ?)", (id, kind, now(), now())
            )
        return id

    def update(self, id: str, **values: Any) -> None:
        """Change fields of a job that has not ended; one that has ended stays as it is."""
        columns = ", ".join(f"{name} = ?" for name in values)
        encoded = [json.dumps(value) if name in _JSON else value for name, value in values.items()]
        with self._lock, faults(self._path):
            self._db.execute(
                f"UPDATE jobs SET {columns}, updated_at = ? WHERE id = ? AND state IN ('queued', 'running')",
                (*encoded, now(), id),
            )

    def get(self, id: str) -> dict[str, Any]:
        """One job. Raises `UnknownJob`."""
        with self._lock, faults(self._path):
            row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise UnknownJob(f"there is no job {id[:64]!r}; GET /jobs lists them")
        return _job(row)

    def queued(self) -> int:
        """How many jobs wait."""
        with self._lock, faults(self._path):
            return int(self._db.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()[0])

    def list(self) -> list[dict[str, Any]]:
        """The hundred newest jobs, newest first."""
        with self._lock, faults(self._path):
            rows = self._db.execute("SELECT * FROM jobs ORDER BY created_at DESC, id LIMIT 100").fetchall()
        return [_job(row) for row in rows]


def _job(row: tuple[Any, ...]) -> dict[str, Any]:
    return {name: json.loads(value) if name in _JSON else value for name, value in zip(_FIELDS, row, strict=True)}


class Runner:
    """Runs training jobs one after another, each in a spawned child."""

    def __init__(self, store: JobStore, registry: Registry, *, most_waiting: int) -> None:
        self.store = store
        self._registry = registry
        self._most_waiting = most_waiting
        self._queue: queue.Queue[tuple[str, Mapping[str, Any]] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._submitting = threading.Lock()
        self._running: tuple[str, subprocess.Popen[str]] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the running child and the thread; jobs that had not ended are interrupted."""
        self._stopping = True
        self._queue.put(None)
        with self._lock:
            if self._running is not None:
                self.store.update(self._running[0], state="interrupted")
                self._running[1].terminate()
        self._thread.join(_STOP_S)
        for job in self.store.list():
            if job["state"] not in ENDED:
                self.store.update(job["id"], state="interrupted")
        self.store.close()

    @property
    def stopping(self) -> bool:
        """Whether the service is about to end; streams of events end then too."""
        return self._stopping

    def stop(self) -> None:
        """Begin to end: no further job is started."""
        self._stopping = True

    def submit(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Queue a training (see `worker` for `spec`). Raises `Overloaded`."""
        with self._submitting:
            idle = self._running is None
            waiting = self.store.queued()
            if waiting >= self._most_waiting + idle:
                raise Overloaded(
                    f"{waiting} jobs are waiting, the limit is {self._most_waiting} (max_jobs_waiting); "
                    "try again when one has ended"
                )
            id = self.store.add("train")
        self._queue.put((id, spec))
        return self.store.get(id)

    def cancel(self, id: str) -> dict[str, Any]:
        """Stop a job that has not ended. Raises `UnknownJob`."""
        self.store.get(id)
        self.store.update(id, state="cancelled")
        with self._lock:
            if self._running is not None and self._running[0] == id:
                self._running[1].terminate()
        return self.store.get(id)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None and not self._stopping:
            id, spec = job
            try:
                if self.store.get(id)["state"] == "queued":
                    self._run(id, spec)
            except Exception:  # the outermost handler of this thread: one job's trouble must not end the others'
                log.exception("job %s", id)
                self._give_up(id)

    def _give_up(self, id: str) -> None:
        problem = describe(500, "job-failed", "The job failed", "the service could not run it; its log says why")
        try:
            self.store.update(id, state="failed", error=problem)
        except HammingIndexError as error:  # a full disk: the row is settled at the next start
            log.error("job %s: %s", id, error)

    def _run(self, id: str, spec: Mapping[str, Any]) -> None:
        draft = self._registry.draft(spec["training"]["name"])
        draft.parent.mkdir(exist_ok=True)
        child = subprocess.Popen(
            [sys.executable, "-m", "service.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        last: dict[str, Any] = {}
        try:
            self.store.update(id, state="running")
            with self._lock:
                self._running = (id, child)
                if self._stopping or self.store.get(id)["state"] in ENDED:  # cancelled while the child started
                    child.terminate()
            child.stdin.write(json.dumps({**spec, "draft": str(draft)}) + "\n")
            child.stdin.flush()
            for line in child.stdout:
                last = json.loads(line)
                if "progress" in last:
                    self.store.update(id, progress=last["progress"])
        except BrokenPipeError:
            log.info("job %s: the worker was ended before it began", id)
        except BaseException:
            child.kill()
            shutil.rmtree(draft, ignore_errors=True)
            raise
        finally:
            code = child.wait()
            with self._lock:
                self._running = None
            child.stdout.close()
            with suppress(BrokenPipeError):
                child.stdin.close()
        self._finish(id, last, code, draft, spec["training"]["name"])

    def _finish(self, id: str, last: Mapping[str, Any], code: int, draft: Path, name: str) -> None:
        if self.store.get(id)["state"] in ENDED or "result" not in last:
            shutil.rmtree(draft, ignore_errors=True)
            problem = last.get("error") or describe(
                500,
                "job-failed",
                "The job failed",
                f"the worker ended with exit code {code}; see the log of the service",
            )
            self.store.update(id, state="failed", error=problem)
            return
        try:
            entry = self._registry.add(name, draft)
        except ModelsError as error:
            self.store.update(id, state="failed", error=describe_error(error))
            return
        result = {"model": {"name": entry.name, "version": entry.version, "fingerprint": entry.fingerprint}}
        self.store.update(id, state="succeeded", result=result | {"metrics": dict(entry.artefact.metrics)})
