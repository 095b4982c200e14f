"""The room that is left on the disk. Writes stop while there is some, so that searches and repairs can go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .errors import NoRoom


class Room(NamedTuple):
    """Bytes of a disk."""

    free: int
    total: int


def room_of(path: Path) -> Room:
    """The room that an ordinary user has on the disk of `path`."""
    found = os.statvfs(path)
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def check_room(path: Path, least: int) -> None:
    """Raise `NoRoom` where less than `least` bytes are left; costs two microseconds, so each write asks anew."""
    free = room_of(path).free
    if free < least:
        raise NoRoom(
            f"the disk that holds the data directory has {free:,} bytes left, and nothing is added below {least:,} "
            "(min_free_bytes); searches go on. Make room: on the disk, or by deleting items and compacting"
        )
