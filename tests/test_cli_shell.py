"""What a shell sees: completion in each of them, exit codes, how soon `--help` is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.base import families
from service.cli.completion import FAMILIES


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH that begins with the command."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = folder / "hammingbird"
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m service "$@"\n')
    file.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def shell(*command: str, **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


BASH = """
eval "$(_HAMMINGBIRD_COMPLETE=source_bash hammingbird)"
for words in "col" "generate --mo" "train --family bin" "search --collection v"; do
    COMP_WORDS=(hammingbird $words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _hammingbird_completion hammingbird; echo "${COMPREPLY[@]}"
done
"""
FISH = """
_HAMMINGBIRD_COMPLETE=source_fish hammingbird | source
for words in "col" "generate --mo" "train --family bin" "search --collection v"
    complete -C "hammingbird $words" | cut -f1
end
"""
# Its own completion needs a terminal: what it would show is collected by functions in place of its own.
ZSH = """
compdef() { :; }
_arguments() { local all=${1#*\\(\\(}; print -rl -- ${(Q)${(s: :)all%\\)\\)}%%:*} | head -1; }
eval "$(_HAMMINGBIRD_COMPLETE=source_zsh hammingbird)"
for given in "col" "generate --mo" "train --family bin" "search --collection v"; do
    words=(hammingbird ${(s: :)given}); CURRENT=${#words}
    _hammingbird_completion
done
"""


@pytest.mark.parametrize(
    ("name", "script"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)], ids=["bash", "zsh", "fish"]
)
def test_completion(prepared: Path, path: str, name: str, script: str) -> None:
    """Commands, options, families, and the collections of the data directory."""
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here")
    plain = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    said = shell(name, *plain, "-c", script, PATH=path, HAMMINGBIRD_DATA_DIR=str(prepared))
    assert [line.strip('"') for line in said.split()] == ["collections", "--model", "binary-autoencoder", "vectors"]


def test_the_families_that_are_completed_are_those_there_are() -> None:
    assert sorted(families()) == list(FAMILIES)


def test_help_is_there_at_once() -> None:
    """In processor time, which a busy machine does not change: a tenth of what importing torch takes."""
    before = os.times()
    shell(sys.executable, "-m", "service", "--help")
    after = os.times()
    took = after.children_user + after.children_system - before.children_user - before.children_system
    assert took < 1.0


def test_exit_codes() -> None:
    """0 done, 1 refused, 2 wrong usage; 130 and 143 are in test_cli_interrupt."""
    for arguments, code in ((["--help"], 0), (["models", "--url", "http://127.0.0.1:9"], 1), (["search"], 2), ([], 2)):
        done = subprocess.run([sys.executable, "-m", "service", *arguments], capture_output=True, check=False)
        assert done.returncode == code, arguments
