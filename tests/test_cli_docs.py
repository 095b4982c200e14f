"""docs/cli.md: every command and option, as they are; every block of it runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import server
from typer.testing import CliRunner

from models.images import decode_image
from service.cli import app
from service.cli.reference import as_markdown, commands

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == as_markdown(), "run tools/cli-reference"


def test_every_command_is_on_the_page_with_an_example_and_every_option_with_its_reason() -> None:
    sections = dict(re.findall(r"^## `hammingbird ([^`]+)`\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.M))
    known = dict(commands())
    assert list(sections) == list(known)
    assert {"keys create", "bench index", "collections show", "models promote"} <= known.keys()
    assert {name.split()[0] for name in known} == {
        *(info.name or info.callback.__name__ for info in app.registered_commands if info.callback is not None),
        *(group.name for group in app.registered_groups),
    }
    for name, command in known.items():
        assert f"`hammingbird {name}" in sections[name], f"{name} has no example"
        for param in command.params:
            if param.name != "help":
                assert param.help, (name, param.name)
                assert all(f"`{option}" in sections[name] for option in param.opts if option.startswith("-")), name


def shell(script: str, cwd: Path, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def typed(script: str, **environment: str) -> str:
    """What a block of commands says, run in this process, which has loaded torch already."""
    out = ""
    for line in script.splitlines():
        words = shlex.split(line)
        if words[0] == "export":
            environment |= [words[1].split("=", 1)]
            continue
        assert words[0] == "hammingbird"
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False, env=environment)
        assert done.exit_code == 0, done.output
        out += done.stdout
    return out


def test_the_session_works_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = typed(BLOCKS[0])
    assert "my-hash:1: precision@10 by label 0.9" in out
    assert "my-digits: 1,797 created" in out
    assert '"plan"' in out
    assert "2 checked, all sound" in out
    assert decode_image((tmp_path / "hits.png").read_bytes()).shape[0] > 300


def test_what_is_said_to_a_service_works_as_pasted(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with server(data_dir) as (address, _):
        out = typed(BLOCKS[1].replace("http://127.0.0.1:8000", address))
    assert "digits-itq@champion is digits-itq:1" in out
    assert {path.name for path in tmp_path.glob("*.png")} == {"hits.png", "digits.png", "clean.png"}


def test_completion_is_installed_as_pasted(tmp_path: Path) -> None:
    assert len(BLOCKS) == 3
    assert len(re.findall("^```", PAGE.read_text(), re.M)) == 6, "a block of another kind is not run"
    shell(f"{BLOCKS[2]}true", tmp_path, HOME=str(tmp_path))  # bash stays the parent, which is looked at
    assert "hammingbird" in (tmp_path / ".bashrc").read_text()
