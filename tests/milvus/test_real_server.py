"""Collections in a real Milvus server: the contract, and what happens where the server or a service is killed.

The server listens on every address, so each of these runs as pytest of its own in a network of its own. The files
`beside_*.py` are found by no other name; the folder that pytest keeps of a test has the logs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from milvus_server import IN_OWN_NETWORK, ROOT, missing

HERE = Path(__file__).resolve().parent


def run_alone(folder: Path, *command: str) -> None:
    """Run a command in a network of its own; on failure show what it wrote."""
    done = subprocess.run(
        [IN_OWN_NETWORK, *command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    (folder / "output.log").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:]


def pytest_of(folder: Path, *arguments: str) -> list[str]:
    options = ["-q", "-x", "-s", "-p", "no:cacheprovider", "--timeout", "900", "--basetemp", str(folder / "inner")]
    return [sys.executable, "-m", "pytest", *options, *arguments]


@pytest.fixture(autouse=True)
def _possible() -> None:
    if reason := missing():
        pytest.skip(reason)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["beside_bulk", "beside_faults", "beside_replicas"])
def test_services_beside_a_real_server(name: str, tmp_path: Path) -> None:
    run_alone(tmp_path, *pytest_of(tmp_path, str(HERE / f"{name}.py")))


CONTRACT = ("test_collection", "test_generations", "test_screen", "test_milvus", "test_milvus_filters", "test_replicas")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_in_a_real_server(name: str, tmp_path: Path) -> None:
    """R5. What every collection does, by the tests that the embedded one passes; and what is about Milvus alone."""
    beside = [sys.executable, str(ROOT / "tests" / "milvus_server.py"), str(tmp_path / "server")]
    file = ROOT / "tests" / "contract" / f"{name}.py"
    run_alone(tmp_path, *beside, *pytest_of(tmp_path, str(file), "-k", "milvus or Milvus or replicas"))
