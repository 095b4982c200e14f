"""`hammingbird ingest --url ... --workers`: several senders, and replicas that are busy, go, or are none."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import free_port, server
from typer.testing import CliRunner

from service.cli import app

NOWHERE = dict.fromkeys(("HAMMINGBIRD_URL", "HAMMINGBIRD_DATA_DIR", "HAMMINGBIRD_API_KEY"))


def run(*arguments: object, **environment: str) -> Any:
    words = [str(argument) for argument in arguments]
    return CliRunner(env=NOWHERE).invoke(app, words, catch_exceptions=False, env=environment)


def as_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


class Door:
    """Another address of a service: what it does with each ingest is said beforehand, after that it lets all through.

    busy: 503 with Retry-After. gone: the service does it, its reply is lost, and then nothing answers any more.
    """

    def __init__(self, behind: str, acts: Iterable[str] = (), holds: int | None = None) -> None:
        """holds: the status for whoever asks for an item."""
        door, self.acts, self.keys = self, list(acts), []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                if holds is None:
                    self._tell(*_passed_on(behind, self))
                else:
                    self._tell(holds, b'{"detail": "it is not there"}')

            def do_POST(self) -> None:
                self.body = self.rfile.read(int(self.headers["content-length"]))
                act = door.acts.pop(0) if door.acts else "pass"
                door.keys.append(self.headers["idempotency-key"])
                if act == "busy":
                    self._tell(503, b'{"detail": "not ready yet"}', ("retry-after", "0"))
                    return
                told = _passed_on(behind, self)
                if act == "gone":
                    door.shut()
                else:
                    self._tell(*told)

            def _tell(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
                self.send_response(status)
                for name, value in (*headers, ("content-length", str(len(body)))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def shut(self) -> None:
        self._http.socket.close()
        threading.Thread(target=self._http.shutdown).start()

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def _passed_on(behind: str, request: Any) -> tuple[int, bytes]:
    headers = {name: request.headers[name] for name in ("content-type", "idempotency-key") if name in request.headers}
    asked = urllib.request.Request(behind + request.path, getattr(request, "body", None), headers)
    try:
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture(scope="module")
def service(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service."""
    with server(Path(shutil.copytree(prepared, tmp_path_factory.mktemp("service") / "data"))) as (address, _):
        yield address


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that ingest 70 texts in 7 batches."""
    monkeypatch.setattr("service.cli.batches._MOST_ITEMS", 10)
    lines = [{"id": f"t{n}", "text": f"sentence {n} about files", "label": str(n % 3)} for n in range(70)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    name = f"c{tmp_path.name[-20:]}".lower()
    return ["ingest", "--data", str(tmp_path / "t.jsonl"), "--collection", name, "--model", "docs-hash"]


def items_of(service: str, collection: str) -> int:
    found: int = as_json("collections", "show", collection, "--url", service)["items"]
    return found


def test_replicas_take_batches_in_turn_and_one_goes(service: str, texts: list[str]) -> None:
    """One is too busy at first, one does what it is asked and is gone before it says so: nothing is lost or twice."""
    with Door(service, ["busy"]) as first, Door(service, ["pass", "gone"]) as second:
        done = run(*texts, "--url", first.address, "--url", second.address, "--workers", "3", "--json")
        assert done.exit_code == 0, done.output
        reply = json.loads(done.stdout)
        assert reply["created"] == items_of(service, texts[4]) == 70  # the key makes the second reply the first one
        assert sum(reply["replicas"].values()) == 70
        assert reply["replicas"][second.address] in (10, 20, 30)  # as far as it had begun on any when it went
        assert f"{first.address}: not ready yet. It is asked again; meanwhile the others take over" in done.stderr
        assert f"{second.address} did not answer to the end" in done.stderr
        assert len({*first.keys, *second.keys}) == 7
        assert len([*first.keys, *second.keys]) == 9
        again = run(*texts, "--url", first.address)
        assert again.stdout == f"{texts[4]}: 0 created, 0 updated, 70 unchanged\n"


def test_senders_at_one_address(service: str, texts: list[str]) -> None:
    done = run(*texts, "--url", service, "--workers", "2")
    assert done.stdout == f"{texts[4]}: 70 created, 0 updated, 0 unchanged\n"
    assert items_of(service, texts[4]) == 70


def test_one_line_says_where_it_went(service: str, texts: list[str]) -> None:
    with Door(service) as door:
        done = run(*texts, "--url", f"{service},{door.address}/")
        assert done.stdout == (
            f"{texts[4]}: 70 created, 0 updated, 0 unchanged; 40 by {service}, 30 by {door.address}\n"
        )


def test_addresses_that_do_not_share_a_store_are_refused(
    service: str, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.replicas._SEEN_WITHIN_S", 0.3)
    with Door(service, holds=404) as other:
        done = run(*texts, "--url", f"{service},{other.address}", "--workers", "2")
    assert done.exit_code == 1
    assert f"{other.address} does not have item 't0', which {service} stored" in done.stderr
    assert other.keys == []
    assert "of 70 items are stored" in done.stderr


def test_what_is_bad_is_named_and_the_rest_stored(service: str, texts: list[str], tmp_path: Path) -> None:
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    lines[33] = json.dumps({"id": "t33", "text": "  ", "label": "0", "n": 33})
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    refused = run(*texts, "--url", service, "--workers", "2")
    assert refused.exit_code == 1
    assert "t33: the text is empty. Mend it and run again, or pass --skip-bad" in refused.stderr
    count = int(refused.stderr.split("--skip-bad; ")[1].split()[0])
    assert count == items_of(service, texts[4])
    done = run(*texts, "--url", service, "--workers", "2", "--skip-bad")
    assert done.stdout == f"{texts[4]}: {69 - count} created, 0 updated, {count} unchanged\n"
    assert "left out t33: the text is empty" in done.stderr


def test_no_replica_takes_it(service: str, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    closed = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    nobody = run(*texts, "--url", ",".join(closed))
    assert nobody.exit_code == 1
    assert f"nothing answers at {closed[1]}" in nobody.stderr
    monkeypatch.setattr("service.cli.replicas.PATIENCE_S", 0.5)
    with Door(service, ["pass", *["busy"] * 10_000]) as door:
        late = run(*texts, "--url", door.address, "--workers", "2")
    assert late.exit_code == 1
    assert (
        f"a batch was not taken within 0.5 s; {door.address}: not ready yet; 10 of 70 items are stored" in late.stderr
    )
    unknown = run(*texts[:-1], "nobody", "--url", service, "--workers", "2")
    assert "there is no model 'nobody'" in unknown.stderr


@pytest.mark.parametrize("place", ["--url", "--data-dir"])
def test_an_id_twice_is_refused_before_anything_is_sent(data_dir: Path, tmp_path: Path, place: str) -> None:
    """Which of the two is stored last would be chance."""
    (tmp_path / "t.jsonl").write_text('{"id": "a", "text": "one"}\n{"id": "a", "text": "two"}\n')
    at = {"--url": f"http://127.0.0.1:{free_port()}", "--data-dir": data_dir}[place]
    into = ["ingest", "--data", tmp_path / "t.jsonl", "--collection", "c", "--model", "docs-hash", place, at]
    done = run(*into, "--workers", "2")
    assert done.exit_code == 1
    assert "holds the id 'a' more than once" in done.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--workers", "0"], "--workers"),
        (["--workers", "65"], "--workers"),
        (["--url", "http://a,http://b", "--data-dir", "x"], "two places to work in"),
        (["--url", "http://a,http://b/,http://a/"], "http://a twice"),
        (["--url", "http://a", "--workers", "2", "--on-duplicate", "tag", "--radius", "1"], "one sender only"),
    ],
)
def test_wrong_usage(options: list[str], why: str) -> None:
    done = run("ingest", "--data", "digits", "--collection", "c", *options)
    assert done.exit_code == 2
    assert why in " ".join(done.stderr.replace("│", " ").split())
    assert run("models", "--url", "http://a,http://b").exit_code == 2
