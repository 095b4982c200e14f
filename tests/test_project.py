"""The project's own rules: whose packages these are, how long a file may be, what the README says."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

from index.items import new_id
from models.base import families
from models.capabilities import capabilities
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


# -- the README says what is ----------------------------------------------------------------------------------------

README = (ROOT / "README.md").read_text()


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
