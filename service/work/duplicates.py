"""Duplicates: the child finds all groups of items that lie within a radius of one another, and writes them to a file.

It reads the store read-only and works beside the service, at lower priority, so that searches go on as fast as there
are cores for them. The file, one group a line, lies in the collection's folder and goes with it; the newest job's file
takes the place of the one before.
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from index.errors import StoreFull, StoreUnavailable, UnknownCollection

from ..errors import NoGroups
from .base import Lines, Task, Work
from .places import folder_of, scratch_of

if TYPE_CHECKING:  # the child needs no engine, and no models
    from ..engine import Engine

_PREFIX, _DRAFT = "groups-", ".new"
_NICE = 10


def sweep(collections: Path) -> None:
    """Remove what jobs of an earlier process left half-written under the folder of all collections."""
    for draft in collections.glob(f"*/{_PREFIX}*{_DRAFT}"):
        draft.unlink()


def open_groups(engine: Engine, job: Mapping[str, Any]) -> IO[bytes]:
    """The file of all groups of a job, open for reading. Raises `NoGroups`."""
    if job["kind"] != "duplicates":
        raise NoGroups(f"job {job['id']} is a {job['kind']} job; only jobs of POST .../duplicates find groups")
    if job["state"] != "succeeded":
        raise NoGroups(f"job {job['id']} is {job['state']}; its groups are there when it has succeeded")
    name = job["result"]["collection"]
    try:
        return (folder_of(engine, name) / f"{_PREFIX}{job['id']}.ndjson").open("rb")
    except FileNotFoundError:
        raise NoGroups(
            f"the groups of job {job['id']} are gone: a later job took their place, or collection {name!r} is deleted; "
            "its result says what they were in short"
        ) from None


class Duplicates(Work):
    """One search for duplicates."""

    kind = "duplicates"

    def __init__(self, engine: Engine, collection: str, radius: int, max_groups: int) -> None:
        self._engine = engine
        self._collection = collection
        self._radius = radius
        self._max_groups = max_groups
        self._folder = folder_of(engine, collection)
        self._draft = self._folder / f"{_PREFIX}{uuid.uuid4().hex}{_DRAFT}"

    @property
    def subject(self) -> Mapping[str, str]:
        return {"collection": self._collection}

    def spec(self) -> Mapping[str, Any]:
        scratch = scratch_of(self._engine.settings)
        return {
            "collection": self._collection,
            "store": str(self.hold(self._engine.catalogue.get(self._collection).lent(scratch)).resolve()),
            "draft": str(self._draft),
            "radius": self._radius,
            "max_groups": self._max_groups,
            "max_ids": self._engine.settings.max_group_ids,
            "threads": os.cpu_count() or 1,
        }

    def finish(self, result: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
        task.go_on()
        kept = self._folder / f"{_PREFIX}{task.id}.ndjson"
        try:
            os.replace(self._draft, kept)
        except FileNotFoundError:
            raise UnknownCollection(f"collection {self._collection!r} was deleted while the job ran") from None
        for other in self._folder.glob(f"{_PREFIX}*.ndjson"):
            if other != kept:
                other.unlink(missing_ok=True)
        return result

    def discard(self) -> None:
        with suppress(OSError):
            self._draft.unlink(missing_ok=True)


def run(spec: Mapping[str, Any]) -> Lines:
    """The child's part."""
    from index.pairs import AllPairs, Groups
    from index.whole import Whole, named

    os.nice(_NICE)
    started = time.perf_counter()
    store = Path(spec["store"])
    whole = Whole.read(store)
    pairs = AllPairs(whole.bits, whole.codes, spec["radius"], threads=spec["threads"])
    groups = Groups.none(len(whole.keys), pairs.parts)
    for groups in pairs.groups():
        done = groups.progress
        spent = time.perf_counter() - started
        share = done.done / done.parts if done.parts else 1.0
        yield {
            "progress": {
                "stage": "comparing",
                "items": len(whole.keys),
                "done": round(share, 4),
                "pairs": groups.pairs,
                "eta_s": round(spent / share - spent, 1) if share else None,
            }
        }
    places, starts, sizes = groups.spans()
    spans = zip(starts.tolist(), sizes.tolist(), strict=True)
    keys = (whole.keys[places[start : start + size]].tolist() for start, size in spans)
    with _written(Path(spec["draft"]), spec["collection"]) as file:
        report = _Report(file, spec["max_groups"], spec["max_ids"])
        for ids, ends in named(store, keys):
            report.add(ids, ends)
            if report.due():
                yield {"progress": {"stage": "naming", "groups": report.groups, "of": len(sizes)}}
    yield {
        "result": {
            "collection": spec["collection"],
            "radius": spec["radius"],
            "items": len(whole.keys),
            "pairs": groups.pairs,
            **report.result(),
            "took_s": round(time.perf_counter() - started, 3),
        }
    }


@contextmanager
def _written(path: Path, collection: str) -> Iterator[IO[str]]:
    """A new file, on disk when the block ends."""
    try:
        with path.open("x", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        raise UnknownCollection(f"collection {collection!r} was deleted while the job ran") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("the disk is full; free some space and start the job again") from error
        raise StoreUnavailable(f"the groups could not be written: {error}") from error


class _Report:
    """Writes groups as they are named, and keeps the first of them for the job's result."""

    def __init__(self, file: IO[str], max_groups: int, max_ids: int) -> None:
        self._file = file
        self._max_groups, self._room = max_groups, max_ids
        self._held: list[str] = []  # of a group that has but one id so far
        self._size = 0
        self._listed: list[dict[str, Any]] = []
        self._said = 0
        self.groups = self.items = self.largest = 0

    def due(self) -> bool:
        """Whether enough was written since this was last asked to tell of it."""
        due = self.items - self._said >= 100_000
        if due:
            self._said = self.items
        return due

    def add(self, ids: Sequence[str], ends: bool) -> None:
        """Ids of the group at hand, and whether it ends. One with fewer than two is none."""
        ids = [*self._held, *ids]
        self._held = []
        if self._size == 0 and len(ids) < 2:
            self._held = [] if ends else ids
            return
        if not ids:
            return self._end() if ends else None
        self._file.write(", " if self._size else '{"ids": [')
        self._file.write(json.dumps(ids)[1:-1])
        self._list(ids)
        self._size += len(ids)
        if ends:
            self._end()

    def _list(self, ids: Sequence[str]) -> None:
        if self._size == 0:
            if len(self._listed) >= self._max_groups or self._room < 1:
                return
            self._listed.append({"size": 0, "ids": []})
        elif self.groups >= len(self._listed):
            return
        taken = ids[: self._room]
        self._room -= len(taken)
        self._listed[-1]["ids"] += taken

    def _end(self) -> None:
        self._file.write(f'], "size": {self._size}}}\n')
        if self.groups < len(self._listed):
            self._listed[-1]["size"] = self._size
        self.groups += 1
        self.items += self._size
        self.largest = max(self.largest, self._size)
        self._size = 0

    def result(self) -> dict[str, Any]:
        """What the job's result says of the groups."""
        listed = [{**group, "complete": len(group["ids"]) == group["size"]} for group in self._listed]
        return {
            "groups_total": self.groups,
            "items_in_groups": self.items,
            "largest": self.largest,
            "groups": listed,
            "complete": len(listed) == self.groups and all(group["complete"] for group in listed),
        }
