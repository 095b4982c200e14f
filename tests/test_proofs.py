"""The proofs of the families: every system has one, failures are told, and the command prints what was found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models import proofs  # noqa: F401  registers them
from models.base import families
from models.data import Dataset, part
from models.proofs import base, run
from models.proofs.base import PROOFS, Finding, Findings, Proof, smaller, split
from models.sounds import decode_sound
from service.cli import app
from service.cli import proofs as command

DOCUMENT = (Path(__file__).parents[1] / "docs" / "families.md").read_text()


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def two_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One proof that finds something and one that breaks half-way."""

    def good(data: Any, seed: int) -> Findings:
        assert data is None
        yield Finding("small enough", 0.1 + seed, 0.5, "most", "0.2")
        yield Finding("large enough", 5 + seed, 5, "least")
        yield Finding("only said", 3)

    def bad(data: Any, seed: int) -> Findings:
        yield Finding("before the end", 1, 0, "least")
        raise RuntimeError("no further")

    for name, function in (("good", good), ("bad", bad)):
        monkeypatch.setitem(PROOFS, name, Proof("itq", "nothing", 1, function, "A title."))


def test_every_learned_family_is_proven_and_documented() -> None:
    learned = {name for name, family in families().items() if family.roles}
    proven = " ".join([*(proof.system for proof in PROOFS.values()), *PROOFS]).lower()
    for name in learned:
        assert name in proven or name in ("acai", "bernoulli-vae"), name  # in lines and in semantic-hashing
        assert f"`{name}`" in DOCUMENT, name
    for name, proof in PROOFS.items():
        assert f"### `{name}`" in DOCUMENT, f"{name} has no row in docs/families.md"
        assert proof.title
        assert proof.seconds > 0
        assert proof.needs in ("nothing", "images", "texts", "sounds")


@pytest.mark.usefixtures("two_proofs")
def test_findings_survive_the_error_that_ends_a_proof() -> None:
    good, bad = run._one("good", None, 0), run._one("bad", None, 1)
    assert good.error is None
    assert [finding.met for finding in good.findings] == [True, True, None]
    assert [finding.what for finding in bad.findings] == ["before the end"]
    assert bad.error == "RuntimeError: no further"
    assert bad.seed == 1


@pytest.mark.usefixtures("two_proofs")
@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_what_was_found_over_seeds(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    monkeypatch.setattr(
        run, "run", lambda names, sources, seeds, jobs: (run._one(n, None, s) for n in names for s in range(seeds))
    )
    options = ["--json"] if as_json else []
    result = invoke("evaluate", "--suite", "families", "--only", "good", "--seeds", 2, *options)
    assert result.exit_code == 1, "seed 1 misses a threshold"
    if not as_json:
        assert "1 of 2" in result.stdout
        return
    rows = {row["what"]: row for row in json.loads(result.stdout.splitlines()[-1])["rows"]}
    small = rows["small enough"]
    assert (small["value"], small["met"], small["seeds"], small["threshold"]) == (pytest.approx(0.6), 1, 2, 0.5)
    assert small["deviation"] == pytest.approx(0.5)
    assert rows["large enough"]["met"] == 2
    assert rows["only said"]["met"] is None
    assert invoke("evaluate", "--suite", "families", "--only", "good", "--seeds", 1, *options).exit_code == 0
    assert invoke("evaluate", "--suite", "families", "--only", "bad", "--seeds", 1, *options).exit_code == 1


def test_what_the_command_refuses() -> None:
    for arguments, why in (
        (["--suite", "families", "--only", "nothing-like-it"], "there is no proof"),
        (["--suite", "families", "--data", "digits", "--data", "lines"], "one set of images"),
        (["--suite", "sheets", "--data", "spiral"], "images or sounds"),
    ):
        result = invoke("evaluate", *arguments)
        assert result.exit_code == 1
        assert why in result.stderr, arguments
    assert invoke("evaluate", "--suite", "nothing-like-it").exit_code == 2


def test_sources_are_told_apart_by_their_kind() -> None:
    assert command._sources(["digits", "python-docs"]) == {"images": "digits", "texts": "python-docs"}


def test_a_sheet_is_drawn(tmp_path: Path) -> None:
    result = invoke("evaluate", "--suite", "sheets", "--family", "itq", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert (tmp_path / "out" / "itq.png").read_bytes().startswith(b"\x89PNG")


def test_sounds_are_written(tmp_path: Path) -> None:
    result = invoke("evaluate", "--suite", "sheets", "--data", "tones", "--family", "lsh", "--out", tmp_path)
    assert result.exit_code == 0
    first = decode_sound((tmp_path / "lsh" / "item-00.wav").read_bytes())
    assert first.rate == 4000
    assert len(first.samples) == 4096


def test_splits_and_sizes(datasets: dict[str, Dataset]) -> None:
    train, test = split(datasets["digits"], 0)
    assert len(train) + len(test) == len(datasets["digits"])
    assert not set(train.ids) & set(test.ids)
    assert set(split(datasets["digits"], 1)[1].ids) != set(test.ids)
    larger = smaller(part(datasets["digits"], range(3)), 16)  # type: ignore[arg-type]
    assert larger.items.shape == (3, 16, 16, 1)
    assert larger.items.sum() == datasets["digits"].items[:3].sum(), "padded, nothing lost"


def test_two_proofs_cannot_have_one_name() -> None:
    with pytest.raises(TypeError, match="two proofs"):

        @base.proof("vae", seconds=1)
        def vae(data: Any, seed: int) -> Findings:
            yield Finding("", 0)
