"""Views of texts, the layer that reads them, and the recipe that learns from halves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.artefact import load_model, read_artefact, save_artefact
from models.base import Batch, build
from models.inputs import TextInput
from models.parts.words import WordLinear
from models.train import TrainConfig, Trainer

WORDS = [f"word{place:02d}" for place in range(40)]
TEXTS = [*(" ".join(WORDS[start : start + 20]) for start in range(20)), "word07", "word03 word03"]
EVERY = np.arange(len(TEXTS))


def text_input(spans: float) -> TextInput:
    input = TextInput([*WORDS, "never"])
    input.idf.copy_(torch.linspace(1, 3, len(WORDS) + 1))
    input.spans = spans
    return input


def test_the_halves_of_a_text_share_no_word_and_have_all() -> None:
    rows = text_input(0).rows(TEXTS)
    torch.manual_seed(0)
    a, b = rows.views(EVERY)
    long, short = slice(0, 20), slice(20, 22)
    assert not ((a > 0) & (b > 0))[long].any()
    assert torch.equal(((a > 0) | (b > 0))[long], (rows.take(EVERY) > 0)[long])
    assert 0.4 < float((a > 0)[long].float().sum() / 400) < 0.6
    assert torch.allclose(torch.cat([a, b]).norm(dim=1), torch.ones(2 * len(TEXTS)))
    assert torch.equal(a[short], b[short]), "one word cannot be divided"


def test_spans_are_what_comes_before_and_after_a_place_in_the_text() -> None:
    input = text_input(1)
    rows = input.rows(TEXTS)
    torch.manual_seed(0)
    cuts = set()
    for part in (rows, rows.subset(EVERY[5:])):
        a, b = part.views(np.arange(10))
        texts = TEXTS if part is rows else TEXTS[5:]
        for place in range(10):
            first, second = (sorted(np.flatnonzero(side[place].numpy()).tolist()) for side in (a, b))
            assert first[-1] + 1 == second[0]
            cuts.add(len(first))
            words = texts[place].split()
            whole = input.tensor([" ".join(words[: len(first)]), " ".join(words[len(first) :])])
            assert torch.allclose(torch.stack([a[place], b[place]]), whole, atol=1e-6)
    assert len(cuts) > 4
    assert min(cuts) >= 5
    assert max(cuts) <= 15


def test_a_share_of_spans_leaves_the_other_texts_in_halves() -> None:
    rows = text_input(0.5).rows(TEXTS[:20] * 10)
    torch.manual_seed(0)
    a, _ = rows.views(np.arange(200))
    last_first = [int(np.flatnonzero(row.numpy()).max() - np.flatnonzero(row.numpy()).min()) for row in a]
    runs = [gap + 1 == int((row > 0).sum()) for gap, row in zip(last_first, a, strict=True)]
    assert 60 < sum(runs) < 140


def test_the_layer_of_words_is_a_linear_layer() -> None:
    torch.manual_seed(0)
    words, plain = WordLinear(200, 8), nn.Linear(200, 8)
    plain.load_state_dict(words.state_dict())
    x = torch.rand(30, 200) * (torch.rand(30, 200) < 0.05)
    x[7] = 0
    optimisers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (words, plain)]
    for optimiser, layer in zip(optimisers, (words, plain), strict=True):
        layer(x).square().sum().backward()
        optimiser.step()
    assert torch.allclose(words.weight, plain.weight, atol=1e-6)
    assert torch.allclose(words(x), plain(x), atol=1e-6)
    assert torch.equal(words(x)[3], words(x[3:4])[0])
    full = torch.rand(4, 200)
    assert torch.allclose(words(full), plain(full), atol=1e-5)


def test_training_moves_the_weights_of_the_words_that_a_batch_has() -> None:
    """Fused Adam must not take a gradient for that of another word because both lie elsewhere in memory."""
    model = build("binary-autoencoder", text_input(0), 8, {"hidden": 8})
    trainer = Trainer(model, TrainConfig(epochs=1, device="cpu"))
    for _ in trainer.fit(TEXTS):
        pass
    first = model.get_submodule("encoder.0")
    assert isinstance(first, WordLinear)
    moved = first.weight.detach()
    torch.manual_seed(0)
    model.prepare(model.input.rows(TEXTS))
    untouched = len(WORDS)  # no text has the last word
    for _ in range(2):
        before = first.weight.detach().clone()
        optimiser_step(trainer, model)
        changed = (first.weight.detach() != before).any(0)
        assert not changed[untouched]
        assert changed[:untouched].float().mean() > 0.9
    assert moved.stride() == (1, 8)


def optimiser_step(trainer: Trainer, model: Any) -> None:
    rows = model.input.rows(TEXTS)
    optimiser = torch.optim.Adam(model.parameters_of("autoencoder"), lr=1e-2, fused=True)
    batch = Batch(rows.take(EVERY), rows.take(np.roll(EVERY, 1)), rows.views(EVERY))
    trainer._step(batch, {"autoencoder": optimiser}, 1)


def test_texts_are_decoded_from_the_codes_of_their_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    for denoise in (True, False):
        model = build("binary-autoencoder", text_input(0), 8, {"denoise": denoise, "contrast": 0.0, "views": 0.0})
        rows = model.input.rows(TEXTS)
        batch = Batch(rows.take(EVERY), None, rows.views(EVERY))
        seen: list[torch.Tensor] = []
        own = model.encode
        monkeypatch.setattr(model, "encode", lambda x, own=own, seen=seen: seen.append(x) or own(x))
        model.train().loss(batch, "autoencoder")
        assert batch.views is not None
        assert len(seen) == 1
        assert torch.equal(seen[0], batch.views[0] if denoise else batch.x)


@pytest.mark.parametrize("count", [20, 33])
def test_a_few_texts_can_be_learned_from(count: int) -> None:
    texts = (TEXTS * 2)[:count]
    model = build("binary-autoencoder", TextInput.fit(texts), 16, {})
    trainer = Trainer(model, TrainConfig(epochs=3, device="cpu"))
    for progress in trainer.fit(texts):
        assert all(np.isfinite(value) for value in progress.losses.values())
    assert trainer.metrics["best_epoch"] == 3
    assert model.logits(["", "word05", *texts]).shape == (count + 2, 16)


def test_a_model_saved_before_there_was_a_choice_still_loads(tmp_path: Path) -> None:
    """Its config does not state the choice; the fingerprint that it states is of what it does state."""
    model = build("binary-autoencoder", text_input(0), 8, {"hidden": 8})
    model.stated = {"hidden": 8, "neighbours": 10, "pairing": 0.5, "contrast": 0.3}
    save_artefact(model, tmp_path / "old", metrics={}, training={}, title="old")
    assert read_artefact(tmp_path / "old").config["params"] == model.stated
    loaded = load_model(tmp_path / "old")
    assert np.array_equal(loaded.logits(TEXTS), model.eval().logits(TEXTS))
    save_artefact(loaded, tmp_path / "again", metrics={}, training={}, title="again")
    assert read_artefact(tmp_path / "again").fingerprint == read_artefact(tmp_path / "old").fingerprint
