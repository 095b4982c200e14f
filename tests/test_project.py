"""The project's own rules: whose packages these are, how long a file may be, what the README says."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import server

from index.items import new_id
from models.base import families
from models.capabilities import capabilities
from models.images import encode_png
from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for package in ("index", "models", "service") for path in (ROOT / package).rglob("*.py")]


def test_the_packages_are_ours() -> None:
    """house.md 1.5: a stranger's `models` must not shadow ours."""
    for package in ("index", "models", "service"):
        module = __import__(package)
        assert Path(module.__file__ or "").is_relative_to(ROOT)
        owners = set(importlib.metadata.packages_distributions().get(package, ["hammingbird"]))
        assert owners == {"hammingbird"}


def test_a_file_holds_one_idea() -> None:
    for path in SOURCES:
        assert len(path.read_text().splitlines()) <= 400, path


def test_every_module_says_what_it_is() -> None:
    for path in SOURCES:
        assert path.read_text().startswith('"""'), path


def test_settings_have_reasons() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_nothing_of_a_machine_is_named() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in listed:
        if name.endswith((".png",)):
            continue
        text = (ROOT / name).read_text(errors="replace")
        assert not re.search(r"(?<![\w.])/(work|root|home)/", text), name


# -- the README runs -----------------------------------------------------------------------------------------------

README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_block_of_the_readme_is_run_by_a_test() -> None:
    languages = set(re.findall(r"```(\w+)\n", README))
    assert languages == {"sh"}
    assert len(blocks("sh")) == 4, "how to start, the ten lines, filters and streams, the photographs"
    makes = blocks("sh")[0].split("\n")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in filter(None, makes):
        assert line.split("#")[0].split()[:1] == ["make"]
        assert line.split()[1] in targets


def shell(script: str, cwd: Path, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's examples are written with curl")
def test_the_ten_lines_work_as_pasted(data_dir: Path, tmp_path: Path) -> None:
    with server(data_dir) as (address, _):
        out, more = (shell(block.replace("http://127.0.0.1:8000", address), tmp_path) for block in blocks("sh")[1:3])
    assert '"type":"urn:hammingbird' not in out + more, out + more
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert out.count('"hits"') >= 3
    assert '"score":' in more
    assert more.count('"created":2') == 1
    assert '"id":"b","distance":1' in more


def test_the_photographs_work_as_pasted(tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for label in ("shirt", "shoe"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(15):
            picture = rng.integers(0, 256, (40, 30, 3)).astype(np.uint8)
            (tmp_path / "photos" / label / f"{number}.jpg").write_bytes(encode_png(picture))
    (tmp_path / "query.jpg").write_bytes((tmp_path / "photos" / "shoe" / "3.jpg").read_bytes())
    out = shell(blocks("sh")[3], tmp_path, COLUMNS="200")
    assert "shoe/3.jpg" in out


def test_the_readme_states_the_limits_as_they_are() -> None:
    for name in re.findall(r"`(max_\w+|\w+_s)`", README):
        assert name in Settings.model_fields, name


def test_the_readme_states_what_each_family_can_do() -> None:
    verbs = ["encode", "decode", "interpolate", "sample", "denoise", "inpaint", "score"]
    table = README.split("## What it can do")[1].split("##")[0]
    said = {}
    for row in re.findall(r"^\| (`.*?) \|(.*)\|$", table, re.MULTILINE):
        can = {verb for verb, cell in zip(verbs, row[1].split("|"), strict=True) if cell.strip() == "yes"}
        said |= dict.fromkeys(re.findall(r"`([\w-]+)`", row[0]), can)
    assert said == {name: set(capabilities(family)) & set(verbs) for name, family in families().items()}


def test_new_ids_are_uuids() -> None:
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", new_id())
