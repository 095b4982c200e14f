"""Snapshots of collections, as files on the service's own disk; and the writing of every archive.

Layout: `<root>/<collection>/<name>.tar`, beside each its SHA-256 as `sha256sum` writes it. A snapshot outlives its
collection: it may be what brings it back. Everything is made under a name that starts with `.new-` and gets its own
when it is on disk.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from index import Collection
from index.catalogue import NAME
from index.copying import Holding, verify
from index.errors import StoreFull, StoreUnavailable
from models.artefact import FILES, read_artefact, sync_folder
from models.registry import Entry, Registry

from . import __version__, archive
from .errors import InvalidRequest, Overloaded, SnapshotExists, SnapshotRefused, UnknownSnapshot
from .manifest import FORMAT, ArchivedCollection, ArchivedModel, Manifest, names_of
from .room import room_of


@dataclass(frozen=True, slots=True)
class Store:
    """A collection's store on disk: its size, and what copies it in one committed state."""

    size: int
    copy: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Written:
    """A finished archive."""

    path: Path
    sha256: str
    manifest: Manifest

    @property
    def size(self) -> int:
        return archive.size_of(self.manifest)


class Snapshots:
    """The snapshots under `root`. Safe to use from many threads; one is made or restored at a time."""

    def __init__(self, root: Path, least_free: int) -> None:
        """least_free: bytes of the disk that are left."""
        self._root, self._least_free = root, least_free
        self._busy = threading.Lock()
        for left in root.glob("*/.new-*"):  # by a crash
            left.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For the block no other snapshot is made or restored. Raises `Overloaded` where one is."""
        if not self._busy.acquire(blocking=False):
            raise Overloaded("a snapshot is being made or restored, and one at a time is; try again when it is done")
        try:
            yield
        finally:
            self._busy.release()

    def create(self, collection: Collection, registry: Registry, name: str | None = None) -> Written:
        """A snapshot of the collection as it is now. Raises `SnapshotExists`, `StoreDamaged`, `StoreFull`."""
        now = datetime.now(UTC)
        name = name or f"{now:%Y%m%dt%H%M%S}-{uuid.uuid4().hex[:8]}"
        if not NAME.fullmatch(name):
            raise InvalidRequest(
                "a snapshot's name has 1 to 63 characters: lower-case letters, digits, '-' and '_', "
                "starting with a letter or digit"
            )
        with self.alone():
            folder = self._root / collection.name
            target = folder / f"{name}.tar"
            if target.exists():
                raise SnapshotExists(f"collection {collection.name!r} already has a snapshot {name!r}; delete it first")
            folder.mkdir(parents=True, exist_ok=True)
            # What one in Milvus will take is not known; the disk is then looked at as it fills.
            store = Store(collection.bytes_on_disk() or 0, collection.copy_to)
            return write_archive(
                target, {collection.name: store}, registry, now=now, least_free=self._least_free, with_sum=True
            )

    def list(self, collection: str) -> tuple[list[Written], dict[str, str]]:
        """The snapshots of `collection`, newest first, and what is wrong with those that cannot be read."""
        found, damaged = [], {}
        for path in (self._root / collection).glob("*.tar") if NAME.fullmatch(collection) else ():
            try:
                found.append(self._read(path))
            except FileNotFoundError:
                continue  # deleted meanwhile
            except (SnapshotRefused, OSError) as error:
                damaged[path.stem] = str(error)
        return sorted(found, key=lambda one: one.manifest.created_at, reverse=True), damaged

    def get(self, collection: str, name: str) -> Path:
        """The file of a snapshot. Raises `UnknownSnapshot`."""
        path = self._root / collection / f"{name}.tar"
        if not (NAME.fullmatch(collection) and NAME.fullmatch(name) and path.is_file()):
            names = ", ".join(one.path.stem for one in self.list(collection)[0][:10]) or "none"
            raise UnknownSnapshot(f"collection {collection[:64]!r} has no snapshot {name[:64]!r}; it has: {names}")
        return path

    def checksum(self, path: Path) -> str:
        """The SHA-256 that the file had when it was written."""
        return path.with_suffix(".sha256").read_text().split()[0]

    def delete(self, collection: str, name: str) -> None:
        """Delete a snapshot. Raises `UnknownSnapshot`."""
        path = self.get(collection, name)
        path.unlink()
        path.with_suffix(".sha256").unlink(missing_ok=True)
        sync_folder(path.parent)

    def _read(self, path: Path) -> Written:
        with path.open("rb") as file:
            manifest = archive.Reading(file).manifest
        try:
            return Written(path, self.checksum(path), manifest)
        except (OSError, ValueError, IndexError):
            raise SnapshotRefused(f"the checksum beside {path.name} is missing or not what was written") from None


def check_room(folder: Path, need: int, least_free: int, what: str) -> None:
    """Raise `StoreFull` where the disk of `folder` has no room for `need` bytes and the `least_free` to be left."""
    free = room_of(folder).free
    if free < need + least_free:
        raise StoreFull(
            f"{what} takes {need:,} bytes and leaves {least_free:,} (min_free_bytes); the disk has {free:,} free. Free "
            "some space and try again"
        )


def write_archive(
    target: Path,
    stores: Mapping[str, Store],
    registry: Registry,
    more: Sequence[Entry] = (),
    *,
    now: datetime,
    least_free: int,
    with_sum: bool = False,
) -> Written:
    """Write an archive of `stores`, by name, with their models and `more` of them; `target` is there whole or not.

    What was copied is verified as a restore would, so that what has been written can be restored. with_sum: put a file
    with the checksum beside it. Raises `StoreDamaged`, `StoreFull`, `UnknownModel`, `ArtefactDamaged`.
    """
    draft = target.with_name(f".new-{uuid.uuid4().hex}")
    try:
        check_room(target.parent, 2 * sum(store.size for store in stores.values()), least_free, target.name)
        collections, files = [], []
        models = {entry.fingerprint: entry for entry in more}
        for number, (name, store) in enumerate(stores.items()):
            copied = draft.with_name(f"{draft.name}-{number}.db")
            store.copy(copied)
            held = verify(copied)
            for key in held.models:
                models.setdefault(key.fingerprint, registry.by_fingerprint(key.fingerprint))
            collections.append(described(name, held))
            files.append(copied)
        archived = []
        for entry in models.values():
            folder = read_artefact(entry.artefact.folder).folder  # verified
            archived.append(_described_model(entry))
            files += [folder / file for file in archived[-1].files]
        manifest = _manifest(collections, archived, files, now)
        digest = archive.write(draft, manifest, files)
        if with_sum:
            _write_sum(draft, target, digest)
        os.rename(draft, target)
        sync_folder(target.parent)
        return Written(target, digest, manifest)
    except FileNotFoundError as error:
        raise StoreUnavailable(f"{error.filename} was deleted while it was copied; try again") from error
    finally:
        for left in target.parent.glob(f"{draft.name}*"):
            left.unlink()
        if with_sum and not target.exists():
            target.with_suffix(".sha256").unlink(missing_ok=True)


def described(name: str, held: Holding) -> ArchivedCollection:
    """What a manifest says of the collection `name`, which holds that."""
    return ArchivedCollection(
        name=name,
        bits=held.config.bits,
        keep_inputs=held.config.keep_inputs,
        created_at=held.config.created_at,
        sequence=held.sequence,
        items=held.items,
        models=[key.fingerprint for key in held.models],
    )


def _described_model(entry: Entry) -> ArchivedModel:
    return ArchivedModel(
        name=entry.name,
        version=entry.version,
        fingerprint=entry.fingerprint,
        aliases=list(entry.aliases),
        files=[file for file in FILES if (entry.artefact.folder / file).exists()],
    )


def _manifest(
    collections: list[ArchivedCollection], models: list[ArchivedModel], files: Sequence[Path], now: datetime
) -> Manifest:
    names = names_of(collections, models)
    return Manifest(
        format=FORMAT,
        hammingbird=__version__,
        created_at=now.isoformat(timespec="milliseconds"),
        collections=collections,
        models=models,
        members=[archive.member_of(name, path) for name, path in zip(names, files, strict=True)],
    )


def _write_sum(draft: Path, target: Path, digest: str) -> None:
    new = draft.with_name(f"{draft.name}.sha256")
    with new.open("x") as file:
        file.write(f"{digest}  {target.name}\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, target.with_suffix(".sha256"))
