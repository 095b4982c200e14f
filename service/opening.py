"""Opening a data directory: locked at once, its collections loaded beside whatever else a start has to do.

Loading ten million codes and importing torch take about a second each, and do not need one another.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from index import Catalogue

from .commits import CommitTimes
from .datadir import DataDirectory
from .settings import Settings


class Opening:
    """A data directory that is being opened."""

    def __init__(self, settings: Settings) -> None:
        """Lock the directory and begin to load. Raises `DataDirectoryError` where it cannot be used."""
        self.directory = DataDirectory(settings.data_dir)
        self.commits = commits = CommitTimes()
        pool = ThreadPoolExecutor(1, thread_name_prefix="opening")
        root, inline_bytes = settings.data_dir / "collections", settings.inline_index_bytes
        self._catalogue = pool.submit(lambda: Catalogue(root, inline_bytes=inline_bytes, observe=commits))
        pool.shutdown(wait=False)

    def catalogue(self) -> Catalogue:
        """The collections, when they are loaded. Raises as `Catalogue` does, and then the directory is free again."""
        try:
            return self._catalogue.result()
        except BaseException:
            self.directory.release()
            raise
