"""What the two adversarial autoencoders are made of: who is mixed with whom, who learns from what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base import Batch, Model, build
from models.data import load
from models.errors import InvalidParams
from models.families.acai import Acai, partners
from models.families.alae import Alae
from models.inputs import INPUTS

CASES = [("acai", "image"), ("acai", "vector"), ("alae", "image"), ("alae", "vector")]


def made(family: str, kind: str, **params: object) -> tuple[Model, Tensor]:
    """A new model and eight items."""
    items = load("digits").items[:8] if kind == "image" else np.random.default_rng(0).normal(size=(8, 6))
    items = np.asarray(items, np.uint8 if kind == "image" else np.float32)
    small = {"acai": {"channels": 4, "hidden": 16}, "alae": {"channels": 4, "hidden": 16, "latent": 8}}[family]
    model = build(family, INPUTS[kind].fit(items), 32, {**small, **params})
    return model, model.input.tensor(items)


def gradients(model: Model, x: Tensor, role: str) -> set[str]:
    """The names of the parameters that the loss of `role` depends on."""
    loss, _ = model.loss(Batch(x), role)
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name for name, gradient in zip(names, found, strict=True) if gradient is not None and gradient.any()}


def owned(model: Model, role: str) -> set[str]:
    places = {id(parameter) for parameter in model.parameters_of(role)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in places}


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_every_role_moves_networks_of_its_own(family: str, kind: str) -> None:
    model, _ = made(family, kind)
    networks = {
        "autoencoder": {"encoder", "decoder"},
        "critic": {"critic"},
        "discriminator": {"encoder", "head"},
        "generator": {"mapping", "generator"},
        "reciprocity": {"encoder", "generator"},
    }
    for role in model.roles:
        assert {name.split(".")[0] for name in owned(model, role)} == networks[role]
    assert not any("averaged" in name for role in model.roles for name in owned(model, role))


@pytest.mark.parametrize("n", [2, 3, 7, 8])
def test_every_row_has_another_for_its_partner(n: int) -> None:
    rows = torch.arange(n, dtype=torch.float32)[:, None]
    assert (partners(rows) != rows).all()
    if n % 2 == 0:
        assert torch.equal(partners(rows), rows.flip(0))


def test_the_share_of_the_partner_is_at_most_a_half() -> None:
    model, _ = made("acai", "vector")
    assert isinstance(model, Acai)
    z = torch.eye(64)
    mixture, share = model.mixed(z)
    assert 0 <= float(share.min()) <= float(share.max()) <= 0.5
    assert torch.allclose(mixture.diagonal(), 1 - share)
    assert torch.allclose(mixture[torch.arange(64), torch.arange(63, -1, -1)], share)


@pytest.mark.parametrize("kind", ["image", "vector"])
def test_the_critic_learns_shares_of_mixtures_and_nothing_of_real_items(kind: str) -> None:
    model, x = made("acai", kind)
    assert isinstance(model, Acai)
    seen: list[Tensor] = []

    def guess(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.full((len(x),), 0.25)

    model.guess = guess  # type: ignore[method-assign]
    torch.manual_seed(0)
    _, terms = model.loss(Batch(x), "critic")
    torch.manual_seed(0)
    with torch.no_grad():
        mixture, share = model.mixed(model.latent(x))
        rebuilt = model.decoder(model.latent(x))
    assert float(terms["critic"]) == pytest.approx(float((0.25 - share).square().mean()))
    assert float(terms["critic_on_real"]) == pytest.approx(0.0625)
    mixed, real = seen[0].chunk(2)
    assert torch.allclose(mixed, model.decoder(mixture), atol=1e-5)
    signed = 2 * x - 1 if kind == "image" else x
    assert torch.allclose(real, 0.2 * signed + 0.8 * rebuilt, atol=1e-5), "gamma: a fifth of the item itself"
    assert not seen[0].requires_grad, "the autoencoder learns nothing from the critic's loss"


def test_the_critic_counts_once_something_is_rebuilt() -> None:
    model, x = made("acai", "vector", alone_steps=10)
    weights = []
    for step in (0, 10, 15, 20, 500):
        model.stepped.fill_(step)  # type: ignore[operator]
        loss, terms = model.loss(Batch(x), "autoencoder")
        weights.append(float(((loss - terms["reconstruction"]) / terms["seen"]).detach()))
    assert weights == pytest.approx([0, 0, 0.25, 0.5, 0.5], abs=1e-3)


def test_without_lambda_the_critic_teaches_nothing() -> None:
    model, x = made("acai", "image", critic_weight=0.0, alone_steps=0)
    loss, terms = model.loss(Batch(x), "autoencoder")
    assert torch.equal(loss, terms["reconstruction"])
    assert "critic" not in {name.split(".")[0] for name in gradients(model, x, "autoencoder")}


@pytest.mark.parametrize("kind", ["image", "vector"])
def test_reciprocity_holds_its_target_fixed(kind: str) -> None:
    model, x = made("alae", kind)
    reached = {name.split(".")[0] for name in gradients(model, x, "reciprocity")}
    assert reached == {"encoder", "generator"}, "F gets no gradient, neither as target nor through G"


@pytest.mark.parametrize("kind", ["image", "vector"])
def test_the_discriminator_does_not_teach_the_generator(kind: str) -> None:
    model, x = made("alae", kind)
    assert {name.split(".")[0] for name in gradients(model, x, "discriminator")} == {"encoder", "head"}


def test_r1_is_the_square_of_the_gradient_on_real_items() -> None:
    model, x = made("alae", "vector")
    model = model.double()
    x = x.double()
    assert isinstance(model, Alae)

    def judged(row: Tensor) -> Tensor:
        logit: Tensor = model.head(model.encoder(row[None]))
        return logit.squeeze()

    exact = torch.stack([torch.autograd.functional.jacobian(judged, row).square().sum() for row in x]).mean()
    loss, terms = model.loss(Batch(x), "discriminator")
    loss, terms = loss.detach(), {name: term.detach() for name, term in terms.items()}
    assert float(terms["r1"]) == pytest.approx(float(exact), rel=1e-9)
    assert float(loss) == pytest.approx(float(terms["discriminator"] + 0.05 * exact), rel=1e-9)
    with torch.no_grad():
        _, again = model.loss(Batch(x), "discriminator")
    assert float(again["r1"]) == pytest.approx(float(exact), rel=1e-9)


def test_what_is_served_are_the_averages() -> None:
    model, x = made("alae", "image")
    model.eval()
    with torch.no_grad():
        before = model.reconstruct(x)  # type: ignore[operator]
        for parameter in model.encoder.parameters():  # type: ignore[union-attr]
            parameter.add_(1)
        assert torch.equal(model.reconstruct(x), before)  # type: ignore[operator]


def test_the_style_decides_the_moments_of_every_channel() -> None:
    from models.parts.style import Styled, moments

    block = Styled(3, 5, 4).eval()
    w = torch.randn(2, 4)
    out = block(torch.randn(2, 3, 6, 6), w)
    scale, shift = block.style(w).chunk(2, dim=1)
    mean, deviation = moments(out)
    assert torch.allclose(mean.flatten(1), shift, atol=1e-5)
    assert torch.allclose(deviation.flatten(1), (1 + scale).abs(), atol=1e-2)
    assert torch.equal(block(torch.ones(2, 3, 6, 6), w), block(torch.ones(2, 3, 6, 6), w)), "no noise in eval mode"


def test_only_pictures_have_styles() -> None:
    with pytest.raises(InvalidParams, match="dense"):
        made("alae", "vector", generator="style")
