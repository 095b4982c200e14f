"""The command line: every command, its help, its errors, its pipes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import free_port
from typer.testing import CliRunner

from models.images import encode_png
from service.cli import app
from service.cli.base import open_engine

COMMANDS = [
    "serve",
    "demo",
    "train",
    "ingest",
    "search",
    "generate",
    "denoise",
    "models",
    "collections",
    "evaluate",
    "bench",
    "keys",
    "backup",
    "restore",
    "check",
]
"""Those of the contract, in its order."""


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def as_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # which holds nothing else


def test_help_names_every_command_and_each_has_an_example() -> None:
    done = subprocess.run([sys.executable, "-m", "service", "--help"], capture_output=True, text=True, check=True)
    assert re.findall(r"^│ ([a-z]+) ", done.stdout, re.MULTILINE) == COMMANDS
    for command in COMMANDS:
        assert f"hammingbird {command}" in " ".join(run(command, "--help").output.split())


def test_help_does_not_load_torch() -> None:
    heavy = {"torch", "faiss", "sklearn", "numpy", "scipy", "PIL", "pydantic", "fastapi", "starlette", "httpx2"}
    script = f"import sys, service.cli; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures of several sizes, grey and in colour, in two sub-folders."""
    rng = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            shape = (rng.integers(20, 60), rng.integers(20, 60), rng.choice([1, 3]))
            picture = (rng.normal(level, 20, shape)).clip(0, 255).astype(np.uint8)
            (tmp_path / "photos" / label / f"{number:02d}.png").write_bytes(encode_png(picture))
    return tmp_path / "photos"


def test_a_folder_of_pictures_in_three_commands(photos: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    options = ["--data-dir", data_dir]
    trained = as_json("train", "--data", photos, "--name", "photos-hash", "--bits", 32, "--set", "epochs=3", *options)
    assert trained["model"] == "photos-hash:1"
    counts = as_json("ingest", "--data", photos, "--collection", "photos", "--model", "photos-hash", *options)
    assert counts == {"collection": "photos", "created": 40, "updated": 0, "unchanged": 0}
    counts = as_json("ingest", "--data", photos, "--collection", "photos", *options)
    assert counts["unchanged"] == 40
    found = as_json("search", "--collection", "photos", "--image", photos / "dark" / "03.png", "-k", 5, *options)
    assert (found["hits"][0]["distance"], found["total"]) == (0, 5)
    assert "dark/03.png" in [hit["id"] for hit in found["hits"] if hit["distance"] == 0]
    assert sum(hit["payload"]["label"] == "dark" for hit in found["hits"]) >= 4
    by_id = as_json("search", "--collection", "photos", "--id", "dark/03.png", "--radius", 0, *options)
    assert by_id["complete"]
    assert as_json("models", *options)[0]["name"] == "photos-hash"
    assert as_json("collections", *options) == [
        {"name": "photos", "items": 40, "bits": 32, "backend": "embedded", "model": "photos-hash:1"}
    ]
    assert run("check", *options).exit_code == 0
    assert "sound" in run("check", *options).output
    for command in (["models", *options], ["collections", *options], ["models", "--families"]):
        assert run(*command).exit_code == 0
    table = run("search", "--collection", "photos", "--id", "dark/03.png", "-k", 2, *options)
    assert "dark/03.png" in table.output
    assert run("collections", "delete", "photos", *options).exit_code == 0
    assert as_json("collections", *options) == []


def test_a_width_is_proposed_and_pairs_are_learned_from(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "v.npz", x=rng.normal(size=(60, 6)), ids=[f"v{place}" for place in range(60)])
    (tmp_path / "pairs.csv").write_text("a,b,same\nv0,v1,true\nv2,v3,true\nv0,v2,false\n")
    options = ["--data", tmp_path / "v.npz", "--name", "x", "--data-dir", tmp_path / "data", "--bits", "auto"]
    options += ["--pairs", tmp_path / "pairs.csv", "--set", "epochs=1"]
    done = run("train", *options)
    assert done.exit_code == 0, done.output
    assert "bytes an item: " in done.stderr
    assert done.stdout.rstrip().endswith("learned from pairs")
    metrics = as_json("train", *options)["metrics"]
    assert (metrics["supervised"], metrics["labelled"]) == ("pairs", 4)
    assert metrics["bits_chosen"]["bits"] % 8 == 0


def test_progress_in_a_pipe_is_plain_lines(tmp_path: Path) -> None:
    command = ["train", "--data", "digits", "--name", "x", "--set", "epochs=2", "--data-dir", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "service", *command], capture_output=True, text=True, check=True)
    assert "training x 100%" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.startswith("x:1: precision@10 by label 0.")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["train", "--data", "nowhere", "--name", "x"], "neither a file or folder"),
        (["train", "--data", "digits", "--name", "x", "--family", "nobody"], "there is no family"),
        (["train", "--data", "digits", "--name", "x", "--bits", "7"], "multiple of 8"),
        (["train", "--data", "digits", "--name", "Bad Name"], "a name has"),
        (["train", "--data", "digits", "--name", "x", "--bits", "many"], "a multiple of 8, or auto"),
        (["train", "--data", "digits", "--name", "x", "--family", "itq", "--labels"], "cannot learn from labels"),
        (["train", "--data", "digits", "--name", "x", "--pairs", "none.csv"], "none.csv cannot be read"),
        (["train", "--data", "digits", "--name", "x", "--set", "unknown=1"], "unknown"),
        (["ingest", "--data", "digits", "--collection", "x"], "there is no collection 'x'"),
        (["ingest", "--data", "digits", "--collection", "x", "--model", "y"], "there is no model 'y'"),
        (["search", "--collection", "x", "--text", "t"], "there is no data directory"),
        (["collections", "delete", "x"], "there is no data directory"),
        (["check"], "there is no data directory"),
    ],
)
def test_errors_are_one_clear_line(tmp_path: Path, arguments: list[str], why: str) -> None:
    result = run(*arguments, "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert why in result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("digits: 1,797 images")]
    assert len(lines) == 1


def test_a_port_in_use_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in ("serve", "demo"):
            result = run(command, "--port", port, "--data-dir", tmp_path / "data")
            assert result.exit_code == 1
            assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert not (tmp_path / "data" / "models").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "--collection", "x"],
        ["search", "--collection", "x", "--text", "a", "--id", "b"],
        ["search", "--collection", "x", "--vector", "1,2"],
        ["search", "--collection", "x", "--text", "a", "-k", "0"],
        ["train", "--data", "digits", "--name", "x", "--set", "epochs"],
        ["nonsense"],
    ],
)
def test_wrong_usage_ends_with_two(tmp_path: Path, arguments: list[str]) -> None:
    result = run(*arguments, *([] if arguments == ["nonsense"] else ["--data-dir", tmp_path]))
    assert result.exit_code == 2


def test_a_broken_picture_is_named_and_can_be_left_out(photos: Path, tmp_path: Path) -> None:
    options = ["--data-dir", tmp_path / "data"]
    as_json("train", "--data", photos, "--name", "h", "--bits", 32, "--family", "itq", *options)
    (photos / "dark" / "broken[x].png").write_bytes(b"not a picture")
    result = run("ingest", "--data", photos, "--collection", "p", "--model", "h", *options)
    assert result.exit_code == 1
    assert "dark/broken[x].png: the bytes are not a PNG" in result.stderr
    assert "--skip-bad" in result.stderr
    counts = as_json("ingest", "--data", photos, "--collection", "p", "--skip-bad", *options)
    assert counts["created"] + counts["unchanged"] == 40


def test_markup_in_ids_is_no_markup(photos: Path, tmp_path: Path) -> None:
    options = ["--data-dir", tmp_path / "data"]
    (photos / "dark" / "00.png").rename(photos / "dark" / "[red]odd.png")
    as_json("train", "--data", photos, "--name", "h", "--bits", 32, "--family", "itq", *options)
    as_json("ingest", "--data", photos, "--collection", "p", "--model", "h", *options)
    assert "[red]odd.png" in run("search", "--collection", "p", "--id", "dark/[red]odd.png", "-k", 40, *options).output
    assert run("search", "--collection", "p", "--id", "[/nobody]", *options).exit_code == 1


def test_a_second_demo_leaves_alone_what_a_user_did(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """Also where one of its collections is damaged: that is said, and the rest is served."""
    monkeypatch.setattr("service.cli.demo.run", lambda *arguments: None)
    (data_dir / "demo.json").write_text('["digits", "python-docs"]')
    with open_engine(data_dir) as engine:
        engine.catalogue.get("digits").delete(["digit-0000"])
    assert run("demo", "--port", free_port(), "--data-dir", data_dir).exit_code == 0
    with open_engine(data_dir) as engine:
        assert len(engine.catalogue.get("digits")) == 299
    (data_dir / "collections" / "digits" / "items.db").write_bytes(b"x" * 5000)
    result = run("demo", "--port", free_port(), "--data-dir", data_dir)
    assert result.exit_code == 0
    assert "damaged digits" in result.stderr


def test_check_finds_damage(data_dir: Path) -> None:
    (data_dir / "models" / "digits-vae" / "1" / "card.md").write_text("x")
    (data_dir / "collections" / "stray").mkdir()
    result = run("check", "--data-dir", data_dir)
    assert result.exit_code == 1
    assert "card.md" in result.output
    assert "collections/stray" in result.output
    assert (data_dir / "collections" / "stray").exists()


def test_the_demo_prints_lines_that_work_and_keeps_what_is_there(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prepared directory stands for one that the demo filled: nothing is trained or ingested again."""
    served: list[object] = []
    (data_dir / "demo.json").write_text('["digits", "python-docs"]')
    monkeypatch.setattr("service.cli.demo.run", lambda *arguments: served.append(arguments))
    monkeypatch.setattr("service.cli.demo.follow", lambda *arguments: pytest.fail("trained again"))
    monkeypatch.setattr("service.cli.demo.ingest_through", lambda *arguments: pytest.fail("ingested again"))
    port = free_port()
    result = run("demo", "--port", port, "--data-dir", data_dir)
    assert served == [("127.0.0.1", port, data_dir, False)]
    lines = [line for line in result.stdout.splitlines() if line.startswith("curl")]
    assert len(lines) == 3
    assert all(f"http://127.0.0.1:{port}/" in line for line in lines)
