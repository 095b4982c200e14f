"""Moving a collection from the data directory to Milvus and back, and comparing the two before one is let go.

What is moved is there twice until the copy has proven equal, item by item and answer by answer; a move that ended
early is taken up where both are found. Nobody else may write meanwhile: the data directory is held by this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from index import Backend, Collection, Item, pack, unpack
from index.catalogue import STORE_FILE
from index.errors import NoSuchGeneration, StoreDamaged, UnknownCollection
from index.milvus import MilvusCatalogue

from .engine import Engine
from .errors import InvalidRequest

QUERIES = 32
_K = 10
_FLIPPED = 0.1
"""Share of the bits of a stored item's code that are turned for a query."""
_SAID = 1_000

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved, and what of it was compared."""

    collection: str
    backend: Backend
    items: int
    answers: int
    """Searches that both answered alike."""


def move(engine: Engine, name: str, to: Backend, progress: Progress) -> Moved:
    """Move the collection `name`; progress is told the items done, of twice as many as there are.

    Raises `InvalidRequest` where it is there already, `NoSuchGeneration` while it has codes of two models,
    `StoreDamaged` where the copy is not equal; then, and where Milvus goes away, everything is as it was.
    """
    milvus = engine.catalogue.milvus
    if milvus is None:
        raise InvalidRequest("there is no Milvus to move to or from: set HAMMINGBIRD_MILVUS_URI (milvus_uri)")
    here, there = _here(engine, name), _there(milvus, name)
    source, target = (here, there) if to == "milvus" else (there, here)
    if source is None:
        if target is None:
            engine.catalogue.get(name)  # says what there is
        raise InvalidRequest(f"collection {name!r} is {'in Milvus' if to == 'milvus' else 'embedded'} already")
    if len(source.generations.all()) > 1:
        raise NoSuchGeneration(
            f"collection {name!r} has codes of two models; give the second up first "
            "(DELETE /collections/{collection}/standby), or let it serve"
        )
    begun = target is None
    if target is None:
        target = _copied(engine, milvus, source, to, progress)
    try:
        answers = compare(source, target, lambda done: progress(len(source) + done, "comparing"))
    except BaseException:
        if begun:
            _delete(engine, milvus, name, to)
        raise
    _delete(engine, milvus, name, source.backend)
    return Moved(name, to, len(target), answers)


def compare(one: Collection, other: Collection, progress: Callable[[int], None] = lambda done: None) -> int:
    """Compare two collections item by item, then by searches; returns how many of those. Raises `StoreDamaged`."""
    if one.config != other.config:
        raise _different(one, f"its settings are {other.config}, they were {one.config}")
    sample: list[Item] = []
    rng = np.random.default_rng(0)
    for place, (left, right) in enumerate(zip_longest(one.scan(), other.scan())):
        if left != right:
            raise _different(one, f"item {getattr(left or right, 'id', '')!r} is not the same, or missing")
        if len(sample) < QUERIES:
            sample.append(left)
        elif (at := int(rng.integers(place + 1))) < QUERIES:  # each with the same chance (reservoir sampling)
            sample[at] = left
        if place % _SAID == 0:
            progress(place)
    for answers, item in enumerate(sample):
        bits = unpack(np.frombuffer(item.code, np.uint8))
        code = pack(np.where(rng.random(bits.shape) < _FLIPPED, 1 - bits, bits)[None] - 0.5)[0]
        reach = one.search(code, k=_K).hits[-1].distance
        for k, radius in ((_K, None), (None, reach)):
            pages = [place.search(code, k=k, radius=radius, codes=True) for place in (one, other)]
            hits, totals = [list(page.hits) for page in pages], [page.total for page in pages]
            if hits[0] != hits[1] or totals[0] != totals[1]:
                raise _different(one, f"search {answers} (k {k}, radius {radius}) has another answer")
    return 2 * len(sample)


def _different(collection: Collection, why: str) -> StoreDamaged:
    return StoreDamaged(f"the copy of collection {collection.name!r} is not equal to it: {why}; nothing was removed")


def _copied(engine: Engine, milvus: MilvusCatalogue, source: Collection, to: Backend, progress: Progress) -> Collection:
    if to == "milvus":
        return milvus.fill(source.config, _told(source.scan(), progress), source.fields, source.notes())
    draft = engine.catalogue.draft()
    draft.mkdir()
    source.copy_to(draft / STORE_FILE)
    engine.catalogue.embedded.adopt(draft, source.name)()
    progress(len(source), "copied")
    return engine.catalogue.embedded.get(source.name)


def _told(items: Iterator[Item], progress: Progress) -> Iterator[Item]:
    for place, item in enumerate(items):
        if place % _SAID == 0:
            progress(place, "copying")
        yield item


def _here(engine: Engine, name: str) -> Collection | None:
    with suppress(UnknownCollection):
        return engine.catalogue.embedded.get(name)
    return None


def _there(milvus: MilvusCatalogue, name: str) -> Collection | None:
    with suppress(UnknownCollection):
        return milvus.get(name)
    return None


def _delete(engine: Engine, milvus: MilvusCatalogue, name: str, backend: str) -> None:
    if backend == "milvus":
        milvus.delete(name)
    else:
        engine.catalogue.embedded.delete(name)
