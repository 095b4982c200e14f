"""One item has one code, and every item that is taken has one. (reliability.md M3, M4, M5)"""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from support import assert_problem, sounds

from models.data import Dataset
from models.images import encode_png
from models.inputs import INPUTS
from models.sounds import Sound, encode_wav
from service.app import create_app
from service.engine import Engine
from service.settings import Settings
from service.training import Training, train

RNG = np.random.default_rng(11)


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def engine(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    import shutil

    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("meaning") / "data"))
    with Engine(Settings(data_dir=root)) as made:
        yield made


def test_a_picture_has_one_code_in_every_form(engine: Engine, shared_client: TestClient) -> None:
    """M3: as PNG, written anew, interlaced or not, as lossless WebP, as an array that never was a file."""
    model = engine.registry.load(engine.registry.get("digits-hash"))
    for shape in ((8, 8), (40, 30), (8, 8, 3)):
        array = RNG.integers(0, 255, shape).astype(np.uint8)
        forms = [encode_png(array.reshape(*shape[:2], -1))]
        options: list[dict[str, Any]] = [{"format": "PNG", "compress_level": level} for level in (0, 9)]
        options += [{"format": "PNG", "optimize": True}]
        options += [{"format": "WEBP", "lossless": True}] if len(shape) == 3 else []
        for one in options:
            out = io.BytesIO()
            Image.fromarray(array).save(out, **one)
            forms.append(out.getvalue())
        body = {"model": "digits-hash", "inputs": [{"image": coded(form)} for form in forms]}
        codes = shared_client.post("/encode", json=body).json()["codes"]
        codes.append(engine.encode(model, [array.reshape(*shape[:2], -1)])[0].tobytes().hex())
        assert len(set(codes)) == 1, shape


KINDS = [("digits", "digits-hash"), ("python-docs", "docs-hash"), ("vectors", "vectors-itq")]


@pytest.mark.parametrize(("name", "reference"), KINDS)
def test_an_item_has_one_code_in_any_company(
    engine: Engine, datasets: dict[str, Dataset], name: str, reference: str
) -> None:
    """M4: alone, in batches of 2 to 256, on one or four threads, by many at once, and by a model loaded again."""
    data = datasets[name]
    items = [data.items[place] for place in range(256)]
    model = engine.registry.load(engine.registry.get(reference))
    alone = np.concatenate([engine.encode(model, [item]) for item in items])
    for size in (2, 3, 7, 32, 100, 256):
        parts = [engine.encode(model, items[start : start + size]) for start in range(0, 256, size)]
        assert np.array_equal(np.concatenate(parts), alone), size
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            assert np.array_equal(engine.encode(model, items), alone), count
    finally:
        torch.set_num_threads(threads)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda start: engine.encode(model, items[start : start + 16]), range(0, 256, 16)))
    assert np.array_equal(np.concatenate(found), alone)


def test_an_item_has_one_code_after_a_restart(prepared: Path, tmp_path: Path, datasets: dict[str, Dataset]) -> None:
    """M4: what was stored by one process is what the next one encodes; in JSON, streams and forms alike."""
    import shutil

    root = Path(shutil.copytree(prepared, tmp_path / "data"))
    for _ in range(2):
        with TestClient(create_app(Settings(data_dir=root))) as client:
            for name, reference in KINDS:
                data = datasets[name]
                for place in (0, 57):
                    field = {"digits": "image", "python-docs": "text", "vectors": "vector"}[name]
                    item = data.items[place]
                    value = coded(encode_png(item)) if field == "image" else item if field == "text" else item.tolist()
                    stored = client.get(f"/collections/{name}/items/{data.ids[place]}").json()["code"]
                    found = client.post("/encode", json={"model": reference, "inputs": [{field: value}]}).json()[
                        "codes"
                    ]
                    assert found == [stored], (name, place)


def test_weak_bits_are_logged(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """M4: a logit so close to zero that rounding could turn it is settled exactly, and said to be weak."""
    model = engine.registry.load(engine.registry.get("vectors-itq"))
    items = RNG.normal(size=(8, 24)).astype(np.float32) * 3
    with caplog.at_level(logging.DEBUG, "models.base"):
        model.logits(items)
        before = len(caplog.records)
        one, other = items[:2].astype(np.float64)
        for _ in range(4):  # logits are linear in a vector here: between two signs of a bit lies its zero
            ours, theirs = (model.logits([end.astype(np.float32)])[0].astype(np.float64) for end in (one, other))
            bit = int(np.argmax(np.sign(ours) != np.sign(theirs)))
            one = one + ours[bit] / (ours[bit] - theirs[bit]) * (other - one)
            model.logits([one.astype(np.float32)])
    assert any("weak bits" in record.getMessage() for record in caplog.records[before:])


# -- items at the edge ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_kinds(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a service that has a model of sounds too."""
    import shutil

    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("edges") / "data"))
    with Engine(Settings(data_dir=root)) as engine:
        draft = engine.registry.draft("sounds-hash")
        for _ in train(Training("sounds-hash", "itq", 32, {}), sounds(), draft):
            pass
        engine.registry.add("sounds-hash", draft)
    with TestClient(create_app(Settings(data_dir=root)), raise_server_exceptions=False) as client:
        yield client


def flat(*shape: int, value: int) -> str:
    return coded(encode_png(np.full(shape, value, np.uint8)))


def tone(samples: Any, rate: int = 4_000) -> str:
    return coded(encode_wav(Sound(np.asarray(samples, np.float32), rate)))


EDGES: list[tuple[str, dict[str, Any]]] = [
    *[("digits-hash", {"image": flat(8, 8, 1, value=value)}) for value in (0, 1, 128, 255)],
    ("digits-hash", {"image": flat(1, 1, 3, value=7)}),
    ("digits-hash", {"image": flat(2_000, 3, 3, value=255)}),
    ("digits-vae", {"image": flat(8, 8, 1, value=0)}),
    ("digits-denoise", {"image": flat(8, 8, 1, value=0)}),
    *[
        ("docs-hash", {"text": text})
        for text in (
            "a" * 200_000,
            "word " * 40_000,
            "!",
            "0",
            "😀",
            "👩‍👩‍👧‍👦🏳️‍🌈",
            "מרחבא שלום日本語русский ελληνικά",
            "\u0301",
            "\u200bx",
            "\0",
            "I\u0307 ß ﬁ",
            "\ufffd",
            "x\u202ey",
            "<script>",
            "\n.\n",
        )
    ],
    *[
        ("vectors-itq", {"vector": vector})
        for vector in (
            [0.0] * 24,
            [-0.0] * 24,
            [1.0] * 24,
            [1e-38] * 24,
            [5e-324] * 24,
            [1e6] * 24,
            [-1e15] * 24,
            [0.0] * 23 + [1e30],
        )
    ],
    *[
        ("sounds-hash", {"audio": audio})
        for audio in (
            tone(np.zeros(512)),
            tone(np.ones(512)),
            tone([0.5]),
            tone([0.0]),
            tone(np.tile([1, -1], 300)),
            tone(np.zeros(48_000 * 2), 48_000),
            tone(np.full(5_000, 1e-9)),
        )
    ],
]


@pytest.mark.parametrize(("model", "value"), EDGES, ids=lambda value: str(value)[:40])
def test_every_item_at_the_edge_has_a_code_or_none(all_kinds: TestClient, model: str, value: dict[str, Any]) -> None:
    """M5: constant, all zero, tiny, huge, longest, silent, emoji, mixed scripts: the same code twice, or why not."""
    body = {"model": model, "inputs": [value], "latents": True}
    first, again = (all_kinds.post("/encode", json=body) for _ in range(2))
    assert "NaN" not in first.text
    assert "Infinity" not in first.text
    if first.status_code != 200:
        assert_problem(first, 422)
        assert again.json()["detail"] == first.json()["detail"]
        return
    assert first.json()["codes"] == again.json()["codes"]
    assert np.isfinite(first.json()["latents"]).all()
    score = all_kinds.post("/score", json={"model": model, "inputs": [value]})
    if score.status_code == 200:
        assert np.isfinite(score.json()["scores"]).all()
    else:
        assert_problem(score, score.status_code)
        assert score.status_code in (409, 422)


@pytest.mark.parametrize(
    ("model", "value"),
    [
        ("docs-hash", {"text": ""}),
        ("docs-hash", {"text": " \n\t\u3000"}),
        ("docs-hash", {"text": "x" * 200_001}),
        ("vectors-itq", {"vector": [1e39] * 24}),
        ("vectors-itq", {"vector": [1.0] * 25}),
        ("sounds-hash", {"audio": tone([])}),
        ("digits-hash", {"image": ""}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_has_no_code_says_why(all_kinds: TestClient, model: str, value: dict[str, Any]) -> None:
    """M5"""
    reply = all_kinds.post("/encode", json={"model": model, "inputs": [value]})
    assert reply.status_code in (413, 422), reply.text
    assert len(assert_problem(reply, reply.status_code)["detail"]) > 20


def test_the_edges_of_every_kind_are_here() -> None:
    assert {name for _, value in EDGES for name in value} == set(INPUTS)
