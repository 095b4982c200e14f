"""A real Milvus server, killed and started again on the same data.

As a program it runs a command beside one, whose address the command finds in `HAMMINGBIRD_TEST_MILVUS_URI`:
`tools/in-own-network python tests/milvus_server.py FOLDER COMMAND [ARGUMENT ...]`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IN_OWN_NETWORK = ROOT / "tools" / "in-own-network"
PROGRAM = ROOT / "tools" / "milvus-server"
URI = "HAMMINGBIRD_TEST_MILVUS_URI"
SETTINGS = (
    "proxy.timeTickInterval=20",  # how long a search that is to see every write waits: 200 ms by default
    "common.session.ttl=5",  # how long after a kill it waits for the one that was killed: 30 s by default
)


def missing() -> str | None:
    """Why no server can be run here."""
    venv = Path(os.environ.get("MILVUS_SERVER_VENV", ROOT / ".milvus-server"))
    if not (venv / "server" / "bin" / "milvus").exists():
        return f"no Milvus server in {venv} (MILVUS_SERVER_VENV): run tools/milvus-server install"
    tried = subprocess.run([IN_OWN_NETWORK, "true"], capture_output=True, text=True, check=False)
    return f"no network of its own can be made here: {tried.stderr.strip()}" if tried.returncode else None


class MilvusServer:
    """One server, with its data and its log in `folder`. To be used in a network of its own: it listens everywhere."""

    def __init__(self, folder: Path, port: int = 19530) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self.log = folder / "milvus.log"
        self._command = [str(PROGRAM), "run", str(folder / "data"), str(port), *SETTINGS]
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it; it serves some seconds later, see `wait`."""
        assert self._process is None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)

    def wait(self, timeout_s: float = 120) -> float:
        """Return once it answers: the seconds that took. Fails at once where it has ended."""
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        begun = time.monotonic()
        while time.monotonic() - begun < timeout_s:
            assert self._process is not None
            assert self._process.poll() is None, f"the server ended; {self.log} says why"
            try:
                client = MilvusClient(self.uri, timeout=2)
                client.list_collections()
                client.close()
                return time.monotonic() - begun
            except Exception:  # in all the ways of a server that is not there yet
                time.sleep(0.2)
        raise AssertionError(f"the server did not answer within {timeout_s} s; {self.log} says why")

    def kill(self) -> None:
        """End it as a fault would. Asked to end, it takes minutes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def code_of(id: str) -> str:
    """A code of 64 bits that only this id has."""
    return f"{zlib.crc32(id.encode()) << 32 | zlib.adler32(id.encode()):016x}"


def until(holds: Callable[[], bool], what: str, timeout_s: float) -> float:
    """Wait until it holds: the seconds that took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < timeout_s, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)
    return time.monotonic() - begun


def main(folder: str, *command: str) -> int:
    server = MilvusServer(Path(folder))
    server.start()
    try:
        server.wait()
        return subprocess.run(command, env={**os.environ, URI: server.uri}, check=False).returncode
    finally:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
