"""Bringing back what an archive holds: verified whole before any of it can be seen, then in place by rename.

Stores and models are unpacked into the places where drafts of collections and models always are, which every start
clears. The models come first, since a collection without its model is of no use; a note of them lies on disk until the
collections are there too, so that a start after a crash takes them away again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from index import copying
from index.catalogue import STORE_FILE, check_name
from index.errors import StoreDamaged
from models.artefact import load_model, read_artefact, sync_folder
from models.errors import ModelsError
from models.registry import Entry

from . import archive
from .engine import RESTORING, Engine, key_of
from .errors import InvalidRequest, SnapshotRefused, TooLarge
from .manifest import ArchivedModel, Manifest
from .snapshots import check_room, described

LINGER_S = 1.0
"""What is replaced serves those who have just asked for it so much longer."""


@dataclass(frozen=True, slots=True)
class RestoredModel:
    """A model of an archive, as it is here now."""

    entry: Entry
    archived: ArchivedModel
    added: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What has been restored."""

    collections: list[str]
    replaced: list[str]
    models: list[RestoredModel]


def restore(
    engine: Engine,
    source: archive.Source,
    *,
    name: str | None = None,
    replace_there: bool = False,
    most_bytes: int | None = None,
    linger_s: float = LINGER_S,
) -> Restored:
    """Restore the collections and models in the archive `source`, each collection whole or not at all.

    name: what its only collection is called from now on. replace_there: collections of these names, which serve until
    that moment, and those who have just asked for them `linger_s` longer. most_bytes: of the archive. Raises
    `SnapshotRefused`, `CollectionExists`, `InvalidRequest`, `TooLarge`, `StoreFull`, `Overloaded`; then nothing has
    changed.
    """
    with engine.snapshots.alone():
        reading = archive.Reading(source)
        manifest = reading.manifest
        size = archive.size_of(manifest)
        if most_bytes is not None and size > most_bytes:
            raise TooLarge(f"the snapshot has {size:,} bytes, the limit is {most_bytes:,} (max_snapshot_bytes)")
        work = _Restore(engine, manifest, _names(manifest, name), replace_there)
        try:
            check_room(engine.settings.data_dir, size, engine.settings.min_free_bytes, "the snapshot")
            reading.extract(work.places())
            work.verify()
            return work.publish(linger_s)
        finally:
            work.clean()


def _names(manifest: Manifest, name: str | None) -> dict[str, str]:
    """What each collection of the archive is to be called."""
    if name is None:
        return {one.name: one.name for one in manifest.collections}
    if len(manifest.collections) != 1:
        raise InvalidRequest(
            f"the file holds {len(manifest.collections)} collections; a new name can be given where it holds one, so "
            "leave the name out"
        )
    check_name(name)
    return {manifest.collections[0].name: name}


class _Restore:
    """One restore, from the manifest to the end."""

    def __init__(self, engine: Engine, manifest: Manifest, names: Mapping[str, str], replace_there: bool) -> None:
        self._engine, self._manifest, self._names, self._replace = engine, manifest, names, replace_there
        if not replace_there:
            for target in names.values():
                engine.catalogue.check_free(target)
        here = {entry.fingerprint for entry in engine.registry.list()}
        self._stores = {one.name: engine.catalogue.draft() for one in manifest.collections}
        self._models = {
            model.fingerprint: engine.registry.draft(model.name)
            for model in manifest.models
            if model.fingerprint not in here
        }
        self._new_names = {draft.parent for draft in self._models.values() if not draft.parent.exists()}

    def places(self) -> dict[str, Path]:
        """Where the members go: drafts of collections, and of those models that are not here yet."""
        for folder in [*self._stores.values(), *self._models.values()]:
            folder.mkdir(parents=True)
        places = {one.member: self._stores[one.name] / STORE_FILE for one in self._manifest.collections}
        for model in self._manifest.models:
            if model.fingerprint in self._models:
                draft = self._models[model.fingerprint]
                places |= {member: draft / file for member, file in zip(model.members, model.files, strict=True)}
        return places

    def verify(self) -> None:
        """Check what was unpacked as thoroughly as it can be. Raises `SnapshotRefused`."""
        widths = {entry.fingerprint: entry.artefact.config["bits"] for entry in self._engine.registry.list()}
        for model in self._manifest.models:
            if model.fingerprint in self._models:
                widths[model.fingerprint] = _width(model, self._models[model.fingerprint])
        for one in self._manifest.collections:
            try:
                held = copying.verify(
                    self._stores[one.name] / STORE_FILE, most_input_bytes=self._engine.settings.max_body_bytes
                )
            except StoreDamaged as error:
                raise SnapshotRefused(f"{one.member}: {error}") from None
            if one != described(one.name, held):
                raise SnapshotRefused(f"{one.member} does not hold what the manifest says")
            for codes in held.generations:
                if codes.model is not None and widths[codes.model.fingerprint] != codes.bits:
                    raise SnapshotRefused(f"{one.member} has codes of {codes.bits} bits, their model makes others")

    def publish(self, linger_s: float) -> Restored:
        """Let all of it be seen."""
        engine = self._engine
        note = engine.settings.data_dir / RESTORING
        retire: list[Callable[[], None]] = []
        try:
            with engine.bound():
                _save(note, list(self._models))
                models = [self._add(model) for model in self._manifest.models]
                keys = {one.entry.fingerprint: key_of(one.entry) for one in models}
                for name, target in self._names.items():
                    copying.rename(self._stores[name] / STORE_FILE, target, keys)
                there = {*engine.catalogue.all(), *engine.catalogue.damaged}
                for name, target in self._names.items():
                    retire.append(engine.catalogue.adopt(self._stores[name], target, replace=self._replace))
                note.unlink()
        except BaseException:
            engine.forget_unfinished()
            raise
        finally:
            if self._replace and retire:
                time.sleep(linger_s)
            for finish in retire:
                finish()
        targets = list(self._names.values())
        return Restored(
            targets, [target for target in targets if target in there], [self._aliased(one) for one in models]
        )

    def _add(self, model: ArchivedModel) -> RestoredModel:
        registry, draft = self._engine.registry, self._models.get(model.fingerprint)
        if draft is None:
            return RestoredModel(registry.by_fingerprint(model.fingerprint), model, added=False)
        return RestoredModel(registry.add(model.name, draft, version=model.version), model, added=True)

    def _aliased(self, one: RestoredModel) -> RestoredModel:
        """The same with the aliases that it had, where its name has none of these yet."""
        registry = self._engine.registry
        taken = {alias for entry in registry.list() if entry.name == one.entry.name for alias in entry.aliases}
        if one.added:
            for alias in set(one.archived.aliases) - taken:
                registry.alias(one.entry.reference, alias)
        return replace(one, entry=registry.get(one.entry.reference))

    def clean(self) -> None:
        """Remove what has not found its place."""
        for folder in [*self._stores.values(), *self._models.values()]:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self._new_names:
            with suppress(OSError):  # it has a model now
                folder.rmdir()


def _width(model: ArchivedModel, draft: Path) -> int:
    """The bits of the model in `draft`, when it has proven to be `model`."""
    try:
        artefact = read_artefact(draft)
        load_model(draft)
    except (ModelsError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise SnapshotRefused(f"the model {model.reference}: {error}".replace(f"{draft}: ", "")) from None
    if artefact.fingerprint != model.fingerprint:
        raise SnapshotRefused(f"the model {model.reference} is not the one that the manifest names")
    bits: int = artefact.config["bits"]
    return bits


def _save(note: Path, models: list[str]) -> None:
    with note.open("w") as file:
        file.write("".join(f"{mark}\n" for mark in models))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(note.parent)
