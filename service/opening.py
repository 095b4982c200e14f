"""Opening a data directory: locked at once, its collections loaded beside whatever else a start has to do.

Loading ten million codes and importing torch take about a second each, and do not need one another.
"""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

from index import Catalogue, Collections
from index.milvus import Connection, MilvusCatalogue

from .commits import CommitTimes
from .datadir import DataDirectory
from .settings import Settings


class Opening:
    """A data directory that is being opened."""

    def __init__(self, settings: Settings) -> None:
        """Lock the directory and begin to load. Raises `DataDirectoryError` where it cannot be used."""
        self._settings = settings
        self.directory = DataDirectory(settings.data_dir)
        self.commits = commits = CommitTimes()
        pool = ThreadPoolExecutor(1, thread_name_prefix="opening")
        root, inline_bytes = settings.data_dir / "collections", settings.inline_index_bytes
        self._catalogue = pool.submit(lambda: Catalogue(root, inline_bytes=inline_bytes, observe=commits))
        pool.shutdown(wait=False)

    def catalogue(self) -> Collections:
        """The collections, when they are loaded. Raises as `Catalogue` does, and then the directory is free again.

        Milvus may be away, and is not asked yet.
        """
        try:
            return Collections(self._catalogue.result(), self._milvus())
        except BaseException:
            self.directory.release()
            raise

    def _milvus(self) -> MilvusCatalogue | None:
        settings = self._settings
        if settings.milvus_uri is None:
            return None
        token, timeout_s = settings.milvus_token.get_secret_value(), settings.milvus_timeout_s
        connection = Connection(
            settings.milvus_uri, token, timeout_s=timeout_s, consistency=settings.milvus_consistency
        )
        return MilvusCatalogue(connection, owner=_identity(settings))


def _identity(settings: Settings) -> str:
    """What tells this service from others that share its Milvus: made once for a data directory."""
    path = settings.data_dir / "identity"
    if not path.exists():
        draft = path.with_suffix(".new")
        draft.write_text(uuid.uuid4().hex)
        os.replace(draft, path)
    return path.read_text()
