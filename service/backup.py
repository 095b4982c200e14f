"""A backup: the collections and models of a data directory in one file, whoever serves it meanwhile.

The directory is not locked: each store is read by a connection of its own, read-only, in one committed state. Keys and
the history of jobs are not part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from index.catalogue import NAME, STORE_FILE
from index.copying import copy_file
from index.errors import DataDirectoryError, UnknownCollection
from models.errors import ArtefactDamaged
from models.registry import Registry

from .errors import SnapshotExists
from .settings import Settings
from .snapshots import Store, Written, write_archive


def backup(
    settings: Settings,
    names: Sequence[str],
    to: Path,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> Written:
    """Write an archive of the collections called `names` with their models, or of everything where none is named.

    to: the file, or a folder to hold one with the time in its name. progress: told the share done, and of which
    collection. Raises `DataDirectoryError`, `UnknownCollection`, `SnapshotExists`, `StoreDamaged`, `ArtefactDamaged`.
    """
    data_dir = settings.data_dir
    root = data_dir / "collections"
    if not root.is_dir():
        raise DataDirectoryError(f"there is no data directory {data_dir}; name the right one with --data-dir")
    there = sorted(path.parent.name for path in root.glob(f"*/{STORE_FILE}") if NAME.fullmatch(path.parent.name))
    for name in names:
        if name not in there:
            known = ", ".join(there[:20]) or "none"
            raise UnknownCollection(f"there is no collection {name[:64]!r}; there are: {known}")
    chosen = list(dict.fromkeys(names)) or there
    registry = Registry(settings.models_path, tidy=False)
    if not names and registry.damaged:
        model, why = next(iter(registry.damaged.items()))
        raise ArtefactDamaged(f"model {model} is damaged: {why}. Name collections to back up those and their models")
    now = datetime.now(UTC)
    sizes = {name: _size(root / name) for name in chosen}
    done = 0

    def copy(name: str, target: Path) -> None:
        nonlocal done
        progress(done / max(1, sum(sizes.values())), name)
        copy_file(root / name / STORE_FILE, target)
        done += sizes[name]

    written = write_archive(
        _target(to, chosen[0] if len(names) == 1 else "hammingbird", now),
        {name: Store(sizes[name], partial(copy, name)) for name in chosen},
        registry,
        () if names else registry.list(),
        now=now,
        least_free=settings.min_free_bytes,
    )
    progress(1, "done")
    return written


def _target(to: Path, what: str, now: datetime) -> Path:
    if to.is_dir():
        to = to / f"{what}-{now:%Y%m%dt%H%M%Sz}.tar"
    if not to.parent.is_dir():
        raise DataDirectoryError(f"there is no folder {to.parent}; make it first")
    if to.exists():
        raise SnapshotExists(
            f"{to} is there already; name another file, or a folder to hold one with the time in its name"
        )
    return to


def _size(folder: Path) -> int:
    size = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a file that its owner has just replaced
            size += path.stat().st_size
    return size
