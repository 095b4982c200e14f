"""Fixtures of the tests that run beside a real Milvus server: see `test_real_server`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from milvus_server import MilvusServer


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server that answers."""
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()
