"""What is seen from outside: metrics, log lines, traces. (reliability.md O1, for traces; D1, for room)"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from support import assert_problem, server

from service.app import create_app
from service.observability import JsonLines
from service.settings import Settings

SEARCH = {"collection": "digits", "query": {"code": "00" * 8}}
ITEMS = {"collection": "digits", "items": [{"id": "new", "code": "00" * 8}]}


def metrics(client: TestClient) -> dict[tuple[str, str], float]:
    """Every sample of /metrics, by its name and its labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_tell_what_happened_and_how_things_stand(client: TestClient) -> None:
    before = metrics(client)
    client.post("/search", json=SEARCH)
    client.post("/ingest", json=ITEMS)
    client.get("/collections/nobody")
    after = metrics(client)

    def more(name: str, labels: str = "") -> float:
        return after[name, labels] - before.get((name, labels), 0)

    assert more("hammingbird_requests_total", "method=POST,route=/search,status=200") == 1
    assert more("hammingbird_requests_total", "method=GET,route=/collections/{collection},status=404") == 1
    assert more("hammingbird_commit_seconds_count") == 1
    assert more("hammingbird_commit_writers_sum") == 1
    assert 0 < more("hammingbird_commit_seconds_sum") < 10
    assert more("hammingbird_items", "collection=digits") == 1
    store = client.app.state.engine.settings.data_dir / "collections" / "digits" / "items.db"  # type: ignore[attr-defined]
    assert after["hammingbird_store_bytes", "collection=digits"] >= store.stat().st_size
    assert after["hammingbird_index_bytes", "collection=digits"] > 0
    assert after["hammingbird_disk_free_bytes", ""] <= after["hammingbird_disk_total_bytes", ""]
    assert abs(after["hammingbird_disk_free_bytes", ""] - shutil.disk_usage(store).free) < 2**30
    assert after["hammingbird_jobs", "state=running"] == 0
    assert after["hammingbird_damaged", ""] == 0
    assert after["hammingbird_requests_in_flight", ""] == 1, "this one"
    assert more("hammingbird_uptime_seconds") > 0
    assert after["process_resident_memory_bytes", ""] > 10_000_000
    assert ("process_open_fds", "") in after
    assert any(name == "hammingbird_build_info" and "version=" in labels for name, labels in after)


def test_jobs_are_counted_by_state(client: TestClient) -> None:
    body = {"name": "x", "family": "itq", "bits": 32, "data": {"dataset": "digits"}}
    job = client.post("/train", json=body).json()
    client.delete(f"/jobs/{job['id']}")
    assert metrics(client)["hammingbird_jobs", "state=cancelled"] == 1


# -- room on the disk ----------------------------------------------------------------------------------------------


def test_below_the_room_to_be_left_nothing_is_added_and_searches_go_on(prepared: Path, tmp_path: Path) -> None:
    """D1: every way to add is refused with 507, which says how much there is; what takes away is not."""
    root = Path(shutil.copytree(prepared, tmp_path / "data"))
    settings = Settings(data_dir=root, min_free_bytes=2**60)
    lines = {"headers": {"content-type": "application/x-ndjson"}, "content": b'{"code": "%b"}\n' % (b"00" * 8)}
    train = {"name": "x", "family": "itq", "bits": 32, "data": {"dataset": "digits"}}
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        for response in (
            client.post("/ingest", json=ITEMS),
            client.post("/ingest", data={"collection": "digits"}, files={"files": ("a", b"x")}),
            client.post("/ingest?collection=digits", **lines),  # type: ignore[arg-type]
            client.post("/collections", json={"name": "new", "bits": 64}),
            client.post("/collections", json={"name": "new", "model": "digits-hash"}),
            client.post("/train", json=train),
        ):
            problem = assert_problem(response, 507, "disk-full")
            assert "(min_free_bytes)" in problem["detail"]
            assert f"{2**60:,}" in problem["detail"]
        assert client.get("/collections").json()["collections"][0]["items"] == 300
        assert client.post("/search", json=SEARCH).status_code == 200
        assert client.delete("/collections/digits/items/digit-0000").json() == {"deleted": 1}
        assert client.post("/collections/digits/compact").status_code == 200


def test_a_stream_says_how_far_it_came_when_the_room_was_gone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service import room, stream

    monkeypatch.setattr(stream, "BATCH_LINES", 10)
    left = iter([2**40] * 3)
    monkeypatch.setattr(room, "room_of", lambda path: room.Room(next(left, 0), 2**40))

    body = b"".join(b'{"id": "r%d", "code": "%b"}\n' % (number, b"00" * 8) for number in range(100))
    kind = {"content-type": "application/x-ndjson"}
    response = client.post("/ingest?collection=digits", content=body, headers=kind)
    problem = assert_problem(response, 507, "disk-full")
    assert "items stored before that: 30" in problem["detail"]
    assert client.get("/collections/digits").json()["items"] == 330


# -- log lines -----------------------------------------------------------------------------------------------------


def access(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "service.access"]


def test_a_line_tells_the_route_and_a_slow_request_is_a_warning(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service.access")
    with TestClient(create_app(Settings(data_dir=data_dir, slow_request_ms=0))) as client:
        client.get("/collections/digits")
        client.get("/livez")
        stream = {"content-type": "application/x-ndjson"}
        client.post("/ingest?collection=digits", content=b'{"id": "a", "code": "%b"}' % (b"00" * 8), headers=stream)
    one, two = access(caplog)
    assert (one.levelname, two.levelname) == ("WARNING", "INFO"), "a stream may last"
    line = json.loads(JsonLines().format(one))
    assert line["route"] == "/collections/{collection}"
    assert (line["method"], line["status"], line["collection"]) == ("GET", 200, "digits")
    assert line["ms"] > 0


def test_what_looks_like_a_key_is_cut_out_of_every_line() -> None:
    text = "hb_" + "0123456789abcdef" * 4
    try:
        raise ValueError(text)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed: %s", (text,), sys.exc_info())
    record.fields = {"collection": text}
    line = JsonLines().format(record)
    assert text not in line
    assert line.count("hb_...") == 3
    assert json.loads(line)["message"] == "failed: hb_..."


# -- traces --------------------------------------------------------------------------------------------------------


class Collector(HTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = ExportTraceServiceRequest()
                message.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
                for resource in message.resource_spans:
                    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                    received.services.add(names["service.name"])
                    received.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.mark.slow
def test_a_span_has_the_route_and_the_request_and_belongs_to_the_caller(tmp_path: Path) -> None:
    """Sent by the real exporter to a real collector: the template, not the path's secrets; the caller's trace."""
    trace_id, key = "4bf92f3577b34da6a3ce929d0e0e4736", "hb_" + "0" * 64
    root = tmp_path / "data"
    with Collector() as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        with server(root, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, NO_PROXY="127.0.0.1") as (address, process):
            headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "x-request-id": "mine"}
            with pytest.raises(HTTPError):
                urlopen(Request(f"{address}/collections/nobody?key={key}", headers=headers), timeout=10)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        collector.shutdown()
    assert collector.services == {"hammingbird"}
    spans = {span.name: span for span in collector.spans}
    assert not [name for name in spans if "readyz" in name], "probes are not traced"
    span = spans["GET /collections/{collection}"]
    attributes = {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
    assert span.trace_id.hex() == trace_id
    assert attributes["http.route"] == "/collections/{collection}"
    assert attributes["http.response.status_code"] == 404
    assert attributes["hammingbird.request_id"] == "mine"
    assert attributes["url.query"] == "key=hb_..."
    log = next(tmp_path.glob("server-*.log")).read_text()
    assert f'"trace_id": "{trace_id}"' in log


@pytest.mark.slow
def test_without_a_word_nothing_is_traced_and_what_would_send_is_not_loaded(data_dir: Path) -> None:
    """O1: and where a collector is named but the extra is not installed, that is said and the service starts."""
    script = """
import os, sys
from pathlib import Path
from starlette.testclient import TestClient
from service.app import create_app
from service.observability import configure_logging
from service.settings import Settings
configure_logging("info")
with TestClient(create_app(Settings(data_dir=Path(sys.argv[1])))) as client:
    assert client.get("/collections").status_code == 200
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
sys.modules["opentelemetry.sdk"] = None
with TestClient(create_app(Settings(data_dir=Path(sys.argv[1])))) as client:
    assert client.get("/collections").status_code == 200
"""
    done = subprocess.run([sys.executable, "-c", script, str(data_dir)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "telemetry configuration failed" in done.stderr
