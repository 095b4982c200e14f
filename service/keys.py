"""API keys: made, listed and revoked in a file, looked up by their hash.

The file is in the data directory, or where the setting `keys_dir` says. It may be changed while the service runs: it is
replaced as a whole, and the service looks for that twice a second.

Only the SHA-256 of a key is kept. A slow hash would protect passwords, which can be guessed; a key is 256 random bits,
so that nothing can be found out from its hash, and a fast one costs a request a microsecond.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from index.errors import DataDirectoryError

from .errors import InvalidRequest
from .scopes import Scope

log = logging.getLogger(__name__)

FILE = "keys.json"
PATTERN = re.compile(r"hb_[0-9a-f]{64}")
"""What a key looks like, so that it can be recognised, in a log or a repository, as what must not be there."""
REFRESH_S = 0.5
_NAME = re.compile(r"[A-Za-z0-9._@ -]{1,64}")
_VERSION = 1


@dataclass(frozen=True)
class Key:
    """What is kept of a key: everything but the key."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    name: str
    scope: Scope
    sha256: str
    created_at: datetime
    expires_at: datetime | None

    def expired(self, at: float) -> bool:
        """Whether it has ended at `at`, in seconds since 1970."""
        return self.expires_at is not None and at >= self.expires_at.timestamp()


_KEYS = TypeAdapter(list[Key])


class KeyFile:
    """The keys in the file of a folder, for those who make and revoke them. Needs no lock of the service's."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def all(self) -> Sequence[Key]:
        """Every key, the oldest first. Raises `DataDirectoryError` where the file cannot be read."""
        return read_keys(self._path.parent) or []

    def create(self, name: str, scope: Scope, lifetime: timedelta | None = None) -> tuple[Key, str]:
        """A new key and, for this once, its text. Raises `InvalidRequest` where the name is taken or cannot be."""
        if not _NAME.fullmatch(name):
            raise InvalidRequest("a key's name has 1 to 64 letters, digits, spaces or any of . _ @ -")
        if lifetime is not None and lifetime <= timedelta():
            raise InvalidRequest("a key that expires does so in the future")
        text = f"hb_{secrets.token_hex(32)}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        created = datetime.now(UTC).replace(microsecond=0)
        try:
            expires = None if lifetime is None else created + lifetime
        except OverflowError:
            raise InvalidRequest("that is further than the calendar goes; leave the expiry out") from None
        key = Key(digest[:12], name, scope, digest, created, expires)
        with self._changing() as keys:
            if any(name in (other.name, other.id) for other in keys):
                raise InvalidRequest(f"there is a key called {name!r}; revoke it first, or choose another name")
            keys.append(key)
        return key, text

    def revoke(self, called: str) -> Key:
        """Remove the key of this id or name. Raises `InvalidRequest` where there is none."""
        with self._changing() as keys:
            found = [key for key in keys if called in (key.id, key.name)]
            if not found:
                known = ", ".join(f"{key.name} ({key.id})" for key in keys) or "none"
                raise InvalidRequest(f"there is no key of that id or name; there are: {known}")
            keys.remove(found[0])
        return found[0]

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        """The keys, to be changed; then the file is replaced, on disk before this returns."""
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{FILE}.lock").open("a") as lock:
                self._give(lock.fileno())
                fcntl.flock(lock, fcntl.LOCK_EX)
                keys = list(self.all())
                yield keys
                self._replace(keys)
        except OSError as error:
            raise DataDirectoryError(
                f"the keys in {folder} cannot be changed by user {os.getuid()}: {error.strerror}"
            ) from None

    def _replace(self, keys: Sequence[Key]) -> None:
        content = {"version": _VERSION, "keys": _KEYS.dump_python(list(keys), mode="json")}
        fresh = self._path.with_name(f"{FILE}.new")
        fresh.unlink(missing_ok=True)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "w") as stream:
            json.dump(content, stream, indent=1)
            stream.flush()
            self._give(file)
            os.fsync(file)
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _give(self, file: int) -> None:
        """Let a file that root makes belong to whom the folder does: the service, which may not be root, reads it."""
        owner = self._path.parent.stat()
        if os.geteuid() == 0 != owner.st_uid:
            os.fchown(file, owner.st_uid, owner.st_gid)


def read_keys(folder: Path) -> list[Key] | None:
    """The keys in their file; None where there is none. Raises `DataDirectoryError` where it cannot be read."""
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
        if content["version"] != _VERSION:
            raise DataDirectoryError(f"{path} was written by another version of Hammingbird; use that one")
        return _KEYS.validate_python(content["keys"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataDirectoryError(f"{path} cannot be read by user {os.getuid()}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, ValidationError):
        raise DataDirectoryError(
            f"{path} is damaged; remove it and create the keys anew (without it the service asks for none)"
        ) from None


class KeyRing:
    """The keys as the service sees them: in memory, renewed when the file changes.

    Once there has been a file, keys are asked for until the service ends: where it is gone or damaged nobody is let in
    who was not before, since a slip must not open what was closed.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `DataDirectoryError` where the file cannot be read."""
        self._path = folder / FILE
        self._file: tuple[int, int, int] | None = None
        self._keys: dict[bytes, Key] | None = None
        self._due = time.monotonic() + REFRESH_S
        self._load(self._stat())

    @property
    def asked_for(self) -> bool:
        """Whether a request needs a key."""
        if time.monotonic() >= self._due:
            self._refresh()
        return self._keys is not None

    def find(self, text: bytes) -> Key | None:
        """The key whose text this is, unless it has expired or was revoked."""
        digest = hashlib.sha256(text).digest()
        # A look-up by hash tells an attacker nothing: he would have to choose keys by their hashes.
        key = (self._keys or {}).get(digest)
        if key is None or not hmac.compare_digest(bytes.fromhex(key.sha256), digest) or key.expired(time.time()):
            return None
        return key

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _load(self, file: tuple[int, int, int] | None) -> None:
        keys = read_keys(self._path.parent)
        if keys is None and self._keys is not None:
            raise DataDirectoryError(f"{self._path} is gone; restart the service to serve without keys")
        self._keys = None if keys is None else {bytes.fromhex(key.sha256): key for key in keys}
        self._file = file

    def _refresh(self) -> None:
        self._due = time.monotonic() + REFRESH_S
        try:
            file = self._stat()
            if file == self._file:
                return
            self._file = file  # said once, not twice a second
            self._load(file)
        except (DataDirectoryError, OSError) as error:
            log.error("%s; until then only keys known before are let in", error)
            self._keys = self._keys or {}


def as_dict(key: Key) -> dict[str, object]:
    """What may be shown of a key: not even its hash."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(key).items()
        if name != "sha256"
    }
