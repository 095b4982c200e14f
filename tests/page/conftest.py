"""A real server on the demo's data, and Debian's Chromium to look at its page with.

These tests have a marker of their own, `browser`: run them with `make browser`. Where there is no Chromium or no
playwright they are skipped and say so.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import tab
from filling import fill
from support import part_of, server, vectors

from models.data import Dataset, load

HERE = Path(__file__).parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = "axe-core@4.14.1"

# As in the demo, in seconds rather than minutes; and vectors, which it has not.
MODELS: tuple[tuple[str, str, int, str, dict[str, Any]], ...] = (
    ("digits-hash", "binary-autoencoder", 64, "digits", {"epochs": 20}),
    ("digits-vae", "vae", 64, "digits", {"epochs": 25}),
    ("digits-denoise", "denoising-autoencoder", 64, "digits", {"epochs": 6}),
    ("docs-hash", "binary-autoencoder", 128, "python-docs", {"epochs": 2, "hidden": 32}),
    ("vectors-itq", "itq", 32, "vectors", {}),
)
COLLECTIONS = (("digits", "digits-hash"), ("python-docs", "docs-hash"), ("vectors", "vectors-itq"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(600))  # the first one waits for the models
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with models and collections named as the demo's. Do not change it."""
    root = tmp_path_factory.mktemp("demo") / "data"
    datasets: dict[str, Dataset] = {
        "digits": load("digits"), "python-docs": part_of(load("python-docs"), 400), "vectors": vectors(),
    }  # fmt: skip
    fill(root, datasets, MODELS, COLLECTIONS)
    return root


@pytest.fixture(scope="session")
def address(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server for tests that change nothing."""
    root = shutil.copytree(demo_data, tmp_path_factory.mktemp("served") / "data")
    with server(Path(root)) as (found, _):
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, for all tests."""
    if CHROMIUM is None:
        pytest.skip("no chromium in the path; install Debian's package `chromium`")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'"
    )
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM)
        yield found
        found.close()


@pytest.fixture
def faults() -> list[str]:
    """What went wrong in the browser, by `page`; a test that provokes something takes it out."""
    return []


@pytest.fixture
def page(browser: Any, address: str, faults: list[str]) -> Iterator[Any]:
    """A fresh tab. Whatever the console complains of, and every request to elsewhere, fails the test."""
    with tab(browser, address, faults) as found:
        yield found
    assert not faults


@pytest.fixture(scope="module")
def own(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server for the tests of one file, which change what it holds."""
    root = shutil.copytree(demo_data, tmp_path_factory.mktemp("own") / "data")
    with server(Path(root)) as (found, _):
        yield found


@pytest.fixture
def view(browser: Any, own: str, faults: list[str]) -> Iterator[Any]:
    """A fresh tab on that server."""
    with tab(browser, own, faults) as found:
        yield found
    assert not faults


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, fetched once from the npm registry into pytest's cache; no part of the product."""
    if shutil.which("npm") is None:
        pytest.skip("no npm to fetch axe-core with")
    cache = getattr(pytestconfig, "cache", None)  # not there with -p no:cacheprovider
    folder = tmp_path_factory.mktemp("axe") if cache is None else cache.mkdir(AXE.replace("@", "-"))
    script = folder / "package" / "axe.min.js"
    if not script.exists():
        packed = subprocess.run(["npm", "pack", AXE], cwd=folder, capture_output=True, text=True, timeout=120)
        if packed.returncode != 0:
            pytest.skip(f"axe-core could not be fetched: {packed.stderr[-300:]}")
        shutil.unpack_archive(folder / packed.stdout.strip().splitlines()[-1], folder, filter="data")
    return script.read_text()
