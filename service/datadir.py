"""The data directory: one process at a time, and only where it can be written."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from index.errors import DataDirectoryError

_LOCK = "lock"


class DataDirectory:
    """Holds the directory's lock until `release`, or until the process ends in whatever way."""

    def __init__(self, path: Path) -> None:
        """Create and lock `path`. Raises `DataDirectoryError` where it is in use or cannot be written."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._file = (path / _LOCK).open("a+")
        except OSError as error:
            raise DataDirectoryError(
                f"the data directory {path} cannot be used by user {os.getuid()}: {error.strerror}; "
                "choose another with --data-dir, or give that user write access"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            process, _, address = owner.partition(" ")
            way = f"let the command ask it: --url {address} (or HAMMINGBIRD_URL)" if address else "wait for it"
            raise DataDirectoryError(
                f"the data directory {path} is in use by process {process}; stop it first, or {way}"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def serves_at(self, address: str) -> None:
        """Leave a note for commands that find the directory in use: where its owner can be asked instead."""
        self._file.truncate(0)
        self._file.write(f"{os.getpid()} {address}")
        self._file.flush()

    def release(self) -> None:
        self._file.close()
