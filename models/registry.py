"""Named, versioned models on disk, with aliases.

Layout: `<root>/<name>/<version>/` holds an artefact, `<root>/<name>/names.json` the aliases and the next version
number, so that a deleted version's number is never given again. A reference is `name` (its `champion` alias, else
the newest version), `name:3` or `name@alias`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .artefact import Artefact, load_model, read_artefact, sync_folder
from .base import Model
from .errors import ArtefactDamaged, InvalidParams, UnknownModel

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_REFERENCE = re.compile(rf"({NAME.pattern})(?::([1-9][0-9]{{0,8}})|@({NAME.pattern}))?")
_NAMES = "names.json"
_LOCK = ".lock"
_SEEN_S = 0.5


@dataclass(frozen=True)
class Entry:
    """One version of one model."""

    name: str
    version: int
    aliases: Sequence[str]
    artefact: Artefact

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"

    @property
    def fingerprint(self) -> str:
        return self.artefact.fingerprint


def check_name(name: str) -> None:
    """Raise `InvalidParams` unless `name` can name a model or an alias."""
    if not NAME.fullmatch(name):
        raise InvalidParams(
            "a name has 1 to 63 characters: lower-case letters, digits, '-' and '_', starting with a letter or digit"
        )


class Registry:
    """Every model under `root`. Safe to use from many threads of one process."""

    def __init__(self, root: Path, *, tidy: bool = True, shared: bool = False) -> None:
        """tidy: remove what a crash left half-made; not where another process may just be making it.

        shared: other processes change it too. What they do is seen within half a second; changes wait for each other.
        """
        self._root, self._tidy, self._shared = root, tidy and not shared, shared
        self._looked = 0.0
        self._stamps: dict[str, tuple[int, int]] = {}
        self._lock = threading.RLock()
        self._entries: dict[str, dict[int, Artefact]] = {}
        self._names: dict[str, _Names] = {}
        self._loaded: dict[str, Model] = {}
        self.damaged: dict[str, str] = {}
        if tidy:
            root.mkdir(parents=True, exist_ok=True)
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and NAME.fullmatch(folder.name):
                self._stamps[folder.name] = _stamp(folder)
                self._scan(folder)

    def _look(self, *, at_once: bool = False) -> None:
        """See what other processes have changed. The caller holds the lock."""
        if not self._shared or (not at_once and time.monotonic() - self._looked < _SEEN_S):
            return
        stamps = {
            folder.name: _stamp(folder)
            for folder in sorted(self._root.iterdir())
            if folder.is_dir() and NAME.fullmatch(folder.name)
        }
        for name in self._stamps.keys() | stamps.keys():
            if self._stamps.get(name) != stamps.get(name):
                self._entries.pop(name, None)
                self._names.pop(name, None)
                self.damaged = {key: why for key, why in self.damaged.items() if re.split("[:@]", key)[0] != name}
                if name in stamps:
                    self._scan(self._root / name)
        kept = {artefact.fingerprint for versions in self._entries.values() for artefact in versions.values()}
        self._loaded = {mark: model for mark, model in self._loaded.items() if mark in kept}
        self._stamps, self._looked = stamps, time.monotonic()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """For the block nobody else changes anything, in this process or, where it is shared, in another."""
        with self._lock:
            if not self._shared:
                yield
                return
            with (self._root / _LOCK).open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._look(at_once=True)
                yield

    def _scan(self, folder: Path) -> None:
        try:
            self._names[folder.name] = _read_names(folder / _NAMES)
        except ArtefactDamaged as error:
            self.damaged[f"{folder.name}@"] = str(error)
        versions: dict[int, Artefact] = {}
        for entry in folder.iterdir():
            if entry.name.startswith((".new-", ".gone-")) and entry.is_dir():  # left half-made or half-deleted
                if self._tidy:
                    shutil.rmtree(entry)
            elif entry.name.startswith(".new-") and self._tidy:  # of the names
                entry.unlink()
            elif entry.is_dir() and entry.name.isdecimal():
                try:
                    versions[int(entry.name)] = read_artefact(entry)
                except ArtefactDamaged as error:
                    self.damaged[f"{folder.name}:{entry.name}"] = str(error)
        if versions:
            self._entries[folder.name] = versions

    # -- finding -------------------------------------------------------------------------------------------

    def list(self) -> list[Entry]:
        """Every version of every model, by name, newest first."""
        with self._lock:
            self._look()
            return [
                self._entry(name, version)
                for name in sorted(self._entries)
                for version in sorted(self._entries[name], reverse=True)
            ]

    def get(self, reference: str) -> Entry:
        """The version that `reference` names. Raises `UnknownModel`."""
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise UnknownModel(f"{reference[:100]!r} is not a model reference; write name, name:3 or name@alias")
        name, number, alias = match.groups()
        with self._lock:
            self._look(at_once=name not in self._entries)
            versions = self._entries.get(name)
            if not versions:
                known = ", ".join(sorted(self._entries)[:20]) or "none"
                raise UnknownModel(f"there is no model {name!r}; there are: {known}{self._why(name)}")
            aliases = self._names_of(name).aliases
            if alias is not None and alias not in aliases:
                known = ", ".join(aliases) or "none"
                raise UnknownModel(f"model {name!r} has no alias {alias!r}; its aliases are: {known}")
            version = int(number) if number else aliases.get(alias or "champion", max(versions))
            if version not in versions:
                raise UnknownModel(
                    f"model {name!r} has no version {version}; it has {', '.join(map(str, sorted(versions)))}"
                    f"{self._why(f'{name}:{version}')}"
                )
            return self._entry(name, version)

    def by_fingerprint(self, fingerprint: str) -> Entry:
        """A version with this fingerprint. Raises `UnknownModel`."""
        with self._lock:
            for at_once in (False, True):
                self._look(at_once=at_once)
                for name, versions in self._entries.items():
                    for version, artefact in versions.items():
                        if artefact.fingerprint == fingerprint:
                            return self._entry(name, version)
        raise UnknownModel(
            f"no model with fingerprint {fingerprint[:12]} is here any more; restore it, or fill a new collection"
        )

    def load(self, entry: Entry) -> Model:
        """The model of `entry`, loaded once and kept. Raises `ArtefactDamaged`."""
        with self._lock:
            if entry.fingerprint not in self._loaded:
                self._loaded[entry.fingerprint] = load_model(entry.artefact.folder)
            return self._loaded[entry.fingerprint]

    def loaded(self, fingerprint: str) -> Model | None:
        """The model with this fingerprint where it is loaded already; waits for nothing."""
        return self._loaded.get(fingerprint)

    def all_loaded(self) -> Sequence[Model]:
        """Every model that is kept in memory."""
        with self._lock:
            return [*self._loaded.values()]

    def name_of(self, model: Model) -> str:
        """The reference of a loaded model, or its family where it is not one of these."""
        with self._lock:
            marks = [mark for mark, loaded in self._loaded.items() if loaded is model]
            return self.by_fingerprint(marks[0]).reference if marks else model.family

    def _entry(self, name: str, version: int) -> Entry:
        aliases = [alias for alias, target in self._names_of(name).aliases.items() if target == version]
        return Entry(name, version, sorted(aliases), self._entries[name][version])

    def _names_of(self, name: str) -> _Names:
        return self._names.get(name, _Names({}, 1))

    def _why(self, reference: str) -> str:
        faults = [text for damaged, text in self.damaged.items() if damaged.split(":")[0] == reference.split(":")[0]]
        return f" (damaged: {faults[0]})" if faults else ""

    # -- changing ------------------------------------------------------------------------------------------

    def draft(self, name: str) -> Path:
        """A folder that does not exist yet, beside the versions of `name`, for `add` to take in."""
        check_name(name)
        return self._root / name / f".new-{uuid.uuid4().hex}"

    def add(self, name: str, draft: Path, *, version: int | None = None) -> Entry:
        """Make the artefact in `draft` the next version of `name`. Raises `ArtefactDamaged`, `InvalidParams`.

        version: which one it is, where that is not taken.
        """
        check_name(name)
        artefact = read_artefact(draft)
        with self._changing():
            names = self._names_of(name)
            following = max([names.next, *(number + 1 for number in self._entries.get(name, {}))])
            if version is None or (self._root / name / str(version)).exists():
                version = following
            self._save_names(name, _Names(names.aliases, max(following, version + 1)))
            folder = self._root / name / str(version)
            os.rename(draft, folder)
            sync_folder(folder.parent)
            self._entries.setdefault(name, {})[version] = Artefact(
                folder, artefact.config, artefact.metrics, artefact.card, artefact.fingerprint
            )
            return self._entry(name, version)

    def alias(self, reference: str, alias: str) -> Entry:
        """Let `alias` name the version that `reference` names now. Raises `UnknownModel`, `InvalidParams`."""
        check_name(alias)
        with self._changing():
            entry = self.get(reference)
            names = self._names_of(entry.name)
            self._save_names(entry.name, _Names({**names.aliases, alias: entry.version}, names.next))
            return self.get(f"{entry.name}:{entry.version}")

    def delete(self, reference: str) -> Entry:
        """Delete the version that `reference` names, with its aliases. Raises `UnknownModel`."""
        with self._changing():
            entry = self.get(reference)
            names = self._names_of(entry.name)
            aliases = {alias: target for alias, target in names.aliases.items() if target != entry.version}
            self._save_names(entry.name, _Names(aliases, max(names.next, entry.version + 1)))
            gone = entry.artefact.folder.with_name(f".gone-{uuid.uuid4().hex}")
            os.rename(entry.artefact.folder, gone)
            sync_folder(gone.parent)
            shutil.rmtree(gone)
            del self._entries[entry.name][entry.version]
            if not self._entries[entry.name]:
                del self._entries[entry.name]
            self._loaded.pop(entry.fingerprint, None)
            return entry

    def _save_names(self, name: str, names: _Names) -> None:
        folder = self._root / name
        folder.mkdir(exist_ok=True)
        draft = folder / f".new-{uuid.uuid4().hex}.json"
        try:
            with draft.open("w") as file:
                json.dump({"aliases": names.aliases, "next": names.next}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, folder / _NAMES)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(folder)
        self._names[name] = names


def _stamp(folder: Path) -> tuple[int, int]:
    """What changes with the versions in a folder, and with their names."""
    names = folder / _NAMES
    return folder.stat().st_mtime_ns, names.stat().st_mtime_ns if names.exists() else 0


@dataclass(frozen=True)
class _Names:
    """The aliases of a model, and the number that its next version gets."""

    aliases: dict[str, int]
    next: int


def _read_names(path: Path) -> _Names:
    if not path.exists():
        return _Names({}, 1)
    try:
        names = json.loads(path.read_bytes())
        aliases = {str(alias): int(version) for alias, version in names["aliases"].items()}
        return _Names(aliases, int(names["next"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactDamaged(f"{path}: {error}; delete the file to start without aliases") from None
