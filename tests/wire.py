"""Clients that write to a socket what they like, and what can be seen of a server process from outside."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What came back; the same members that `support.assert_problem` looks at."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Served:
    """A running service."""

    port: int
    pid: int
    root: Path

    def send(self, method: str, target: str, body: bytes | None = None, kind: str | None = "application/json") -> Reply:
        """One request on a connection of its own; the body goes out as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, target, body, {"content-type": kind} if kind and body is not None else {})
            reply = connection.getresponse()
            return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def post(self, target: str, value: Any) -> Reply:
        """`value` as JSON in UTF-8."""
        return self.send("POST", target, json.dumps(value, ensure_ascii=False).encode())

    def get(self, target: str) -> Reply:
        return self.send("GET", target)

    def raw(self, *parts: bytes, pause_s: float = 0.0, wait_s: float = 10.0) -> bytes:
        """All that comes back for `parts`, sent one after another, until the server closes or is silent for long."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause_s)
            received = b""
            with suppress(TimeoutError, ConnectionResetError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received

    def rss(self) -> int:
        """Bytes of memory that the process holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))


class Stream:
    """A request to the service at `address` whose body is sent part by part, as the test likes."""

    def __init__(self, address: str, target: str, *head: str, method: str = "POST") -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        lines = [f"{method} {target} HTTP/1.1", "host: localhost", *head]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    @classmethod
    def of_lines(cls, address: str, target: str, *head: str, kind: str = "application/x-ndjson") -> Stream:
        """A chunked body, after which the server closes."""
        return cls(address, target, f"content-type: {kind}", "transfer-encoding: chunked", "connection: close", *head)

    def send(self, part: bytes) -> None:
        self.socket.sendall(part)

    def chunk(self, part: bytes) -> None:
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(part), part))

    def end(self) -> None:
        """The chunk that ends a body."""
        self.socket.sendall(b"0\r\n\r\n")

    def reply(self) -> tuple[int, dict[str, Any]]:
        """The status and the body, once the server has closed."""
        received = b""
        with suppress(ConnectionResetError):
            while part := self.socket.recv(65536):
                received += part
        self.socket.close()
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    def drop(self) -> None:
        self.socket.close()


def statuses(received: bytes) -> list[int]:
    """The status of every reply in what came back."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]
