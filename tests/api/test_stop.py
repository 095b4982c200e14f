"""The end of a service, and of a client: what was begun is finished, nothing is left. (reliability.md X4, X5)"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import server
from wire import Stream

from index import EmbeddedCollection
from index.catalogue import STORE_FILE

CODE = "00" * 8
ENDLESS = {
    "name": "endless",
    "family": "vae",
    "data": {"dataset": "digits"},
    "params": {"epochs": 10**5, "patience": 10**5},
}

THREADS = 40
"""The most that requests are given to (anyio's own limit); they are kept."""


@pytest.fixture
def root(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "data"))


def post(address: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"{address}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def stream(address: str, collection: str) -> Stream:
    return Stream.of_lines(address, f"/ingest?collection={collection}")


def refused(address: str) -> bool:
    host, _, port = address.removeprefix("http://").partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return False
    except ConnectionRefusedError:
        return True


def wait_for(condition: Callable[[], Any], timeout_s: float = 10) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s
        time.sleep(0.02)


@pytest.mark.parametrize(
    "signals", [pytest.param(1, id="one TERM", marks=pytest.mark.slow), pytest.param(2, id="two TERMs")]
)
def test_fifty_in_flight_are_answered_and_new_ones_refused(root: Path, signals: int) -> None:
    """X5: all that was begun gets its answer and is stored; a second SIGTERM changes nothing; the exit code is 0."""
    with server(root) as (address, process):
        clients = []
        for number in range(50):
            body = json.dumps({"collection": "digits", "items": [{"id": f"f{number}", "code": CODE}]}).encode()
            length = f"content-length: {len(body)}"
            client = Stream(address, "/ingest", "content-type: application/json", length)
            client.send(body[:10])
            clients.append((client, body[10:]))
        time.sleep(0.3)  # the heads are read
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        wait_for(lambda: refused(address))
        for client, rest in clients:
            client.send(rest)
        replies = [client.reply() for client, _ in clients]
        assert {(status, body["created"]) for status, body in replies} == {(200, 1)}
        assert process.wait(10) == 0
    collection = EmbeddedCollection(root / "collections" / "digits" / STORE_FILE)
    assert len(collection) == 350
    collection.close()


@pytest.mark.slow
def test_a_stream_is_told_and_what_it_sent_is_stored(root: Path) -> None:
    """X5: an endless stream, whether it is quick or quiet, does not use up the time of grace."""
    with server(root) as (address, process):
        for name in ("quiet", "quick"):
            post(address, "/collections", {"name": name, "bits": 64})
        quiet, quick = stream(address, "quiet"), stream(address, "quick")
        quiet.chunk(b"".join(b'{"id": "q%d", "code": "%b"}\n' % (n, CODE.encode()) for n in range(30)) + b'{"id": "ha')
        sent, stopped = 0, threading.Event()

        def flood() -> None:
            nonlocal sent
            with suppress(OSError):
                while not stopped.is_set():
                    lines = (b'{"id": "e%d", "code": "%b"}\n' % (sent + n, CODE.encode()) for n in range(2000))
                    quick.chunk(b"".join(lines))
                    sent += 2000

        flooding = threading.Thread(target=flood)
        flooding.start()
        time.sleep(1)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status, body = quiet.reply()
        assert (status, body["type"]) == (503, "urn:hammingbird:problem:stopping")
        assert "it took 30 lines" in body["detail"]
        assert "items stored before that: 30" in body["detail"]
        assert process.wait(10) == 0
        assert time.monotonic() - started < 5, "of thirty seconds of grace"
        stopped.set()
        flooding.join()
        quick.socket.close()
    counts = {}
    for name, letter in (("quiet", "q"), ("quick", "e")):
        collection = EmbeddedCollection(root / "collections" / name / STORE_FILE)
        counts[name] = len(collection)
        assert {item.id for item in collection.scan()} == {f"{letter}{number}" for number in range(counts[name])}
        collection.close()
    assert counts["quiet"] == 30
    assert 0 < counts["quick"] <= sent + 2000


@pytest.mark.slow
def test_jobs_and_their_events_end_with_the_service(root: Path) -> None:
    """X5: the stream of events ends, the job is interrupted, and the next start says so."""
    with server(root) as (address, process):
        job = post(address, "/train", ENDLESS)
        with urllib.request.urlopen(f"{address}/jobs/{job['id']}/events", timeout=30) as events:
            assert events.readline().startswith(b"event: job")
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert time.monotonic() - started < 10
    with (
        server(root) as (address, _),
        urllib.request.urlopen(f"{address}/jobs/{job['id']}", timeout=30) as reply,
    ):
        assert json.load(reply)["state"] == "interrupted"


@pytest.mark.slow
def test_what_takes_longer_than_the_grace_is_cut_off_and_the_exit_code_says_so(tmp_path: Path) -> None:
    """X5"""
    with server(tmp_path / "data", HAMMINGBIRD_SHUTDOWN_GRACE_S="1") as (address, process):
        client = Stream(address, "/search", "content-type: application/json", "content-length: 10")
        client.send(b"{")
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 1
        assert 0.9 < time.monotonic() - started < 5
        client.socket.close()


@pytest.mark.slow
def test_a_second_interrupt_cuts_it_short(tmp_path: Path) -> None:
    """X5: the person at the keyboard need not wait."""
    with server(tmp_path / "data") as (address, process):
        client = Stream(address, "/search", "content-type: application/json", "content-length: 10")
        client.send(b"{")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None, "what is in flight is waited for"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        client.socket.close()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["opening", "importing", "warm-up"])
def test_a_term_before_it_serves_ends_it_at_once(root: Path, tmp_path: Path, stage: str) -> None:
    """X5: and nothing is left: not the lock, nor the process that compiles."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--data-dir", str(root)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
        if stage == "warm-up":
            wait_for(lambda: b"Waiting for application startup" in log.read_bytes(), 60)
        else:
            wait_for((root / "lock").exists, 60)
            wait_for(lambda: (root / "lock").read_text().split()[:1] == [str(process.pid)], 60)
            time.sleep(0.8 if stage == "importing" else 0)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - started < 5
    with suppress(ProcessLookupError):  # the group of the process: nobody of it is left
        wait_for(lambda: os.killpg(process.pid, 0), 5)
        raise AssertionError("a process was left behind")
    with server(root) as (address, _):
        assert post(address, "/search", {"collection": "digits", "query": {"id": "digit-0000"}, "k": 1})["total"] == 1


# -- clients that go away ------------------------------------------------------------------------------------------


@pytest.fixture
def held(root: Path) -> Iterator[tuple[str, int, str]]:
    """A service, its process, and a job of it that does not end."""
    with server(root) as (address, process):
        yield address, process.pid, post(address, "/train", ENDLESS)["id"]


@pytest.mark.parametrize(
    "count", [pytest.param(25, id="a hundred"), pytest.param(125, id="five hundred", marks=pytest.mark.slow)]
)
def test_clients_that_go_away_leave_nothing_behind(held: tuple[str, int, str], count: int) -> None:
    """X4: in the middle of an upload, of a stream, of a search, of events: descriptors and threads are as before."""
    address, pid, job = held
    search = json.dumps({"collection": "digits", "query": {"id": "digit-0000"}, "radius": 64}).encode()
    with_body = ("content-type: application/json", f"content-length: {len(search)}")

    def used() -> int:
        """Open descriptors, without those of the stores: there each thread that searched has one, and keeps it."""
        links = [Path(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        found = 0
        for link in links:
            with suppress(FileNotFoundError):
                found += ".db" not in os.readlink(link)
        return found

    def threads() -> int:
        return len(os.listdir(f"/proc/{pid}/task"))

    def begin(number: int) -> Stream:
        kind = number % 4
        if kind == 0:
            client = Stream(address, "/ingest", "content-type: application/json", "content-length: 100000")
            client.send(b'{"collection": "digits", "items": [')
        elif kind == 1:
            client = stream(address, "digits")
            client.chunk(b'{"id": "half')
        elif kind == 2:
            client = Stream(address, "/search", *with_body)
            client.send(search)
        else:
            client = Stream(address, f"/jobs/{job}/events", method="GET")
        return client

    def round_of(clients: int) -> None:
        begun = [begin(number) for number in range(clients)]
        time.sleep(0.3)
        for client in begun:
            client.socket.close()
        post(address, "/search", {"collection": "digits", "query": {"id": "digit-0000"}, "k": 1})

    round_of(4)
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) > 20)
    time.sleep(0.5)
    before = used(), threads()
    for _ in range(4 * count // 100):
        round_of(100)
        assert threads() <= before[1] + THREADS
    wait_for(lambda: used() <= before[0])
