"""A client that costs little: prepared requests over raw sockets, one at a time on each, and the server's own time."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .machine import resident_of


@dataclass(slots=True)
class Load:
    """What was measured of one server under one load."""

    seconds: float = 0.0
    cpu: float = 0.0  # seconds of the server's processor
    latencies: list[float] = field(default_factory=list)

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's processor a request."""
        return 1e6 * self.cpu / len(self.latencies)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def latency_us(self, percentile: float) -> float:
        return 1e6 * float(np.percentile(self.latencies, percentile))


def post(path: str, body: bytes) -> bytes:
    """A whole request."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    sent: float = 0.0
    received: bytes = b""


def drive(server: Server, requests: Iterator[bytes], connections: int, seconds: float, load: Load) -> None:
    """Send `requests` for so long, and add what came of it to `load`.

    Raises `RuntimeError` for a reply that is not 200.
    """
    selector = selectors.DefaultSelector()
    started, spent = time.perf_counter(), server.cpu()
    for _ in range(connections):
        connection = _Connection(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.sent = time.perf_counter()
        connection.socket.sendall(next(requests))
    open_ones = connections
    while open_ones:
        for key, _ in selector.select(60):
            connection = key.data
            if not _arrived(connection):
                continue
            now = time.perf_counter()
            load.latencies.append(now - connection.sent)
            if now - started < seconds:
                connection.sent = now
                connection.socket.sendall(next(requests))
            else:
                selector.unregister(connection.socket)
                connection.socket.close()
                open_ones -= 1
    selector.close()
    load.seconds += time.perf_counter() - started
    load.cpu += server.cpu() - spent


def _arrived(connection: _Connection) -> bool:
    """Read what there is; whether the reply is complete."""
    data = connection.received + connection.socket.recv(1 << 20)
    connection.received = data
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    start = data.lower().find(b"content-length: ", 0, head) + 16
    if len(data) < head + 4 + int(data[start : data.find(b"\r", start)]):
        return False
    if data[9:12] != b"200":
        raise RuntimeError(f"a request was refused: {data[:500].decode(errors='replace')}")
    connection.received = b""
    return True


@dataclass(slots=True)
class Server:
    """A server process of our own on loopback."""

    port: int
    process: subprocess.Popen[bytes]

    def cpu(self) -> float:
        """Seconds of processor time that its threads have used."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        if not tasks.exists():
            raise RuntimeError("the server's processor time is read from /proc, which this system does not have")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def resident_bytes(self) -> int:
        """Memory that it holds."""
        return resident_of(self.process.pid)


@contextmanager
def serving(
    module: str, *arguments: str, ready: str, patience_s: float = 120, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`python -m module`, `{port}` in the arguments replaced by a free port; ready when it answers a GET of `ready`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    command = [sys.executable, "-m", module, *(argument.replace("{port}", str(port)) for argument in arguments)]
    own = {**os.environ, "OMP_WAIT_POLICY": "passive", **(environment or {})}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=own)
    try:
        _wait(port, ready, process, patience_s)
        yield Server(port, process)
    finally:
        process.terminate()
        process.wait(60)


def _wait(port: int, path: str, process: subprocess.Popen[bytes], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
                if connection.recv(12).endswith(b"200"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError("the server was not ready in time")


def in_turn(requests: Sequence[bytes]) -> Iterator[bytes]:
    """Each request after the other, for ever."""
    while True:
        yield from requests
