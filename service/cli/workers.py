"""Ingest into a data directory by several processes: they read, decode and encode, and this one alone stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from index import Collection, Item
from index.errors import InvalidItem
from index.items import check_id
from models.data import Dataset
from models.readers import Files, Items

from ..bulk.pool import Pool, WorkerDied
from ..bulk.reading import read
from ..bulk.task import Made, Spec, Task, Told
from ..ingest import Prepared, target
from ..schemas import check_storable
from .base import CommandError
from .local import Local
from .tally import counting

_MOST_ITEMS = 250
_MOST_BYTES = 8 << 20
"""Of one task, by the sizes of files: a commit of tens of milliseconds, and what a few tasks hold is no memory."""
_WORKER_MB = 450
"""Of memory, most of it torch."""
_TASKS_EACH = 4
"""Tasks that a worker gets of little data, at least, so that none is idle for long at the end."""


def ingest_by_workers(
    local: Local,
    data: Dataset,
    collection: str,
    model: str | None,
    workers: int,
    *,
    skip_bad: bool = False,
    duplicates: tuple[str, int] | None = None,
) -> dict[str, int]:
    """What `ingest_through` does, with `workers` processes that make the codes.

    The same codes, counts and refusals, in the same order. Raises `CommandError` also where a process dies; what was
    stored until then stays, and to run the command again goes on from there.
    """
    source = _Source(local, data, collection, model)
    spec = Spec({entry.fingerprint: entry.artefact.folder for entry in source.entries}, local.engine.settings)
    with counting(data, collection, skip_bad=skip_bad, screened=duplicates is not None) as tally:
        try:
            with Pool(workers, spec) as pool:
                for chunk, told in pool.ordered(source.tasks(workers)):
                    items, unread = chunk.prepared(data, told)
                    reply = local.store(collection, model, items, duplicates) if items else None
                    tally.take([item.id for item in items], reply, unread, chunk.end - chunk.start)
                    tally.check()
        except WorkerDied as error:
            raise CommandError(
                f"{error}; {tally.stored:,} of {len(data):,} items are stored. Run the same command again to go on "
                f"from there; where memory ran out (a worker takes about {_WORKER_MB} MB), with fewer --workers"
            ) from None
    return tally.counts


@dataclass
class _Chunk:
    """The items from `start` to `end`: those that a worker is asked about, and what is known of the others."""

    start: int
    end: int
    asked: list[int]
    known: dict[int, Made] = field(default_factory=dict)
    unread: dict[int, str] = field(default_factory=dict)

    def prepared(self, data: Dataset, told: list[Told]) -> tuple[list[Prepared], list[tuple[str, str]]]:
        """The items to store, and the ids of those that cannot be read with the reason, each in their order."""
        for place, one in zip(self.asked, told, strict=True):
            if isinstance(one, str):
                self.unread[place] = one
            else:
                self.known[place] = one
        made = [(place, self.known[place]) for place in sorted(self.known)]
        return (
            [Prepared(data.ids[at], data.payload(at), data.kind, one.kept, one.codes) for at, one in made],
            [(data.ids[place], self.unread[place]) for place in sorted(self.unread)],
        )


class _Source:
    """Where tasks come from: the data set, less what is stored already with the same content."""

    def __init__(self, local: Local, data: Dataset, collection: str, model: str | None) -> None:
        engine = local.engine
        self._data = data
        self._most_items = min(_MOST_ITEMS, engine.settings.max_items)
        self._into, _, self._entry, _ = target(engine, collection, model)
        marks = [] if self._entry is None else [self._entry.fingerprint]
        if self._into is not None:
            marks += [one.fingerprint for one in self._into.generations.all() if one.fingerprint is not None]
        self.entries = [engine.registry.by_fingerprint(mark) for mark in dict.fromkeys(marks)]
        """Of the models that codes are needed of."""

    def tasks(self, workers: int) -> Iterator[tuple[_Chunk, Task]]:
        """The data set in chunks, each with what a worker is to do for it."""
        items, kind = self._data.items, self._data.kind
        for start, end in self._ranges(workers):
            if self._into is None or not len(self._into) or not self._into.config.keep_inputs:
                part = items[start:end]
                chunk = _Chunk(start, end, list(range(start, end)))
                yield chunk, Task(kind, np.asarray(part) if isinstance(part, np.ndarray) else part)
            else:
                chunk, kept = self._unknown(self._into, start, end)
                yield chunk, Task(kind, kept, read=True)

    def _unknown(self, into: Collection, start: int, end: int) -> tuple[_Chunk, list[bytes]]:
        """A chunk with what is stored just so known, and the bytes of the others.

        They are read here, since what is stored cannot be compared in another process.
        """
        data, chunk = self._data, _Chunk(start, end, [])
        items: dict[int, Item] = {}
        for place, kept in enumerate(read(data.kind, data.items[start:end]), start):
            if isinstance(kept, str):
                chunk.unread[place] = kept
            else:
                items[place] = Item(data.ids[place], b"", data.payload(place), data.kind, kept)
        places = [place for place, item in items.items() if _comparable(item)]
        mark = None if self._entry is None else self._entry.fingerprint
        for position, code in into.unchanged([items[place] for place in places], mark).items():
            chunk.known[places[position]] = Made(items[places[position]].input or b"", {str(mark): code})
        chunk.asked = [place for place in items if place not in chunk.known]
        return chunk, [items[place].input or b"" for place in chunk.asked]

    def _ranges(self, workers: int) -> Iterator[tuple[int, int]]:
        """Where each chunk starts and ends."""
        most = max(1, min(self._most_items, len(self._data) // (_TASKS_EACH * workers)))
        start, size = 0, 0
        for place in range(len(self._data)):
            more = _size(self._data.items, place)
            if place - start >= most or (place > start and size + more > _MOST_BYTES):
                yield start, place
                start, size = place, 0
            size += more
        yield start, len(self._data)


def _comparable(item: Item) -> bool:
    """Whether what is stored can be compared with an item; where not, storing it says what is wrong with it."""
    try:
        check_id(item.id)
        check_storable(item.payload)
    except (InvalidItem, ValueError):
        return False
    return True


def _size(items: Items, place: int) -> int:
    """About how many bytes an item takes; 0 of a file that is not there, which reading it will say."""
    if isinstance(items, Files):
        return items.size(place)
    item: Any = items[place]
    return len(item) if isinstance(item, str) else int(getattr(item, "samples", item).nbytes)
