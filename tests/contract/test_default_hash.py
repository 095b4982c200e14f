"""The laws of every model for the encoders that the default hash chooses by itself (test_models has the dense one)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.artefact import fingerprint, load_model, save_artefact
from models.base import Model, build
from models.inputs import INPUTS
from models.parts.dictionary import DictionaryEncoder
from models.parts.pictures import StridedEncoder
from models.parts.started import Started
from models.train import TrainConfig, Trainer

_ENCODERS = {"grey pictures": StridedEncoder, "colour pictures": DictionaryEncoder, "vectors": Started}


def items_of(name: str) -> tuple[str, list[Any]]:
    draw = np.random.default_rng(5)
    if name == "vectors":
        centres = draw.normal(size=(4, 24))
        return "vector", [(centres[n % 4] + draw.normal(size=24)).astype(np.float32) for n in range(64)]
    channels = 1 if name == "grey pictures" else 3
    return "image", list(draw.integers(0, 256, (64, 20, 18, channels), dtype=np.uint8))


def trained(name: str, seed: int = 0) -> tuple[Model, list[Any]]:
    kind, items = items_of(name)
    model = build("binary-autoencoder", INPUTS[kind].fit(items), 32, {"hidden": 32}, seed=seed)
    for _ in Trainer(model, TrainConfig(epochs=3, seed=seed, batch_size=16, device="cpu")).fit(items):
        pass
    return model, items


_known: dict[str, tuple[Model, list[Any]]] = {}


@pytest.fixture(params=_ENCODERS)
def case(request: pytest.FixtureRequest) -> tuple[str, Model, list[Any]]:
    if request.param not in _known:
        _known[request.param] = trained(request.param)
    return request.param, *_known[request.param]


def test_the_encoder_is_the_one_that_is_chosen_without_being_asked_for(case: tuple[str, Model, list[Any]]) -> None:
    name, model, _ = case
    assert isinstance(model.encoder, _ENCODERS[name])
    assert model.encodes_at_once == (name == "vectors")


def test_an_item_has_one_code_alone_in_any_batch_and_with_any_threads(case: tuple[str, Model, list[Any]]) -> None:
    """reliability.md M4"""
    _, model, items = case
    codes = model.logits(items) > 0
    assert np.array_equal(codes, np.concatenate([model.logits([item]) for item in items]) > 0)
    assert np.array_equal(codes[::-1], model.logits(items[::-1]) > 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))
    try:
        assert np.array_equal(codes, model.logits(items) > 0)
    finally:
        torch.set_num_threads(before)


def test_a_saved_model_is_the_same_model(case: tuple[str, Model, list[Any]], tmp_path: Path) -> None:
    _, model, items = case
    save_artefact(model, tmp_path / "saved", metrics={}, training={}, title="saved")
    loaded = load_model(tmp_path / "saved")
    assert fingerprint(loaded) == fingerprint(model)
    assert np.array_equal(loaded.logits(items), model.logits(items))


def test_the_same_seed_gives_the_same_model_and_another_another(case: tuple[str, Model, list[Any]]) -> None:
    name, model, _ = case
    assert fingerprint(trained(name)[0]) == fingerprint(model)
    assert fingerprint(trained(name, seed=1)[0]) != fingerprint(model)


@torch.inference_mode()
def test_codes_decode_into_items(case: tuple[str, Model, list[Any]]) -> None:
    _, model, items = case
    out = model.decode(torch.from_numpy(model.logits(items[:5]) > 0).float())  # type: ignore[operator]
    assert out.shape == (5, *model.input.shape)
    assert torch.isfinite(out).all()


def test_vectors_are_hashed_densely_where_that_is_asked_for() -> None:
    kind, items = items_of("vectors")
    model = build("binary-autoencoder", INPUTS[kind].fit(items), 16, {"encoder": "dense"})
    assert isinstance(model.encoder, torch.nn.Sequential)
    assert model.neighbours == 10
    assert model.pool == 0
