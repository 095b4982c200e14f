"""Going over to another model: the child encodes what is stored, the service stores the codes, tries them, and flips.

The collection serves all the while, and everything written to it is encoded by both models (see `twofold`). Whatever
ends the job early leaves the old codes serving and drops the new ones; so does the next start, where the service died.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from index import Collection, Generation
from index.errors import NoSuchGeneration, UnknownCollection
from models.errors import InvalidInput
from models.registry import Entry

from .. import comparison
from ..codecs import from_bytes
from ..engine import Engine, key_of
from ..errors import InvalidRequest
from ..kept import unlimited
from ..schemas.generations import GateOptions
from .base import Lines, Task, Work
from .places import scratch_of

_CHUNK = 256
"""Items that are encoded at once: as many as keep a small model busy, and few enough for large pictures."""
_SAY_S = 0.2
_ROUNDS = 1_000
"""Of a thousand items each: what is left over after so many is being written faster than it can be encoded."""


class Reencode(Work):
    """One change of model."""

    kind = "reencode"

    def __init__(
        self, engine: Engine, collection: Collection, entry: Entry, gate: GateOptions | None, *, flip: bool
    ) -> None:
        self._engine, self._collection, self._entry = engine, collection, entry
        self._gate, self._flip = gate, flip
        self._generation: Generation | None = None
        self._stays = False
        self._started = self._said = 0.0
        self._done = self._total = 0

    @property
    def subject(self) -> Mapping[str, str]:
        return {"collection": self._collection.name, "model": self._entry.reference}

    def spec(self) -> Mapping[str, Any]:
        """Begins the new generation: from here on everything written is encoded by both models."""
        self._generation = self._engine.begin_generation(self._collection, self._entry)
        self._total, self._started = len(self._collection), time.monotonic()
        lent = self._collection.generations.uncoded(self._generation.number, scratch_of(self._engine.settings))
        store, number = self.hold(lent)
        return {
            "store": str(store.resolve()),
            "generation": number,
            "model": str(self._entry.artefact.folder.resolve()),
            "threads": self._engine.settings.threads,
        }

    def take(self, line: Mapping[str, Any], task: Task) -> None:
        """Codes of some of the items."""
        assert self._generation is not None  # made by `spec`
        codes = np.frombuffer(bytes.fromhex(line["codes"]), np.uint8).reshape(len(line["keys"]), -1)
        self._collection.generations.fill(self._generation.number, line["keys"], codes)
        self._done += len(line["keys"])
        if time.monotonic() - self._said >= _SAY_S:
            self._say(task, "encoding")

    def _say(self, task: Task, stage: str) -> None:
        self._said = time.monotonic()
        rate = self._done / max(self._said - self._started, 1e-9)
        left = max(self._total - self._done, 0) / rate if rate else None
        task.progress(
            {
                "stage": stage,
                "done": self._done,
                "total": max(self._total, self._done),
                "items_per_s": round(rate, 1),
                "eta_s": None if left is None else round(left, 1),
            }
        )

    def finish(self, result: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
        generation = self._generation
        assert generation is not None  # made by `spec`
        told = {
            "collection": self._collection.name,
            "model": {"name": self._entry.name, "version": self._entry.version, "fingerprint": self._entry.fingerprint},
            "encoded": self._done,
        }
        self._say(task, "comparing")
        self._fill_leftover(generation, task)
        generations = self._collection.generations
        with generations.trial(generation.number) as trial:
            report = None if self._gate is None else self._compare(trial, self._gate, task)
        successor = trial.successor
        if not self._flip:
            task.go_on()
            generations.make_ready(generation.number)
            self._stays = True
            return {**told, "flipped": False, "report": report}
        self._say(task, "flipping")
        task.go_on()
        waited = generations.flip(generation.number, successor)
        self._stays = True
        return {**told, "flipped": True, "writers_waited_ms": round(waited * 1000, 1), "report": report}

    def _fill_leftover(self, generation: Generation, task: Task) -> None:
        """Encode what others wrote while the child worked, as far as their codes did not come with it."""
        generations, model = self._collection.generations, self._engine.registry.load(self._entry)
        for _ in range(_ROUNDS):
            items = generations.leftover(generation.number)
            if not items:
                return
            inputs = [
                model.input.shrink(from_bytes(item.input or b"", item.kind or "", unlimited()).item) for item in items
            ]
            generations.fill_items(generation.number, items, self._engine.encode(model, inputs))
            self._done += len(items)
            task.go_on()

    def _compare(self, trial: Any, gate: GateOptions, task: Task) -> dict[str, Any]:
        _, old = self._engine.model_of(self._collection)
        new = self._engine.registry.load(self._entry)
        recent = self._engine.recent.of(self._collection)
        queries = comparison.queries_for(trial, recent, old, gate.queries)
        report = comparison.compare(trial, old, new, queries, task.go_on)
        comparison.check(report, gate)
        return report

    def discard(self) -> None:
        if self._generation is not None and not self._stays:
            with suppress(NoSuchGeneration, UnknownCollection):  # it was given up, or all of it deleted, meanwhile
                self._collection.generations.drop(self._generation.number)


def check(engine: Engine, collection: Collection, entry: Entry) -> None:
    """Raise where `collection` cannot go over to the model `entry`, before a job is made of it."""
    present, old = engine.model_of(collection)
    new = engine.registry.load(entry)
    if new.input.kind != old.input.kind:
        raise InvalidRequest(
            f"collection {collection.name!r} holds {old.input.kind} items ({present.reference}); {entry.reference} "
            f"takes {new.input.kind}"
        )
    collection.generations.check_begin(key_of(entry))


def run(spec: Mapping[str, Any]) -> Lines:
    """The child's part."""
    import torch

    from index import pack
    from index.store import read_only
    from models.artefact import load_model

    os.nice(10)  # those who search and write come first
    torch.set_num_threads(spec["threads"])
    model = load_model(Path(spec["model"]))
    after = -1
    while True:
        # A transaction each, so that the log of the store can be emptied in between.
        with read_only(Path(spec["store"])) as reader:
            rows = reader.uncoded(spec["generation"], after=after, limit=_CHUNK)
        if not rows:
            break
        items = []
        for _, item in rows:
            if item.kind is None or item.input is None:
                raise InvalidInput(f"item {item.id!r} has no kept input; it was written after the job began")
            items.append(model.input.shrink(from_bytes(item.input, item.kind, unlimited()).item))
        try:
            codes = pack(model.logits(items))
        except InvalidInput as error:
            at = rows[error.position][1].id if error.position is not None else None
            raise InvalidInput(f"the model refuses item {at!r}: {error}", position=error.position) from None
        yield {"keys": [key for key, _ in rows], "codes": codes.tobytes().hex()}
        after = rows[-1][0]
    yield {"result": {}}
