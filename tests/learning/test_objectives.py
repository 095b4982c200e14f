"""Objectives of the hashing families: each is least where the codes are what it asks for, and can be learned from."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from models import views
from models.audio import AudioInput
from models.base import Batch, build
from models.batches import Batches
from models.inputs import ImageInput, InputSpec, TextInput, VectorInput
from models.objectives.balance import correlation, imbalance
from models.objectives.contrast import nt_xent
from models.objectives.estimators import Estimator, draw
from models.objectives.hashing import HashingParams, Recipe, weighed
from models.objectives.information import changed_mind, lost_information
from models.objectives.neighbourhood import paired
from models.sounds import Sound
from models.train import TrainConfig, Trainer

HASHING = ("binary-autoencoder", "bernoulli-vae")


def signs(count: int, bits: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, bits, generator=torch.Generator().manual_seed(seed)).sign()


@pytest.mark.parametrize("estimator", ["straight-through", "relaxed"])
def test_drawn_bits_are_ones_as_often_as_the_logit_says_and_have_a_gradient(estimator: Estimator) -> None:
    torch.manual_seed(0)
    logits = torch.tensor([-2.0, 0.0, 1.0]).repeat(20_000, 1).requires_grad_()
    bits = draw(logits, estimator)
    assert bits.min() >= 0
    assert bits.max() <= 1
    share = (bits > 0.5).float().mean(0)
    assert torch.allclose(share, torch.tensor([-2.0, 0.0, 1.0]).sigmoid(), atol=0.015)
    (gradient,) = torch.autograd.grad(bits.sum(), [logits])
    assert (gradient > 0).float().mean() > 0.99, "more logit, more ones"
    if estimator == "straight-through":
        assert set(bits.detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}


def test_continued_bits_are_not_drawn() -> None:
    logits = torch.tensor([-2.0, 0.0, 1.0])
    assert torch.equal(draw(logits, "continued"), logits.sigmoid())


def test_imbalance_is_zero_for_balanced_bits_and_one_for_dead_ones() -> None:
    balanced = 50 * torch.cat([torch.ones(8, 4), -torch.ones(8, 4)])
    assert float(imbalance(balanced)) == pytest.approx(0)
    assert float(imbalance(balanced.abs())) == pytest.approx(1)


def test_correlation_is_one_for_copies_and_small_for_independent_bits() -> None:
    independent = torch.randn(4000, 8, generator=torch.Generator().manual_seed(1))
    assert float(correlation(independent)) < 0.01
    assert float(correlation(independent[:, :1].repeat(1, 8))) == pytest.approx(1, abs=1e-3)
    assert float(correlation(torch.cat([independent[:, :1], -independent[:, :1]], 1))) == pytest.approx(1, abs=1e-3)
    assert float(correlation(independent[:, :1])) == 0


def test_contrast_is_the_cross_entropy_of_telling_the_partner() -> None:
    a, b = signs(6, 16, 1), signs(6, 16, 2)
    rows = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    total = 0.0
    for place in range(12):
        others = [other for other in range(12) if other != place]
        logits = torch.tensor([float(rows[place] @ rows[other]) / 0.3 for other in others])
        total -= float(logits.log_softmax(0)[others.index((place + 6) % 12)])
    assert float(nt_xent(a, b, 0.3)) == pytest.approx(total / 12, rel=1e-5)
    assert nt_xent(a, a, 0.3) < nt_xent(a, b, 0.3)


def test_information_is_lost_by_doubt_and_by_bits_that_never_change() -> None:
    useful = 50 * torch.cat([torch.ones(8, 4), -torch.ones(8, 4)])
    assert float(lost_information(useful)) == pytest.approx(0, abs=1e-4)
    assert float(lost_information(useful.abs())) == pytest.approx(math.log(2), abs=1e-4)
    assert float(lost_information(torch.zeros(16, 4))) == pytest.approx(math.log(2), abs=1e-4)
    assert float(changed_mind(useful, useful)) == pytest.approx(0, abs=1e-4)
    assert float(changed_mind(useful, -useful)) > 10


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_items_is_decoded_towards_neighbours(share: float) -> None:
    torch.manual_seed(0)
    target = paired(torch.zeros(4000, 2), torch.ones(4000, 2), share)
    assert float(target.mean()) == pytest.approx(share, abs=0.03)
    assert torch.equal(target[:, 0], target[:, 1]), "an item is replaced as a whole"


def test_every_part_of_a_recipe_is_a_parameter_and_replaces_the_recipe_where_given() -> None:
    names = {field.name for field in fields(Recipe)}
    assert names <= set(HashingParams.model_fields)
    assert HashingParams().over(Recipe(views=2.0)) == Recipe(views=2.0)
    assert HashingParams(views=0.0, sharpness=1.0).over(Recipe(views=2.0)) == Recipe(sharpness=1.0)
    assert float(weighed({})[0]) == 0


OBJECTIVES: dict[str, tuple[dict[str, Any], str | None]] = {
    "contrast": ({"contrast": 1, "neighbours": 2}, "contrast"),
    "pairing": ({"pairing": 1, "neighbours": 2, "contrast": 0}, None),
    "views": ({"views": 1}, "views"),
    "balance": ({"balance": 1}, "imbalance"),
    "decorrelation": ({"decorrelation": 1}, "correlation"),
    "information": ({"information": 1}, "lost information"),
    "relaxed bits": ({"estimator": "relaxed"}, None),
    "continued bits": ({"estimator": "continued"}, None),
}


@pytest.mark.parametrize("family", HASHING)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_of_every_hashing_family_reaches_the_encoder(family: str, objective: str) -> None:
    params, term = OBJECTIVES[objective]
    items = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)
    model = build(family, VectorInput.fit(items), 16, params)
    x = model.input.tensor(items)
    torch.manual_seed(0)
    batch = Batch(x, x.roll(1, 0), (model.input.view(x), model.input.view(x)))
    loss, terms = model.train().loss(batch, "autoencoder")
    first = next(iter(model.parameters_of("autoencoder")))
    (gradient,) = torch.autograd.grad(loss, [first])
    assert gradient.abs().sum() > 0
    assert model.views == (objective == "views")
    if term is not None:
        assert term in terms
        without = build(family, VectorInput.fit(items), 16, {**params, objective: 0})
        assert term not in without.train().loss(batch, "autoencoder")[1]


def _inputs() -> dict[str, tuple[InputSpec, list[Any]]]:
    draw = np.random.default_rng(3)
    pictures = list(draw.integers(0, 256, (12, 10, 14, 3), dtype=np.uint8))
    vectors = draw.normal(size=(12, 9)).astype(np.float32)
    texts = [" ".join(draw.choice([f"word{place}" for place in range(40)], 12)) for _ in range(12)]
    sounds = [Sound(draw.normal(size=4000).astype(np.float32) * 0.1, 8000) for _ in range(12)]
    return {
        "image": (ImageInput.fit(pictures), pictures),
        "vector": (VectorInput.fit(vectors), list(vectors)),
        "text": (TextInput.fit(texts), texts),
        "audio": (AudioInput.fit(sounds), sounds),
    }


@pytest.mark.parametrize("kind", ["image", "vector", "text", "audio"])
def test_views_differ_from_the_item_and_each_other_and_repeat_for_a_seed(kind: str) -> None:
    input, items = _inputs()[kind]
    rows = input.rows(items)
    everything = np.arange(len(items))
    torch.manual_seed(0)
    a, b = rows.views(everything)
    torch.manual_seed(0)
    assert torch.equal(a, rows.views(everything)[0])
    x = rows.take(everything)
    assert a.shape == x.shape
    assert a.dtype == x.dtype
    assert torch.isfinite(a).all()
    for first, second in ((a, b), (a, x)):
        assert (first - second).flatten(1).norm(dim=1).min() > 0
    near = torch.cdist(a.flatten(1), x.flatten(1)).argmin(1)
    assert (near == torch.arange(len(items))).float().mean() > 0.4, "a view is more like its item than like others"


def test_what_each_change_does_to_an_item() -> None:
    torch.manual_seed(0)
    x = torch.rand(200, 3, 12, 16)
    assert views.crop(x, 1.0).shape == x.shape
    flipped = views.flip(x)
    mirrored = (flipped == x.flip(-1)).flatten(1).all(1)
    assert 60 < int(mirrored.sum()) < 140
    assert torch.equal(flipped[~mirrored], x[~mirrored])
    erased = (views.erase(x, 0.25) != x).float().mean((1, 2, 3))
    assert float(erased.max()) <= 0.4
    assert 40 < int((erased == 0).sum()) < 140
    lit = views.light(torch.full((200, 1, 4, 4), 0.5), 0.5)
    assert torch.equal(lit.amin((1, 2, 3)), lit.amax((1, 2, 3))), "one light for a picture"
    assert 0.05 < float(lit.min()) < 0.3 < 0.6 < float(lit.max()) < 1
    tinted = views.colour(x, 0.4, 0.3)
    grey = (tinted[:, :1] - tinted).abs().amax((1, 2, 3)) < 1e-6
    assert 40 < int(grey.sum()) < 80
    assert float((tinted - x).abs().amax((1, 2, 3)).min()) > 0
    masked = (views.mask_bands(x, 0.25) != x).any(1)
    assert bool((masked.sum((1, 2)) > 0).any())
    assert torch.equal(views.shift(x, 0.25).sort(-1).values, x.sort(-1).values), "nothing is lost by a shift"
    dropped = views.drop(torch.ones(100, 400), 0.5)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.allclose(dropped.norm(dim=1), torch.ones(100))
    level = (views.noise(torch.zeros(500, 100), 0.3)).std(1)
    assert 0.2 < float(level.max()) < 0.4
    mixed = views.mix(torch.eye(50), 0.3).diagonal()
    assert float(mixed.min()) >= 0.7


def test_only_models_that_ask_for_views_are_given_them(monkeypatch: pytest.MonkeyPatch) -> None:
    items = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    for wanted in (0.0, 1.0):
        model = build("binary-autoencoder", VectorInput.fit(items), 8, {"views": wanted})
        seen: list[bool] = []
        own = model.loss

        def spy(batch: Batch, role: str, own: Any = own, seen: list[bool] = seen) -> Any:
            seen.append(batch.views is not None)
            return own(batch, role)

        monkeypatch.setattr(model, "loss", spy)
        for _ in Trainer(model, TrainConfig(epochs=1, device="cpu")).fit(items):
            pass
        assert seen
        assert all(given == bool(wanted) for given in seen)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_of_kindred_items_the_second_view_is_of_a_neighbour(share: float) -> None:
    """Each item has a word of its own that its one neighbour has not, and shares the others with it."""
    shared = [[f"pair{n}word{k}" for k in range(6)] for n in range(40)]
    own_words = [f"own{n}" for n in range(80)]
    texts = [" ".join([own, own, own, *shared[n // 2]]) for n, own in enumerate(own_words)]
    input = TextInput([*own_words, *(word for words in shared for word in words)])
    model = build("binary-autoencoder", input, 8, {"neighbours": 1, "kindred": share, "views": 1})
    batches = Batches(model, input.rows(texts), None, 80, np.random.default_rng(0))
    torch.manual_seed(0)
    strange, taken = 0, 0
    for batch in (next(iter(batches)) for _ in range(20)):
        assert batch.views is not None
        own = batch.x[:, :80] > 0
        strange += int(((batch.views[1][:, :80] > 0) & ~own).any(1).sum())
        taken += len(batch.x)
        assert not bool(((batch.views[0][:, :80] > 0) & ~own).any()), "the first view is of the item itself"
    assert strange / taken == pytest.approx(share / 2, abs=0.05), "half of a neighbour's words are in a view of it"
