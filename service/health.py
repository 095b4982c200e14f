"""The health of the codes of each collection: measured on a thread of its own, one collection at a time, and kept.

What was measured stays true for as long as the collection does not change, and is not measured again before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from index import Collection, ModelKey
from index.drift import LEAST, CodeProfile
from index.errors import InvalidCode, UnknownCollection
from index.findings import Finding, findings
from index.health import Health, measure
from models.errors import UnknownModel

from .engine import Engine, now

log = logging.getLogger(__name__)

_State = tuple[str, str | None, int]


@dataclass(frozen=True)
class Examined:
    """What was measured of one state of a collection, and what it means."""

    state: _State
    model: ModelKey | None
    health: Health
    findings: list[Finding]
    no_drift: str | None
    """Why there is no drift to tell of."""
    profile: CodeProfile | None
    at: str
    seconds: float
    finished: float
    """On the monotonic clock."""

    @property
    def sequence(self) -> int:
        return self.state[2]


class Examinations:
    """The last examination of every collection. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="code-health")
        self._lock = threading.Lock()
        self._running: dict[str, tuple[_State, Future[Examined]]] = {}
        self._known: dict[str, Examined] = {}

    def close(self) -> None:
        """Finish what is being measured, a matter of seconds, and forget what waits."""
        self._pool.shutdown(cancel_futures=True)

    def ask(self, collection: Collection) -> Future[Examined]:
        """The examination of the present state of `collection`, when it is done; the same for all who ask."""
        state = _state(collection)
        with self._lock:
            known = self._known.get(collection.name)
            if known is not None and known.state == state:
                done: Future[Examined] = Future()
                done.set_result(known)
                return done
            running = self._running.get(collection.name)
            if running is not None and running[0] == state and not running[1].done():
                return running[1]
            future = self._pool.submit(self._examine, collection)
            self._running[collection.name] = (state, future)
            return future

    def known(self) -> Mapping[str, Examined]:
        """The last examination of each collection that is still there, by name."""
        alive = self._engine.catalogue.all(reachable=True)
        with self._lock:
            self._known = {name: known for name, known in self._known.items() if name in alive}
            self._running = {name: running for name, running in self._running.items() if name in alive}
            return dict(self._known)

    def refresh(self, every_s: float) -> None:
        """Have every collection examined that has changed, unless it was less than `every_s` ago; does not wait."""
        known = self.known()
        # One in Milvus is examined when it is asked for: to read all its codes from there is not done by the way.
        for name, collection in self._engine.catalogue.embedded.all().items():
            last = known.get(name)
            if last is None or (last.state != _state(collection) and time.monotonic() - last.finished > every_s):
                self.ask(collection).add_done_callback(_log_failure)

    def _examine(self, collection: Collection) -> Examined:
        started = time.monotonic()
        sequence, model, codes = collection.codes()
        fingerprint = model.fingerprint if model else None
        profile, reason = self._profile(fingerprint, codes.shape[1] * 8)
        if profile is not None and len(codes) < LEAST:
            reason = f"drift is told from {LEAST} items on; the collection holds {len(codes)}"
        health = measure(codes, profile)
        finished = time.monotonic()
        examined = Examined(
            (collection.config.created_at, fingerprint, sequence),
            model,
            health,
            findings(health),
            reason,
            profile,
            now(),
            finished - started,
            finished,
        )
        with self._lock:
            self._known[collection.name] = examined
        return examined

    def _profile(self, fingerprint: str | None, bits: int) -> tuple[CodeProfile | None, str | None]:
        """What is known of the training set's codes, or why nothing is."""
        if fingerprint is None:
            return None, "the collection has no model, so there is no training set to compare with"
        try:
            entry = self._engine.registry.by_fingerprint(fingerprint)
        except UnknownModel as error:
            return None, str(error)
        if entry.artefact.codes is None:
            return None, f"{entry.reference} was saved without its training set's codes; train it again to know them"
        try:
            profile = CodeProfile.from_dict(entry.artefact.codes, bits)
        except InvalidCode as error:
            return None, f"{entry.reference}: {error}"
        if len(profile.sample) < LEAST:
            return None, f"{entry.reference} was trained on {profile.items} items; drift is told from {LEAST} on"
        return profile, None


def _state(collection: Collection) -> _State:
    """What a measurement is of. The time of creation tells a collection from an earlier one of its name."""
    model = collection.config.model
    return collection.config.created_at, model.fingerprint if model else None, collection.sequence


def _log_failure(future: Future[Examined]) -> None:
    if future.cancelled() or isinstance(error := future.exception(), UnknownCollection):
        return  # it has just been deleted
    if error is not None:
        log.error("the health of a collection could not be measured", exc_info=error)
