"""HTTP that no client means: slow, cut, smuggled, misdirected; with either parser. (reliability.md H4, H5, H6)

uvicorn parses with httptools where that is installed, else with h11, and the two differ in what they refuse. A head has
no deadline in either: that is a proxy's duty, and `max_connections` bounds what it can cost.
"""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from support import free_port, wait_ready
from wire import Reply, Served, statuses

from service.keys import KeyFile

PARSERS = ["httptools", pytest.param("h11", marks=pytest.mark.slow)]  # uvicorn takes the first where it is installed
WITHOUT = """
import sys
sys.modules["httptools"] = None  # uvicorn then parses with h11
from service.__main__ import main
main()
"""
MOST_CONNECTIONS = 40


@dataclass(frozen=True)
class Guarded(Served):
    """A service that asks for keys, and one that may read, one that may do all."""

    reader: str
    admin: str

    def head(self, method: str, target: str, *headers: str, key: str | None = None) -> bytes:
        """The head of a request on a connection that closes."""
        lines = [f"{method} {target} HTTP/1.1", "host: x", "connection: close"]
        lines += [f"x-api-key: {key}"] if key else []
        return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1")


@pytest.fixture(scope="module", params=PARSERS)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("http") / "data"
    root.mkdir()
    reader, admin = (KeyFile(root).create(name, name)[1] for name in ("read", "admin"))
    port = free_port()
    if request.param == "httptools":
        pytest.importorskip("httptools")
    program = ["-m", "service"] if request.param == "httptools" else ["-c", WITHOUT]
    environment = {
        "HAMMINGBIRD_BODY_TIMEOUT_S": "1",
        "HAMMINGBIRD_MAX_BODY_BYTES": "100000",
        "HAMMINGBIRD_MAX_CONNECTIONS": str(MOST_CONNECTIONS),
    }
    with (root.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", str(port), "--data-dir", str(root)],
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            wait_ready(f"http://127.0.0.1:{port}", process)
            served = Guarded(port, process.pid, root, reader, admin)
            made = json.dumps({"name": "codes", "bits": 64}).encode()
            head = served.head("POST", "/collections", JSON, f"content-length: {len(made)}", key=admin)
            assert statuses(served.raw(head + made)) == [201]
            yield served
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


JSON = "content-type: application/json"
GOOD = b'{"collection": "codes", "query": {"code": "0000000000000000"}}'


def problem(received: bytes, status: int) -> dict[str, Any]:
    """The one reply that came, a problem that closed the connection."""
    assert statuses(received)[0] == status, received[:500]
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"x-request-id" in head
    assert b"connection: close" in head.lower()
    found: dict[str, Any] = json.loads(body)
    assert found["status"] == status
    return found


def is_well(served: Guarded) -> None:
    """It answers a good request, at once."""
    head = served.head("POST", "/search", JSON, f"content-length: {len(GOOD)}", key=served.reader)
    started = time.monotonic()
    assert statuses(served.raw(head + GOOD)) == [200]
    assert time.monotonic() - started < 5


# -- bodies --------------------------------------------------------------------------------------------------------


def test_a_body_over_the_limit_whatever_it_says_of_itself(guarded: Guarded) -> None:
    """H4: declared, chunked, compressed; the same problem, and the connection ends."""
    declared = guarded.head("POST", "/search", JSON, "content-length: 100001", key=guarded.reader)
    assert "max_body_bytes" in problem(guarded.raw(declared), 413)["detail"]
    assert "max_body_bytes" in problem(guarded.raw(declared.replace(b"100001", b"9" * 15)), 413)["detail"]
    assert statuses(guarded.raw(declared.replace(b"100001", b"9" * 30))) in ([400], [413])
    chunked = guarded.head("POST", "/search", JSON, "transfer-encoding: chunked", key=guarded.reader)
    chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
    assert "max_body_bytes" in problem(guarded.raw(chunked, *[chunk] * 30), 413)["detail"]
    zipped = os.urandom(100_001)
    large = guarded.head(
        "POST", "/search", JSON, "content-encoding: gzip", f"content-length: {len(zipped)}", key=guarded.reader
    )
    problem(guarded.raw(large, zipped), 413)
    is_well(guarded)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"])
def test_a_compressed_body_is_not_unpacked(guarded: Guarded, encoding: str) -> None:
    """H4: a bomb of 10 kB stays one."""
    bomb = gzip.compress(b" " * 10_000_000)
    before = guarded.rss()
    head = guarded.head(
        "POST", "/search", JSON, f"content-encoding: {encoding}", f"content-length: {len(bomb)}", key=guarded.reader
    )
    assert "Content-Encoding" in problem(guarded.raw(head, bomb), 415)["detail"]
    assert guarded.rss() - before < 8_000_000
    plain = head.replace(f"content-encoding: {encoding}".encode(), b"content-encoding: identity")
    body = GOOD + b" " * (len(bomb) - len(GOOD))
    assert statuses(guarded.raw(plain, body)) == [200]


def test_a_body_shorter_than_it_says(guarded: Guarded) -> None:
    """H4, H5: what was promised does not come; 408 once the time is over."""
    head = guarded.head("POST", "/search", JSON, f"content-length: {len(GOOD) + 1}", key=guarded.reader)
    started = time.monotonic()
    assert "body_timeout_s" in problem(guarded.raw(head, GOOD), 408)["detail"]
    assert 0.7 < time.monotonic() - started < 6


def test_a_body_longer_than_it_says(guarded: Guarded) -> None:
    """H4: what comes behind is a request of its own, needs a key of its own, and is mostly none at all."""
    head = guarded.head("POST", "/search", JSON, f"content-length: {len(GOOD)}", key=guarded.reader)
    kept = head.replace(b"connection: close\r\n", b"")
    received = guarded.raw(kept, GOOD + b"x" * 50 + b"\r\n\r\n")
    assert statuses(received) in ([200, 400], [400])
    received = guarded.raw(kept, GOOD + guarded.head("GET", "/collections"))
    assert statuses(received) == [200, 401]
    assert b"codes" not in received.rpartition(b"HTTP/1.1")[2]


def test_chunks_that_are_none(guarded: Guarded) -> None:
    """H4, H6: sizes that are negative, hexadecimal nonsense, too large for a machine word, or not what follows."""
    head = guarded.head("POST", "/search", JSON, "transfer-encoding: chunked", key=guarded.reader)
    for chunks in (
        b"-1\r\nx\r\n",
        b"zz\r\nx\r\n",
        b"f" * 40 + b"\r\nx\r\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"\r\n\r\n",
        b"0x3\r\nabc\r\n",
    ):
        received = guarded.raw(head, chunks, wait_s=5)
        assert statuses(received) in ([400], [408], []), (chunks, received[:200])
    is_well(guarded)


# -- slow ones -----------------------------------------------------------------------------------------------------


def test_bodies_that_never_end_hold_nothing(guarded: Guarded) -> None:
    """H5: thirty halves of a body, and thirty that come at a byte a second, are all answered in time."""
    head = guarded.head("POST", "/search", JSON, "content-length: 1000", key=guarded.reader)
    before = guarded.threads()
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", guarded.port), timeout=10)) for _ in range(30)
        ]
        for one in sockets:
            one.sendall(head + b"{")
        is_well(guarded)
        for _ in range(3):
            time.sleep(0.5)
            for one in sockets[::2]:
                with suppress(OSError):
                    one.sendall(b" ")
        for one in sockets:
            received = b""
            with suppress(ConnectionResetError):
                while part := one.recv(65536):
                    received += part
            problem(received, 408)
    assert guarded.threads() <= before + 2
    is_well(guarded)


def test_heads_that_never_end_are_bounded(guarded: Guarded) -> None:
    """H5: half a head may wait as long as it likes, as a proxy's limit is for; there may only be so many of them.

    Beyond `max_connections` the others are refused at once, not left waiting, and once it is over all is well.
    """
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS - 5):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", guarded.port)))
            one.sendall(b"GET /collections HTTP/1.1\r\nhost: x\r\nx-slow: ")
        is_well(guarded)
        for _ in range(10):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", guarded.port)))
            one.sendall(b"GET /collections HTTP/1.1\r\nx-slow: ")
        started = time.monotonic()
        assert statuses(guarded.raw(guarded.head("GET", "/livez"))) == [503]
        assert time.monotonic() - started < 5
    for _ in range(100):
        if statuses(guarded.raw(guarded.head("GET", "/livez"))) == [200]:
            break
        time.sleep(0.05)
    is_well(guarded)


# -- smuggling and misdirection ------------------------------------------------------------------------------------

SMUGGLED = b"GET /collections HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "content-length: 0\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 0",
        "content-length: 5, 0",
        "content-length: +5",
        "content-length: -5",
        "content-length: 0x5",
        "content-length: 5 5",
        "content-length: ",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding : chunked",
        "transfer-encoding:\x0bchunked",
        "content-length: 5\r\n x-folded: y",
        "x-folded: a\r\n b\r\n\tc\r\ncontent-length: 0",
        "x-bare: a\nx-injected: b\ncontent-length: 0",
        "x-nul: a\0b\r\ncontent-length: 0",
        "x-cr: a\rb\r\ncontent-length: 0",
        ": empty\r\ncontent-length: 0",
        "no colon\r\ncontent-length: 0",
    ],
    ids=repr,
)
def test_what_a_proxy_and_we_could_read_differently(guarded: Guarded, headers: str) -> None:
    """H6: refused, or read in one way that gives nobody more than their key does: nothing behind it is answered 2xx."""
    head = guarded.head("POST", "/search", JSON, headers, key=guarded.reader).replace(b"connection: close\r\n", b"")
    received = guarded.raw(head + b"0\r\n\r\n" + SMUGGLED, b"", wait_s=2)
    found = statuses(received)
    assert all(400 <= status < 500 for status in found), received[:500]
    assert b"codes" not in received, "the request behind it had no key"
    is_well(guarded)


def test_bare_line_feeds(guarded: Guarded) -> None:
    """H6: lines that end in LF alone are refused or read as any; the key counts either way."""
    for key, good in ((None, 401), (guarded.reader, 200)):
        head = guarded.head("GET", "/collections", key=key).replace(b"\r\n", b"\n")
        assert statuses(guarded.raw(head, wait_s=4)) in ([good], [400], [])


@pytest.mark.parametrize("size", [200_000, 5_000_000])
def test_a_head_of_any_size(guarded: Guarded, size: int) -> None:
    """H6: one header of 200 kB, or thousands of them; refused, and no memory is kept."""
    before = guarded.rss()
    for many in (f"x-large: {'a' * size}", "\r\n".join(f"x-{place}: {'a' * 50}" for place in range(size // 60))):
        found = statuses(guarded.raw(guarded.head("GET", "/livez", many), wait_s=5))
        # httptools sets no limit to a head; what it took is gone with the connection.
        assert found in ([400], [431], [200], []), found
    target = "/livez?" + "a" * size
    assert statuses(guarded.raw(guarded.head("GET", target), wait_s=5)) in ([400], [414], [200], [])
    assert guarded.rss() - before < 60_000_000
    is_well(guarded)


TARGETS = [
    "/collections",
    "http://x/collections",
    "http://127.0.0.1/collections",
    "https://elsewhere.example/collections",
    "//collections",
    "//x/collections",
    "/collections/",
    "/collections%0A",
    "/collections%00",
    "/collections?",
    "/collections#/livez",
    "/collections;a=b",
    "/./collections",
    "/livez/../collections",
    "/%63ollections",
    "/COLLECTIONS",
    "/collections%2f",
    "/docs/../collections",
    "/livez%00/../../collections",
    "*",
    "x:443",
    "http://",
    "?",
    "\\collections",
]


@pytest.mark.parametrize("target", TARGETS)
def test_no_way_to_write_an_address_goes_past_the_keys(guarded: Guarded, target: str) -> None:
    """H6: absolute-form, bad Host, two of them, none: without a key nothing is told or changed."""
    hosts = ["host: x", "host: /livez", "host: x/livez?", "host: a\r\nhost: b", "host:", "x: y"]
    for host, method in itertools.product(hosts, ("GET", "POST", "DELETE")):
        head = guarded.head(method, target, JSON, "content-length: 2").replace(b"host: x", host.encode())
        received = guarded.raw(head + b"{}", wait_s=4)
        assert all(status >= 300 for status in statuses(received)), (method, received[:300])
        assert b"codes" not in received


@pytest.mark.parametrize(
    "target", ["/collections%0A", "/train%0A", "/ingest%0A", "//collections", "http://x/collections"]
)
def test_no_way_to_write_an_address_makes_more_of_a_key(guarded: Guarded, target: str) -> None:
    """H6: who may read may only read."""
    body = b'{"name": "made-by-a-reader", "bits": 64}'
    head = guarded.head("POST", target, JSON, f"content-length: {len(body)}", key=guarded.reader)
    assert all(status >= 300 for status in statuses(guarded.raw(head + body, wait_s=4)))
    head = guarded.head("GET", "/collections", key=guarded.reader)
    assert b"made-by-a-reader" not in guarded.raw(head)


def test_a_key_works_in_the_ways_that_are_meant(guarded: Guarded) -> None:
    """H6: the other side of it; an absolute target, as a proxy gets it, is either understood or refused."""
    assert b"codes" in guarded.raw(guarded.head("GET", "/collections", key=guarded.reader))
    assert statuses(guarded.raw(guarded.head("GET", "http://x/collections", key=guarded.reader))) in (
        [200],
        [400],
        [404],
    )


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "HTTP/1.1 x", "", "http/1.1"])
def test_other_versions(guarded: Guarded, version: str) -> None:
    """H6"""
    head = guarded.head("GET", "/collections").replace(b"HTTP/1.1", version.encode())
    received = guarded.raw(head, wait_s=4)
    assert all(status >= 400 for status in statuses(received))
    assert b"codes" not in received
    assert statuses(guarded.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(99), wait_s=4)) in ([400], [])
    assert all(status >= 400 for status in statuses(guarded.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", wait_s=4)))
    is_well(guarded)


def test_an_upgrade_leads_nowhere(guarded: Guarded) -> None:
    """H6: there are no websockets, and a refusal asks for the key first."""
    for target in ("/search", "/livez", "/jobs/x/events"):
        head = guarded.head(
            "GET",
            target,
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        received = guarded.raw(head.replace(b"connection: close", b"connection: upgrade"), wait_s=1)
        assert 101 not in statuses(received)
    is_well(guarded)


def test_expect_100_is_answered(guarded: Guarded) -> None:
    """H4: a client that asks first is told to go on, or of the limit before it has sent anything."""
    head = guarded.head(
        "POST", "/search", JSON, "expect: 100-continue", f"content-length: {len(GOOD)}", key=guarded.reader
    )
    assert statuses(guarded.raw(head, GOOD, pause_s=0.2))[-1] == 200
    large = head.replace(f"content-length: {len(GOOD)}".encode(), b"content-length: 900000000")
    assert statuses(guarded.raw(large)) == [413]


def test_replies_of_the_client_library_agree(guarded: Guarded) -> None:
    """The raw client above sees what an ordinary one sees."""
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=10)
    connection.request("POST", "/search", GOOD, {"content-type": "application/json", "x-api-key": guarded.reader})
    reply = connection.getresponse()
    assert Reply(reply.status, {}, reply.read()).json()["total"] == 0
    connection.close()
