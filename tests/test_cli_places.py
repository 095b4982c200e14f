"""The same commands in a data directory and at a service: equal answers, refusals in a line, pictures, JSON alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support import free_port, server
from typer.testing import CliRunner

from models.images import decode_image, encode_png
from service.cli import app
from service.keys import KeyFile


def run(*arguments: object, **environment: str) -> Any:
    runner = CliRunner(env=dict.fromkeys(("HAMMINGBIRD_URL", "HAMMINGBIRD_DATA_DIR", "HAMMINGBIRD_API_KEY")))
    return runner.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False, env=environment)


def as_json(*arguments: object, **environment: str) -> Any:
    result = run(*arguments, "--json", **environment)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # which holds nothing else


@pytest.fixture(scope="module")
def served(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address and the data directory of a service; what a test adds it takes away again."""
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("served") / "data"))
    with server(root) as (address, _):
        yield address, root


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The options that say where to work."""
    if request.param == "remote":
        return ["--url", request.getfixturevalue("served")[0]]
    root = shutil.copytree(request.getfixturevalue("prepared"), tmp_path / "data")
    return ["--data-dir", str(root)]


def without_time(reply: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in reply.items() if name != "took_ms"}


def test_both_places_answer_alike(served: tuple[str, Path], prepared: Path, tmp_path: Path) -> None:
    """Every command that only reads says the very same, wherever it asks."""
    here = ["--data-dir", shutil.copytree(prepared, tmp_path / "data")]
    there = ["--url", served[0]]
    picture = tmp_path / "query.png"
    picture.write_bytes(encode_png(np.full((8, 8, 1), 90, np.uint8)))
    for command in (
        ["search", "--collection", "digits", "--id", "digit-0000", "-k", "3"],
        ["search", "--collection", "digits", "--image", picture, "--radius", "30", "--limit", "5"],
        ["search", "--collection", "digits", "--image", picture, "--rerank", "soft", "--filter", '{"label": "3"}'],
        ["search", "--collection", "python-docs", "--text", "open a file"],
        ["search", "--collection", "vectors", "--vector", json.dumps([0.5] * 24), "-k", "2"],
        ["search", "--collection", "digits", "--code", "00" * 8, "-k", "1"],
        ["generate", "--model", "digits-vae", "-n", "3", "--seed", "7", "--collection", "digits"],
        ["generate", "--model", "digits-vae", "-n", "2", "--id", "digit-0000", "--collection", "digits"],
        ["denoise", "--model", "digits-denoise", "--image", picture, "--find", "digits", "-k", "2"],
        ["models"],
        ["models", "show", "digits-hash"],
        ["collections"],
    ):
        mine, theirs = as_json(*command, *here), as_json(*command, *there)
        if isinstance(mine, dict):
            mine, theirs = without_time(mine), without_time(theirs)
        assert mine == theirs, command
    mine, theirs = (as_json("collections", "show", "digits", *at) for at in (here, there))
    assert mine["health"]["findings"] == theirs["health"]["findings"]


def test_items_go_in_and_come_out(place: list[str], tmp_path: Path) -> None:
    """Ingest, filter, page, delete: with what is bad left out, and duplicates."""
    rows = [{"id": f"t{n}", "text": f"a sentence about subject number {n}", "label": str(n % 2)} for n in range(7)]
    rows[3]["text"] = " "
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    into = ["ingest", "--data", tmp_path / "t.jsonl", "--collection", "mine", "--model", "docs-hash", *place]
    refused = run(*into)
    assert refused.exit_code == 1
    assert "t3: the text is empty" in refused.stderr
    assert "--skip-bad" in refused.stderr
    again = run(*into, "--skip-bad", "--json")
    assert json.loads(again.stdout) == {"collection": "mine", "created": 0, "updated": 0, "unchanged": 6}
    assert "left out t3: the text is empty" in again.stderr
    search = ["search", "--collection", "mine", "--text", "a sentence about subject number 2", *place]
    found = as_json(*search, "--filter", '{"label": "0"}')
    assert {hit["payload"]["label"] for hit in found["hits"]} == {"0"}
    page = run(*search, "--radius", "128", "--limit", "2")
    assert "2 of 6 shown; --limit shows more" in page.stderr
    copies = as_json(*into, "--skip-bad", "--on-duplicate", "reject", "--radius", "0")
    assert copies["unchanged"] + copies["duplicates"] == 6
    assert run("collections", "delete", "mine", *place).exit_code == 0
    assert run(*search).exit_code == 1


def test_a_collection_of_codes_and_a_model_of_versions(place: list[str]) -> None:
    made = as_json("collections", "create", "codes", "--bits", "16", "--index", "label", *place)
    assert (made["bits"], made["model"], made["indexes"]) == (16, None, ["label"])
    assert "codes: 16 bits" not in run("collections", "create", "codes", "--bits", "16", *place).stdout
    assert "it takes ready-made codes" in run("collections", "show", "codes", *place).stdout
    assert run("collections", "delete", "codes", *place).exit_code == 0
    for _ in range(2):
        trained = as_json("train", "--data", "spiral", "--name", "s", "--family", "lsh", "--bits", "8", *place)
        assert trained["model"].startswith("s:")
    for seed in (1, 2):
        as_json("train", "--data", "spiral", "--name", "s", "--family", "lsh", "--bits", "8", "--seed", seed, *place)
    versions = [card["version"] for card in as_json("models", *place) if card["name"] == "s"]
    assert versions[:3] == sorted(versions, reverse=True)[:3]
    assert "champion" in as_json("models", "promote", f"s:{versions[-1]}", *place)["aliases"]
    assert as_json("models", "show", "s", *place)["version"] == versions[-1]
    assert "say which version" in run("models", "delete", "s", *place).stderr
    for version in versions:
        assert run("models", "delete", f"s:{version}", *place).exit_code == 0
    used = run("models", "delete", "digits-hash:1", *place)
    assert used.exit_code == 1
    assert "fills digits" in used.stderr


def test_pictures(place: list[str], tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    made = run("generate", "--model", "digits-vae", "-n", "4", "--png", sheet, "--out", tmp_path / "items", *place)
    assert made.exit_code == 0
    assert decode_image(sheet.read_bytes()).shape[2] == 1
    assert sorted(path.name for path in (tmp_path / "items").iterdir()) == [f"00{n}.png" for n in range(4)]
    hits = tmp_path / "hits.png"
    search = ["search", "--collection", "digits", "--id", "digit-0000", *place]
    assert run(*search, "-k", "5", "--sheet", hits).exit_code == 0
    drawn = decode_image(hits.read_bytes())
    assert drawn.shape[2] == 3
    assert (drawn < 60).any()
    mask = tmp_path / "mask.json"
    mask.write_text(json.dumps([[1] * 8] * 4 + [[0] * 8] * 4))
    torn = tmp_path / "items" / "000.png"
    options = ["--image", torn, "--mask", mask, "--seed", "3", "--out", tmp_path / "whole.png"]
    assert run("denoise", "--model", "digits-denoise", *options, *place).exit_code == 0
    before, after = (decode_image(path.read_bytes()) for path in (torn, tmp_path / "whole.png"))
    np.testing.assert_array_equal(before[4:], after[4:])  # what was known is as it was
    text = run("search", "--collection", "python-docs", "--text", "files", "--sheet", hits, *place)
    assert text.exit_code == 1
    assert "--sheet draws pictures" in text.stderr
    nowhere = run(*search, "--sheet", tmp_path / "no" / "x.png")
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.fixture(params=["local", "remote"])
def working(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[list[str]]:
    """The options that say where to work, on a directory that is the test's own."""
    if request.param == "local":
        yield ["--data-dir", str(data_dir)]
        return
    with server(data_dir) as (address, _):
        yield ["--url", address]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_jobs_are_followed(working: list[str]) -> None:
    """Train on what is kept, go over to it and back, calibrate and search by precision, find duplicates."""
    train = ["train", "--collection", "vectors", "--name", "second", "--family", "pca-sign", "--bits", "16", *working]
    trained = as_json(*train)
    assert (trained["model"], trained["metrics"]["items"]) == ("second:1", 300)
    over = ["collections", "reencode", "vectors", "--model", "second", *working]
    assert "vectors is served by second:1" in run(*over, "--no-gate").stdout
    assert run("collections", "rollback", "vectors", *working).stdout == "vectors is served by vectors-itq:1\n"
    calibrated = run("collections", "calibrate", "digits", "--queries", "100", *working)
    assert "precision 0.8: radius " in calibrated.stdout
    assert "calibrating digits 100%" in calibrated.stderr
    near = ["search", "--collection", "digits", "--id", "digit-0000", "--target-precision", "0.5", *working]
    assert as_json(*near)["radius"] >= 0
    found = as_json("collections", "duplicates", "digits", "--radius", "64", *working)
    assert (found["groups_total"], found["items_in_groups"]) == (1, 300)
    assert (
        "1 groups with 300 of 300 items"
        in run("collections", "duplicates", "digits", "--radius", "64", *working).stdout
    )


@pytest.mark.slow
def test_a_training_on_what_is_kept_is_cancelled_by_ctrl_c(served: tuple[str, Path]) -> None:
    """And refused in a line where it fails."""
    place = ["--url", served[0]]
    train = ["train", "--collection", "vectors", "--name", "x"]
    refused = run(*train, "--labels", "--label", "nothing", *place)
    assert refused.exit_code == 1
    assert "failed: vectors has no labels to learn from" in refused.stderr
    long = [sys.executable, "-m", "service", *train, "--set", "epochs=100000", *place]
    process = subprocess.Popen(long, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "training x 0%" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert "is cancelled" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "x" not in {card["name"] for card in as_json("models", *place)}


def test_refusals_are_a_line_and_exit_one(place: list[str]) -> None:
    for arguments, why in (
        (["search", "--collection", "nobody", "--text", "t"], "there is no collection 'nobody'"),
        (["search", "--collection", "digits", "--text", "t"], "the model takes image input; got text"),
        (["search", "--collection", "digits", "--id", "digit-0000", "--filter", '{"$no": 1}'], "$no"),
        (["search", "--collection", "digits", "--id", "digit-0000", "--target-precision", "0.9"], "calibrate"),
        (["generate", "--model", "digits-hash"], "which cannot sample"),
        (["generate", "--model", "digits-vae", "-n", "100000"], "max_generate"),
        (["generate", "--model", "digits-vae", "--temperature", "90"], "/temperature"),
        (["denoise", "--model", "docs-hash", "--text", "x"], "which cannot denoise"),
        (["models", "show", "nobody"], "there is no model 'nobody'"),
        (["collections", "show", "nobody"], "there is no collection 'nobody'"),
        (["collections", "delete", "nobody"], "there is no collection 'nobody'"),
        (["restore", "nowhere.tar"], "nowhere.tar cannot be read"),
    ):
        result = run(*arguments, *place)
        assert result.exit_code == 1, arguments
        assert why in result.stderr, arguments
        assert result.stdout == "", arguments
        assert len([line for line in result.stderr.splitlines() if line.startswith("error:")]) == 1, arguments


@pytest.mark.slow
def test_a_backup_comes_back_through_a_service(served: tuple[str, Path], tmp_path: Path) -> None:
    address, root = served
    backup = tmp_path / "v.tar"
    assert run("backup", "vectors", "--to", backup, "--data-dir", root).exit_code == 0
    done = as_json("restore", backup, "--as", "copied", "--url", address)
    assert done["collections"] == {"copied": 300}
    assert [model["added"] for model in done["models"]] == [False]
    assert run("collections", "delete", "copied", "--url", address).exit_code == 0


def test_a_directory_that_is_served_says_where_to_ask(served: tuple[str, Path]) -> None:
    address, root = served
    search = ["search", "--collection", "digits", "--id", "digit-0000", "-k", "1"]
    refused = run(*search, "--data-dir", root)
    assert refused.exit_code == 1
    assert f"--url {address} (or HAMMINGBIRD_URL)" in refused.stderr
    assert as_json(*search, HAMMINGBIRD_URL=address, HAMMINGBIRD_DATA_DIR=str(root))["total"] == 1
    # What is said on the command line counts more than the environment.
    assert "in use by process" in run(*search, "--data-dir", root, HAMMINGBIRD_URL=address).stderr
    assert run(*search, "--data-dir", root, "--url", address).exit_code == 2
    assert run(*search, "--url", "127.0.0.1:8000").exit_code == 2
    assert run("collections", "--url", address, "show", "digits").exit_code == 2  # it would not reach `show`


def test_where_nothing_or_something_else_answers() -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    refused = run("models", "--url", closed)
    assert refused.exit_code == 1
    assert f"nothing answers at {closed}" in refused.stderr
    with _answers([(200, {}, b"<html>"), (404, {}, b"<html>"), (200, {}, b"[]")]) as address:
        for _ in range(3):
            other = run("models", "--url", address)
            assert other.exit_code == 1
            assert "is it the address of a Hammingbird service?" in other.stderr


def test_a_busy_service_is_asked_again() -> None:
    busy = (429, {"retry-after": "0"}, b'{"detail": "512 searches are waiting"}')
    with _answers([busy, busy, (200, {}, b'{"models": [], "damaged": []}')]) as address:
        assert as_json("models", "--url", address) == []
    with _answers([busy] * 5) as address:
        result = run("models", "--url", address)
        assert result.exit_code == 1
        assert "512 searches are waiting" in result.stderr


def test_a_key_is_sent_and_asked_for(data_dir: Path) -> None:
    _, text = KeyFile(data_dir).create("me", "read")
    with server(data_dir) as (address, _):
        refused = run("models", "--url", address)
        assert refused.exit_code == 1
        assert "HAMMINGBIRD_API_KEY" in refused.stderr
        assert as_json("models", "--url", address, HAMMINGBIRD_API_KEY=text)
        train = ["train", "--data", "spiral", "--name", "s", "--family", "lsh", "--bits", "8", "--url", address]
        scope = run(*train, HAMMINGBIRD_API_KEY=text)
        assert scope.exit_code == 1
        assert "admin" in scope.stderr


def test_a_served_command_needs_no_torch(served: tuple[str, Path], tmp_path: Path) -> None:
    """Nor FAISS nor FastAPI: it answers as fast as Python starts."""
    (tmp_path / "c.csv").write_text("id,text\na,one sentence about files\nb,another about sockets\n")
    script = """
import sys
sys.argv[0] = "hammingbird"
from service.__main__ import main
try:
    main()
finally:
    loaded = {"torch", "faiss", "numba", "fastapi", "starlette", "pydantic", "sklearn"} & set(sys.modules)
    if loaded:
        raise SystemExit(f"loaded {loaded}")
"""
    for command in (
        ["search", "--collection", "digits", "--id", "digit-0000", "--sheet", str(tmp_path / "x.png")],
        ["ingest", "--data", str(tmp_path / "c.csv"), "--collection", "python-docs"],
        ["generate", "--model", "digits-vae", "--png", str(tmp_path / "y.png")],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *command, "--url", served[0]], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def completed(*words: str, **environment: str) -> list[str]:
    asked = {"_HAMMINGBIRD_COMPLETE": "complete_bash", "COMP_CWORD": str(len(words))}
    command = [sys.executable, "-m", "service"]
    whole = {**os.environ, "COMP_WORDS": " ".join(("hammingbird", *words)), **asked, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=whole, check=True).stdout.split()


def test_completion_asks_a_service(served: tuple[str, Path]) -> None:
    address, closed = served[0], f"http://127.0.0.1:{free_port()}"
    assert completed("search", "--collection", "p", HAMMINGBIRD_URL=address) == ["python-docs"]
    assert completed("models", "show", "digits-v", HAMMINGBIRD_URL=address) == ["digits-vae"]
    assert completed("search", "--collection", "p", HAMMINGBIRD_URL=closed) == []


class _answers:
    """A server that gives these answers, one after another."""

    def __init__(self, replies: list[tuple[int, Mapping[str, str], bytes]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            left: ClassVar = list(replies)

            def do_GET(self) -> None:
                status, headers, body = self.left.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
