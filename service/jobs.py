"""The rows of jobs: one each in SQLite, so that a job's fate is known after a restart.

A job that was waiting or running when the service ended is `interrupted`: what it would have made is not there.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from index.errors import StoreDamaged
from index.store import faults

from .engine import now
from .errors import UnknownJob

log = logging.getLogger(__name__)

STATES = ("queued", "running", "succeeded", "failed", "cancelled", "interrupted")
ENDED = frozenset({"succeeded", "failed", "cancelled", "interrupted"})
_FIELDS = ("id", "kind", "state", "progress", "result", "error", "created_at", "updated_at", "subject")
_JSON = frozenset({"progress", "result", "error", "subject"})


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
                    " created_at TEXT NOT NULL, updated_at TEXT NOT NULL, subject TEXT NOT NULL DEFAULT '{}') STRICT"
                )
                if "subject" not in {row[1] for row in db.execute("PRAGMA table_info(jobs)")}:  # made by an earlier us
                    db.execute("ALTER TABLE jobs ADD COLUMN subject TEXT NOT NULL DEFAULT '{}'")
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

    def add(self, kind: str, subject: Mapping[str, str]) -> str:
        """A new queued job; returns its id. subject: what it is about."""
        id = uuid.uuid4().hex
        with self._lock, faults(self._path):
            self._db.execute(
                "INSERT INTO jobs VALUES (?, ?, 'queued', '{}', 'null', 'null', ?, ?, ?)",
                (id, kind, now(), now(), json.dumps(subject)),
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

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state that some are in."""
        with self._lock, faults(self._path):
            return dict(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def list(self) -> list[dict[str, Any]]:
        """The hundred newest jobs, newest first."""
        with self._lock, faults(self._path):
            rows = self._db.execute("SELECT * FROM jobs ORDER BY created_at DESC, id LIMIT 100").fetchall()
        return [_job(row) for row in rows]


def _job(row: tuple[Any, ...]) -> dict[str, Any]:
    return {name: json.loads(value) if name in _JSON else value for name, value in zip(_FIELDS, row, strict=True)}
