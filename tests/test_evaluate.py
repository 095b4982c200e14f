"""`hammingbird evaluate`: what it prints, as tables, JSON and pictures, and what training gets to see."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import vectors
from typer.testing import CliRunner

from models.artefact import save_artefact
from models.base import build
from models.data import Dataset, load
from models.images import decode_image
from models.inputs import INPUTS
from models.registry import Registry
from models.train import TrainConfig, Trainer
from service.cli import app

TWO = ["--family", "itq", "--family", "binary-autoencoder", "--set", "epochs=1", "--bits", 16, "--seeds", 1]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)


def as_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def saved(path: Path, data: Dataset, *, labels: bool = True) -> Path:
    arrays = {"x": np.asarray(data.items)} | ({"y": np.array(data.labels)} if labels else {})
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(tmp_path / "v.npz", vectors(200))


@pytest.fixture
def others(tmp_path: Path) -> Path:
    return saved(tmp_path / "q.npz", vectors(30, seed=0))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The items and labels of every training."""
    calls: list[tuple[Any, Any]] = []
    fit = Trainer.fit

    def spy(self: Trainer, items: Any, labels: Any = None, **named: Any) -> Any:
        calls.append((items, labels))
        assert named["learn_labels"] == (labels is not None)
        return fit(self, items, labels, **named)

    monkeypatch.setattr(Trainer, "fit", spy)
    return calls


def test_the_json(source: Path) -> None:
    found = as_json(
        "--data", source, "--bits", 16, "--bits", 32, "--family", "lsh", "--family", "itq", "--seeds", 2, "-k", 5,
        "-k", 9,
    )  # fmt: skip
    assert (found["protocol"], found["database"], found["queries"]) == ("all-against-all", 200, 200)
    assert (found["k"], found["seeds"], found["kind"], found["rows_with_labels"]) == ([5, 9], 2, "vector", [])
    assert "precision@k" in found["definitions"]
    rows = found["rows"]
    assert [(row["name"], row["bits"]) for row in rows] == [
        ("float L2", None), ("float cosine", None), ("lsh", 16), ("itq", 16), ("lsh", 32), ("itq", 32),
    ]  # fmt: skip
    itq = rows[3]
    assert 0.5 < itq["scores"]["precision@5_worst"] <= itq["scores"]["precision@5"] <= 1
    assert len(itq["runs"]) == 2
    values = [one["precision@9"] for one in itq["runs"]]
    assert itq["scores"]["precision@9"] == pytest.approx(np.mean(values))
    assert itq["deviations"]["precision@9"] == pytest.approx(np.std(values, ddof=1))
    assert itq["scores"]["training_s"] > 0
    assert itq["scores"]["bits_per_s"] == pytest.approx(16 * itq["scores"]["encoded_items_per_s"], rel=0.9)
    assert not rows[0]["deviations"]
    assert 0.5 < rows[0]["scores"]["map@1000"] <= 1


def test_the_tables_fit_a_pipe(source: Path) -> None:
    done = run("--data", source, "--bits", 32, "--family", "itq", "--seeds", 2, "--threads", 1)
    assert done.exit_code == 0
    for word in (
        "P@10",
        "mAP@1000",
        "mAP@all",
        "worst-best",
        "soft",
        "radius 4",
        "balance",
        "all-against-all",
        "Mbit/s",
    ):
        assert word in done.stdout, word
    assert max(map(len, done.stdout.splitlines())) <= 160
    assert "with labels" not in done.stdout
    assert "\x1b" not in done.stdout


def test_queries_are_never_trained_on(source: Path, others: Path, seen: list[tuple[Any, Any]]) -> None:
    options = ["--data", source, *TWO]
    found = as_json(*options, "--queries", others, "--query-limit", 7)
    assert (found["protocol"], found["database"], found["queries"]) == ("queries", 200, 7)
    assert "7 queries spread evenly over 30" in found["description"]
    assert [len(items) for items, _ in seen] == [200, 200]
    assert all(np.array_equal(items, np.load(source)["x"]) for items, _ in seen)
    seen.clear()
    found = as_json(*options, "--split", "random")
    assert (found["protocol"], found["database"], found["queries"]) == ("random 80/10/10", 160, 20)
    order = np.random.default_rng(0).permutation(200)
    held = {row.tobytes() for row in np.load(source)["x"][order[160:]]}
    assert [len(items) for items, _ in seen] == [160, 160]
    assert not [row for items, _ in seen for row in items if row.tobytes() in held]


def test_training_sees_labels_only_when_told_and_is_reported_apart(source: Path, seen: list[tuple[Any, Any]]) -> None:
    options = ["--data", source, *TWO]
    found = as_json(*options)
    assert [labels for _, labels in seen] == [None, None]
    assert not found["rows_with_labels"]
    assert "input space" in found["rows"][-1]["epoch_chosen_by"]
    seen.clear()
    found = as_json(*options, "--labels")
    assert [labels is None for _, labels in seen] == [True, False], "what cannot learn from labels is not shown them"
    assert [(row["name"], row["labels"]) for row in found["rows_with_labels"]] == [("binary-autoencoder", True)]
    assert [row["name"] for row in found["rows"]] == ["float L2", "float cosine", "itq"]
    assert not any(row["labels"] for row in found["rows"])
    shown = run(*options, "--labels").stdout
    assert shown.index("trained without labels") < shown.index("itq") < shown.index("trained with labels")
    assert "binary-autoencoder" not in shown[: shown.index("trained with labels")]


def test_models_that_are_there_are_loaded(source: Path, others: Path, tmp_path: Path) -> None:
    """Those that saw labels stand apart: by what their metrics say, whether of today or without the newer names."""
    registry = Registry(tmp_path / "data" / "models")
    data = load(str(source))
    for name, learn, forget in (("plain", False, ()), ("told", True, ()), ("older", False, ("epoch_chosen_by",))):
        model = build("binary-autoencoder", INPUTS["vector"].fit(data.items), 16, {})
        trainer = Trainer(model, TrainConfig(epochs=1))
        for _ in trainer.fit(data.items, data.labels, learn_labels=learn):
            pass
        metrics = {key: value for key, value in trainer.metrics.items() if key not in forget}
        draft = registry.draft(name)
        save_artefact(model, draft, metrics=metrics, training={"data": data.name}, title=name)
        registry.add(name, draft)
    options = ["--data-dir", tmp_path / "data", "--model", "plain", "--model", "told:1", "--model", "older"]
    found = as_json("--data", source, "--queries", others, *options)
    assert [row["name"] for row in found["rows"]] == ["float L2", "float cosine", "plain:1"], "nothing is trained"
    assert [row["name"] for row in found["rows_with_labels"]] == ["told:1", "older:1"]
    plain = found["rows"][-1]
    assert (plain["family"], plain["bits"], plain["trained_on"]) == ("binary-autoencoder", 16, "v.npz")
    assert plain["fingerprint"] == registry.get("plain").fingerprint
    options = ["--family", "binary-autoencoder", "--bits", 16, "--seeds", 1, "--set", "epochs=1"]
    trained = as_json("--data", source, "--queries", others, *options)["rows"][-1]["scores"]
    assert trained["precision@10"] == pytest.approx(plain["scores"]["precision@10"])
    wrong = run("--data", "digits", "--query-limit", 10, "--data-dir", tmp_path / "data", "--model", "plain")
    assert (wrong.exit_code, "takes vector items" in wrong.stderr) == (1, True)


def test_a_width_can_be_chosen(source: Path) -> None:
    found = as_json(
        "--data", source, "--family", "lsh", "--family", "itq", "--bits", "auto", "--bits", 16, "--seeds", 1
    )
    chosen = found["bits_chosen"]["bits"]
    widths = [(row["family"], row["bits"]) for row in found["rows"] if row["family"]]
    assert sorted(widths) == sorted({(name, bits) for name in ("itq", "lsh") for bits in (16, chosen)})


def test_pictures(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.evaluation.plots._DPI", 50)
    assert run("--data", source, *TWO, "--labels", "--plots", tmp_path / "plots").exit_code == 0
    names = {"precision-recall", "precision-radius", "precision-bits"}
    every = {f"{name}{suffix}.png" for name in names for suffix in ("", "-with-labels")}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == every
    bare = saved(tmp_path / "bare.npz", vectors(100), labels=False)
    options = ["--family", "lsh", "--family", "itq", "--seeds", 2, "--bits", 16, "--bits", 32]
    assert run("--data", bare, *options, "--plots", tmp_path / "bare").exit_code == 0
    assert {path.name for path in (tmp_path / "bare").iterdir()} == {"recall-oversampling.png", "recall-bits.png"}
    for path in (*(tmp_path / "plots").iterdir(), *(tmp_path / "bare").iterdir()):
        picture = decode_image(path.read_bytes())
        assert picture.shape[:2] == (250, 350)
        assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50, "something is drawn"


def test_without_labels_the_neighbours_remain(tmp_path: Path) -> None:
    bare = saved(tmp_path / "bare.npz", vectors(100), labels=False)
    result = run("--data", bare, "--family", "itq", "--bits", 16, "--seeds", 1)
    assert "recall@10 4x" in result.stdout
    assert "P@10 " not in result.stdout.split("P@k:")[0]
    assert "radius" not in result.stdout.split("P@k:")[0]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--queries", "digits", "--split", "random"], "two protocols"),
        (["--queries", "BARE"], "must be alike"),
        (["--family", "nobody"], "there is no family"),
        (["--bits", 7], "multiple of 8"),
        (["--family", "itq", "--set", "nothing=1"], "unknown parameter"),
        (["--data", "BARE", "--labels"], "no labels to train with"),
        (["--model", "some"], "there is no data directory"),
        (["--labels", "--family", "itq"], "at least one family that learns"),
    ],
)
def test_what_is_refused(options: list[object], why: str, tmp_path: Path) -> None:
    bare = saved(tmp_path / "bare.npz", vectors(30), labels=False)
    result = run("--data-dir", tmp_path, *(bare if one == "BARE" else one for one in options))
    assert result.exit_code == 1
    assert why in result.stderr


def test_what_to_install_for_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("--family", "lsh", "--plots", tmp_path / "plots")
    assert result.exit_code == 1
    assert "hammingbird[evaluate]" in result.stderr


def test_texts_have_the_baselines_of_the_literature(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"{kind}{letter * 3}" for kind in ("sea", "sky", "wood") for letter in "abcdefgh"]).reshape(3, 8)
    for name, count in (("base", 40), ("queries", 8)):
        for label in range(3):
            (tmp_path / name / str(label)).mkdir(parents=True)
            for number in range(count):
                text = " ".join([*rng.choice(words[label], 6), *rng.choice(words.ravel(), 3)])
                (tmp_path / name / str(label) / str(number)).write_text(text)
    options = ["--data", tmp_path / "base", "--queries", tmp_path / "queries", "--bits", 8, "--seeds", 2]
    rows = {row["name"]: row for row in as_json(*options, "--family", "itq")["rows"]}
    assert list(rows) == ["float L2", "float cosine", "float LSA-8", "itq on LSA-256", "itq"]
    assert rows["itq on LSA-256"]["bits"] == 8
    assert len(rows["itq on LSA-256"]["runs"]) == 2
    assert rows["itq on LSA-256"]["scores"]["precision@10"] > 0.8
    assert rows["float LSA-8"]["scores"]["precision@10"] > 0.8
    assert not [row["name"] for row in as_json(*options, "--family", "lsh")["rows"] if "LSA" in row["name"]]
