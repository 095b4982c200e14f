"""Calibration: the child counts what lies at each distance of a sample of queries, and the service keeps the curve.

Three ways to know what is right. By labels: two items belong together when they have the same. By given pairs: they are
taken to be drawn as searches meet them. By augmentation, without any label: a query is a stored item changed a little,
that item is right and every other is wrong, so the share of right ones is that of a collection which holds one right
answer to each query among all its items.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from index.errors import GenerationChanged
from models.errors import DataError

from .base import Lines, Task, Work
from .places import scratch_of

if TYPE_CHECKING:  # the child needs no engine
    from index.whole import Whole

    from ..engine import Engine

_BATCH = 64
"""Items that are changed and encoded at a time."""
_NICE = 10
_TARGETS = (0.8, 0.9, 0.95, 0.99)
_PLAIN = 500
"""Queries that tell how much a search finds, where pairs tell how much of it is right."""


class Calibrate(Work):
    """One calibration."""

    kind = "calibrate"

    def __init__(self, engine: Engine, collection: str, asked: Mapping[str, Any]) -> None:
        """asked: `by`, `field`, `queries`, `strength`, `seed`, and for pairs `pairs` and their `fingerprint`."""
        self._engine = engine
        self._collection = collection
        self._asked = asked

    @property
    def subject(self) -> Mapping[str, str]:
        return {"collection": self._collection}

    def spec(self) -> Mapping[str, Any]:
        lent = self._engine.catalogue.get(self._collection).lent(scratch_of(self._engine.settings))
        spec = {
            **self._asked,
            "collection": self._collection,
            "store": str(self.hold(lent).resolve()),
            "threads": os.cpu_count() or 1,
        }
        if self._asked["by"] == "augmentation":
            entry, _ = self._engine.model_of(self._engine.catalogue.get(self._collection))
            spec |= {"model": str(entry.artefact.folder.resolve()), "fingerprint": entry.fingerprint}
        return spec

    def finish(self, result: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
        from ..calibration import best_radius, note_of

        collection = self._engine.catalogue.get(self._collection)
        model = collection.config.model
        if result["fingerprint"] != (model and model.fingerprint):
            raise GenerationChanged(
                f"collection {self._collection!r} went over to another model meanwhile; calibrate it again"
            )
        task.go_on()
        collection.note(note_of(result["fingerprint"]), result)
        shown = {name: value for name, value in result.items() if name != "curve"}
        return {**shown, "radius_for": {str(target): best_radius(result["curve"], target) for target in _TARGETS}}

    def discard(self) -> None:
        pass  # nothing is kept before it is finished


def run(spec: Mapping[str, Any]) -> Lines:
    """The child's part."""
    from index.whole import Whole

    from ..calibration import CONFIDENCE, curve_of

    os.nice(_NICE)
    started = time.perf_counter()
    whole = Whole.read(Path(spec["store"]), spec["field"] if spec["by"] == "labels" else None)
    if "fingerprint" in spec and spec["fingerprint"] != whole.fingerprint:
        raise GenerationChanged("the collection has gone over to another model meanwhile; calibrate it again")
    rng = np.random.default_rng(spec["seed"])
    ways = {"labels": _by_labels, "pairs": _by_pairs, "augmentation": _by_augmentation}
    counted: dict[str, NDArray[np.int64]] = {}
    for line in ways[spec["by"]](spec, whole, rng, counted):
        yield {"progress": {**line, "took_s": round(time.perf_counter() - started, 1)}}
    clusters = len(counted["relevant"])
    half = np.zeros(clusters, np.bool_)
    half[rng.permutation(clusters)[: (clusters + 1) // 2]] = True
    curve = curve_of(counted["right"], counted["found"], counted["relevant"], counted["results"], half)
    yield {
        "result": {
            "collection": spec["collection"],
            "fingerprint": whole.fingerprint,
            "by": spec["by"],
            "field": spec["field"] if spec["by"] == "labels" else None,
            "items": len(whole.keys),
            "queries": int(half.sum()),
            "queries_held_out": int((~half).sum()),
            "confidence": CONFIDENCE,
            "seed": spec["seed"],
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "took_s": round(time.perf_counter() - started, 3),
            "curve": curve,
        }
    }


Progress = Iterator[dict[str, Any]]


def _count(
    spec: Mapping[str, Any],
    whole: Whole,
    queries: NDArray[np.uint8],
    places: NDArray[np.int64],
    counted: dict[str, NDArray[np.int64]],
    classes: NDArray[np.int32] | None = None,
) -> Progress:
    """Put into `counted` what lies within each radius of the queries: `all`, `labelled` and `same`, `(q, bits + 1)`."""
    from index.distances import counts_of

    own = None if classes is None else classes[places]
    parts: list[NDArray[np.int64]] = []
    done = 0
    for part in counts_of(
        whole.bits, whole.codes, queries, skip=places, classes=classes, own=own, threads=spec["threads"]
    ):
        parts.append(part)
        done += len(part)
        yield {"stage": "comparing", "queries": done, "of": len(queries)}
    within = np.cumsum(np.concatenate(parts), axis=2)
    counted["all"], counted["labelled"], counted["same"] = within[:, 0], within[:, 1], within[:, 2]


def _by_labels(
    spec: Mapping[str, Any], whole: Whole, rng: np.random.Generator, counted: dict[str, NDArray[np.int64]]
) -> Progress:
    assert whole.classes is not None
    labelled = np.flatnonzero(whole.classes >= 0)
    field = spec["field"]
    if len(labelled) < 2:
        raise DataError(
            f"{len(labelled)} of {len(whole.keys)} items have a value in the payload field {field!r}; name the field "
            "that holds the labels, give pairs, or calibrate by augmentation"
        )
    if len(np.unique(whole.classes[labelled])) == len(labelled):
        raise DataError(f"no two items have the same value in the payload field {field!r}, so nothing belongs together")
    places = np.sort(rng.permutation(labelled)[: spec["queries"]])
    yield from _count(spec, whole, whole.codes[places], places, counted, whole.classes)
    counted["right"], counted["found"], counted["results"] = counted["same"], counted["labelled"], counted["all"]
    counted["relevant"] = counted["same"][:, -1]


def _by_pairs(
    spec: Mapping[str, Any], whole: Whole, rng: np.random.Generator, counted: dict[str, NDArray[np.int64]]
) -> Progress:
    from index import from_hex, hamming

    a, b = (np.stack([from_hex(pair[side], whole.bits) for pair in spec["pairs"]]) for side in (0, 1))
    same = np.array([pair[2] for pair in spec["pairs"]], np.bool_)
    within = hamming(a, b)[:, None] <= np.arange(whole.bits + 1)  # (pairs, bits + 1)
    places = np.sort(rng.permutation(len(whole.keys))[:_PLAIN])
    if len(places):
        yield from _count(spec, whole, whole.codes[places], places, counted)
    counted["results"] = counted.get("all", np.zeros((1, whole.bits + 1), np.int64))
    counted["right"] = (within & same[:, None]).astype(np.int64)
    counted["found"] = within.astype(np.int64)
    counted["relevant"] = same.astype(np.int64)


def _by_augmentation(
    spec: Mapping[str, Any], whole: Whole, rng: np.random.Generator, counted: dict[str, NDArray[np.int64]]
) -> Progress:
    from index import hamming, pack
    from models.artefact import load_model

    model = load_model(Path(spec["model"]))
    places, codes = [], []
    wanted = rng.permutation(len(whole.keys))[: spec["queries"]]
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        known, items = _changed(spec, whole, part, model.input.kind, rng)
        if items:
            codes.append(pack(model.logits([model.input.shrink(item) for item in items])))
            places += known
        yield {"stage": "encoding", "queries": start + len(part), "of": len(wanted)}
    if len(places) < 2:
        raise DataError(
            f"{len(places)} of the items looked at have a kept {model.input.kind} input to be changed a little; "
            "calibrate by labels or by pairs"
        )
    at, queries = np.array(places), np.concatenate(codes)
    yield from _count(spec, whole, queries, at, counted)
    own = hamming(queries, whole.codes[at])[:, None] <= np.arange(whole.bits + 1)
    counted["right"] = own.astype(np.int64)
    counted["found"] = counted["results"] = counted["all"] + counted["right"]
    counted["relevant"] = np.ones(len(at), np.int64)


def _changed(
    spec: Mapping[str, Any], whole: Whole, places: NDArray[np.int64], kind: str, rng: np.random.Generator
) -> tuple[list[int], list[Any]]:
    """Those of `places` whose inputs are kept, and the inputs changed a little."""
    from index.store import read_only

    from ..augment import augmented
    from ..kept import KeptItems

    known, items = [], []
    with read_only(Path(spec["store"])) as reader:
        id_of = {key: id for id, key in reader.ids(whole.keys[places].tolist(), after=None, limit=len(places))}
        for place in places.tolist():
            id = id_of.get(int(whole.keys[place]))
            item = None if id is None else reader.get(id)
            if item is not None and item.kind == kind and item.input is not None:
                known.append(place)
                items.append(augmented(kind, KeptItems(reader, [item.id])[0], rng, spec["strength"]))
    return known, items
