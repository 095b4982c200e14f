"""The file that a snapshot or a backup is: a tar archive in one exact form.

    manifest.json                       what is in it, and the SHA-256 of every member and of itself
    collections/<name>/items.db         the store of a collection, in one committed state
    models/<fingerprint>/...            the files of a model (see `models.artefact`)

It is a plain tar, so `tar tf` shows it; it is not compressed, for kept inputs and pictures are already, codes and
weights cannot be, and so it is written and read at the speed of the disk. Every byte of it is determined by the
manifest and the members: reading compares each header with the one that writing would make, so there is no way to
say anything else with it, be it links, other names, other sizes or anything twice, and nothing is unpacked that the
manifest does not name. Reading takes constant memory.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from .errors import SnapshotRefused
from .manifest import DAMAGED, MANIFEST, Manifest, Member, parse

_MOST_MANIFEST = 8 << 20
"""Bytes of a manifest: ten thousand collections, each with a model of its own."""
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_CHUNK = 1 << 20


class Source(Protocol):
    """Where an archive is read from: a file, or a body that is just arriving."""

    def read(self, size: int, /) -> bytes: ...


def _header(name: str, size: int) -> bytes:
    """The header block of a member; what it could say of owners, modes and times is left at nothing."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def size_of(manifest: Manifest) -> int:
    """Bytes of the whole file."""
    sizes = [len(manifest.written()), *(member.size for member in manifest.members)]
    return sum(_BLOCK + size + len(_padding(size)) for size in sizes) + len(_END)


# -- writing -----------------------------------------------------------------------------------------------------------


def member_of(name: str, path: Path) -> Member:
    """What the manifest says of the file `path`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Member(name=name, size=file.tell(), sha256=digest)


def write(target: Path, manifest: Manifest, files: Sequence[Path]) -> str:
    """Write the members, which lie in `files`, to the new file `target`; returns its SHA-256, when it is on disk.

    Raises `SnapshotRefused` where a file is no longer what the manifest says.
    """
    hasher = hashlib.sha256()
    with target.open("xb") as archive:

        def put(data: bytes) -> None:
            hasher.update(data)
            archive.write(data)

        text = manifest.written()
        put(_header(MANIFEST, len(text)) + text + _padding(len(text)))
        for member, path in zip(manifest.members, files, strict=True):
            put(_header(member.name, member.size))
            copied, check = 0, hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    copied += len(chunk)
                    check.update(chunk)
                    put(chunk)
            if (copied, check.hexdigest()) != (member.size, member.sha256):
                raise SnapshotRefused(f"{member.name} changed while it was copied; try again")
            put(_padding(member.size))
        put(_END)
        archive.flush()
        os.fsync(archive.fileno())
    return hasher.hexdigest()


# -- reading -----------------------------------------------------------------------------------------------------------


class Reading:
    """An archive that is being read from its beginning to its end, once."""

    def __init__(self, source: Source) -> None:
        """Read the manifest. Raises `SnapshotRefused`."""
        self._source = source
        block = self._exactly(_BLOCK, MANIFEST)
        size = _size_in(block)
        if size > _MOST_MANIFEST:
            raise SnapshotRefused(f"{MANIFEST} states {size:,} bytes, at most {_MOST_MANIFEST:,} are read")
        self._check_header(block, MANIFEST, size)
        text = self._exactly(size, MANIFEST)
        self._check_padding(size, MANIFEST)
        self.manifest = parse(text)

    def extract(self, places: Mapping[str, Path]) -> None:
        """Read every member, those in `places` into new files, and see that nothing follows.

        Raises `SnapshotRefused` naming the member at fault; the files are then whatever they are.
        """
        for member in self.manifest.members:
            self._check_header(self._exactly(_BLOCK, member.name), member.name, member.size)
            place = places.get(member.name)
            if place is None:
                digest = self._through(member, lambda chunk: None)
            else:
                with place.open("xb") as file:
                    digest = self._through(member, file.write)
                    file.flush()
                    os.fsync(file.fileno())
            if digest != member.sha256:
                raise SnapshotRefused(f"{member.name} does not have the checksum that the manifest states; {DAMAGED}")
            self._check_padding(member.size, member.name)
        if self._exactly(len(_END), "the end") != _END or self._source.read(1):
            raise SnapshotRefused(f"something follows the last member; {DAMAGED}")

    def _through(self, member: Member, put: Callable[[bytes], object]) -> str:
        hasher, left = hashlib.sha256(), member.size
        while left:
            chunk = self._source.read(min(left, _CHUNK))
            if not chunk:
                raise SnapshotRefused(f"the file ends inside {member.name}, {left:,} bytes early; {DAMAGED}")
            hasher.update(chunk)
            put(chunk)
            left -= len(chunk)
        return hasher.hexdigest()

    def _exactly(self, size: int, what: str) -> bytes:
        parts, left = [], size
        while left:
            part = self._source.read(left)
            if not part:
                raise SnapshotRefused(f"the file ends where {what} should be; {DAMAGED}")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _check_header(self, block: bytes, name: str, size: int) -> None:
        if block != _header(name, size):
            raise SnapshotRefused(f"in place of {name} ({size:,} bytes) there is {_told(block)}; {DAMAGED}")

    def _check_padding(self, size: int, name: str) -> None:
        if any(self._exactly(len(_padding(size)), name)):
            raise SnapshotRefused(f"{name} is followed by what does not belong there; {DAMAGED}")


_TYPES = {tarfile.LNKTYPE: "a link", tarfile.SYMTYPE: "a symbolic link", tarfile.DIRTYPE: "a folder"}


def _size_in(block: bytes) -> int:
    try:
        size = int(tarfile.TarInfo.frombuf(block, "ascii", "backslashreplace").size)
    except tarfile.TarError:
        size = -1
    if size < 0:
        raise SnapshotRefused(f"the file does not begin with {MANIFEST}; {DAMAGED}")
    return size


def _told(block: bytes) -> str:
    """What a header that should not be there says."""
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "backslashreplace")
    except tarfile.TarError as error:
        return f"no header ({error})"
    kind = "a file" if info.isreg() else _TYPES.get(info.type, "a member of another type")
    return f"{kind} called {info.name[:100]!r} of {info.size:,} bytes"
