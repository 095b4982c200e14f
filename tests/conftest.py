"""Fixtures: a small data directory made once, a fresh copy of it for each test, and clients."""

from __future__ import annotations

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # before torch and FAISS are loaded

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filling import fill
from starlette.testclient import TestClient
from support import COLLECTIONS, MODELS, part_of, vectors

from models.data import Dataset, load
from service.app import create_app
from service.settings import Settings

torch.set_num_threads(1)
# In the background of a shell it is ignored, also by what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def datasets() -> dict[str, Dataset]:
    """A small data set of each input kind, by name."""
    return {
        "digits": part_of(load("digits"), 300),
        "python-docs": part_of(load("python-docs"), 400),
        "vectors": vectors(),
    }


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, datasets: dict[str, Dataset]) -> Path:
    """A data directory with a model of each kind and a filled collection of each. Do not change it."""
    root = tmp_path_factory.mktemp("prepared")
    fill(root, datasets, MODELS, COLLECTIONS)
    return root


@pytest.fixture
def data_dir(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared data directory, to be changed at will."""
    return Path(shutil.copytree(prepared, tmp_path / "data"))


@pytest.fixture
def client(data_dir: Path) -> Iterator[TestClient]:
    """A client of the service over `data_dir`; an unexpected exception becomes its 500, as in production."""
    with TestClient(create_app(Settings(data_dir=data_dir)), raise_server_exceptions=False) as found:
        yield found


@pytest.fixture(scope="session")
def shared_client(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client for tests that change nothing."""
    root = shutil.copytree(prepared, tmp_path_factory.mktemp("shared") / "data")
    with TestClient(create_app(Settings(data_dir=Path(root))), raise_server_exceptions=False) as found:
        yield found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All laws of a model family on one kind of input run in one process, which trains it once."""
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")  # type: ignore[attr-defined]
        if isinstance(case, tuple):
            item.add_marker(pytest.mark.xdist_group("-".join(map(str, case))))
