"""A real server for the tests of hostile input; what it stores is theirs to change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import server
from wire import Served


@pytest.fixture(scope="session")
def served(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over a copy of the prepared data, with bodies of up to 20 MB that must arrive within 2 s.

    Its temporary files would lie in the folder `temporary` beside the data.
    """
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("hostile") / "data"))
    (root.parent / "temporary").mkdir()
    settings = {"HAMMINGBIRD_BODY_TIMEOUT_S": "2", "HAMMINGBIRD_MAX_BODY_BYTES": "20000000"}
    with server(root, **settings, TMPDIR=str(root.parent / "temporary")) as (url, process):
        port = int(url.rsplit(":", 1)[1])
        yield Served(port, process.pid, root)
