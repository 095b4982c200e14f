"""`bench http`: both servers answer, the client counts right, and the report adds up."""

from __future__ import annotations

import socket

import pytest

from service.bench.drive import Load, _arrived, _Connection, post
from service.bench.http import HttpReport, HttpRow, http_benchmark


def test_a_reply_is_whole_when_all_of_it_is_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = _Connection(ours)
        for part, whole in ((b"HTTP/1.1 200 OK\r\ncontent-le", False), (b"ngth: 5\r\n\r\nab", False), (b"cde", True)):
            theirs.sendall(part)
            assert _arrived(connection) == whole
        theirs.sendall(b"HTTP/1.1 422 No\r\ncontent-length: 1\r\n\r\nx")
        with pytest.raises(RuntimeError, match="422"):
            _arrived(connection)


def test_a_request_is_whole() -> None:
    head, _, body = post("/search", b'{"a": 1}').partition(b"\r\n\r\n")
    assert body == b'{"a": 1}'
    assert b"content-length: 8" in head


def test_the_report_adds_up() -> None:
    load = Load(seconds=2.0, cpu=0.5, latencies=[0.001] * 99 + [0.1])
    assert load.cpu_us == 5000
    assert load.per_second == 50
    assert load.latency_us(50) == pytest.approx(1000)
    row = HttpRow("by code", 8, 150.0, 100.0, 120.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    report = HttpReport({"cores": "2"}, [row])
    assert report.as_dict()["rows"][0]["ratio"] == 1.5
    assert report.as_dict()["rows"][0]["same_ratio"] == 1.25
    head, aligned, line = report.markdown()[2:]
    assert head.count("|") == aligned.count("|") == line.count("|")
    assert "1.50x" in line


@pytest.mark.slow
def test_the_whole_of_it() -> None:
    said: list[str] = []
    report = http_benchmark(
        items=2000, bits=64, families=["itq"], connections=[1, 3], seconds=0.3, rounds=1, seed=0, say=said.append
    )
    assert len(report.rows) == 8
    assert all(row.cpu_us > 0 and row.echo_cpu_us > 0 and row.p50_us <= row.p99_us for row in report.rows)
    assert "a second" in report.facts["codes stored, application/x-ndjson"]
    assert len(said) == 9
