"""Adversarial families: who moves whom, and what the losses and measures are worth where the answer is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from models.base import Batch, Model, build
from models.families.vae_gan import VaeGan
from models.inputs import INPUTS
from models.parts.adversarial import Trunk, discriminator_loss, generator_loss, r1_penalty
from models.parts.averaging import Average, decay_for
from models.proofs.gan import CENTRES, coverage, grid
from models.proofs.quality import class_distance, frechet, knn_accuracy, sharpness
from models.train import TrainConfig, Trainer

GAMES = ["gan", "vae-gan"]
PICTURE = {"kind": "image", "height": 9, "width": 6, "channels": 1}
VECTOR = {"kind": "vector", "dim": 5}


def game(family: str, config: dict[str, object]) -> tuple[Model, Tensor]:
    spec = INPUTS[str(config["kind"])].from_config(config)
    model = build(family, spec, 32, {"hidden": 8, "channels": 4})
    return model, torch.rand(6, *spec.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[(family, config) for family in GAMES for config in (PICTURE, VECTOR)], ids=str)
def played(request: pytest.FixtureRequest) -> Iterator[tuple[Model, Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield game(*request.param)


def test_roles_share_no_parameter_and_leave_out_only_averages(played: tuple[Model, Tensor]) -> None:
    model, _ = played
    of = {role: {id(parameter) for parameter in model.parameters_of(role)} for role in model.roles}
    assert sum(map(len, of.values())) == len(set().union(*of.values()))
    left = {name for name, parameter in model.named_parameters() if id(parameter) not in set().union(*of.values())}
    assert left
    assert all(name.startswith("average.") for name in left)
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if name in left)


def test_a_step_of_a_role_moves_its_own_parameters_and_no_others(played: tuple[Model, Tensor]) -> None:
    model, x = played
    trainer = Trainer(model, TrainConfig(device="cpu"))
    for role in model.roles:
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        own = {id(parameter) for parameter in model.parameters_of(role)}
        optimiser = torch.optim.Adam(model.parameters_of(role), lr=0.1)
        model.after_step = lambda: None  # type: ignore[method-assign]  # the average follows all roles
        trainer._step(Batch(x), {role: optimiser}, 1)
        for name, parameter in model.named_parameters():
            moved = not torch.equal(parameter, before[name])
            assert not moved or id(parameter) in own, (role, name)
        assert any(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_nothing_of_the_game_reaches_the_encoder(played: tuple[Model, Tensor]) -> None:
    model, x = played
    if not isinstance(model, VaeGan):
        pytest.skip("a GAN has no encoder")
    for role in ("decoder", "discriminator"):
        loss, _ = model.loss(Batch(x), role)
        gradients = torch.autograd.grad(loss, list(model.encoder.parameters()), allow_unused=True)
        assert all(gradient is None for gradient in gradients), role
    # What the encoder does learn from does not change with the verdict, only with the trunk.
    torch.manual_seed(1)
    before, _ = model.loss(Batch(x), "encoder")
    with torch.no_grad():
        model.discriminator.logit.weight.mul_(-3)
        model.discriminator.last.weight.mul_(2)
    torch.manual_seed(1)
    after, _ = model.loss(Batch(x), "encoder")
    assert torch.equal(before, after)


def test_the_feature_loss_does_not_depend_on_the_size_of_the_features() -> None:
    model, x = game("vae-gan", VECTOR)
    assert isinstance(model, VaeGan)
    features = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    model.discriminator.trunk = nn.Identity()  # type: ignore[assignment]
    x = torch.rand(6, 8, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(model.feature_loss(x, features), model.feature_loss(7 * x, 7 * features))
    assert model.feature_loss(x, x) == 0


def test_r1_of_a_linear_discriminator_is_the_square_of_its_weight() -> None:
    layer = nn.Linear(5, 1).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    penalty = r1_penalty(lambda x: layer(x)[:, 0], x)
    assert torch.allclose(penalty, layer.weight.square().sum())
    (gradient,) = torch.autograd.grad(penalty, layer.weight)
    assert torch.allclose(gradient, 2 * layer.weight)
    with torch.no_grad():
        assert torch.allclose(r1_penalty(lambda x: layer(x)[:, 0], x), layer.weight.square().sum())


def test_r1_of_a_quadratic_discriminator() -> None:
    x = torch.randn(7, 5, dtype=torch.float64)
    penalty = r1_penalty(lambda x: 0.5 * x.square().sum(1), x)
    assert torch.allclose(penalty, x.square().sum(1).mean())


def test_the_value_of_the_game_is_minus_log_4_at_its_optimum() -> None:
    same = torch.zeros(10)  # D* = p / (p + q) = 1/2
    assert math.isclose(-float(discriminator_loss(same, same)), -math.log(4), rel_tol=1e-6)
    assert math.isclose(float(generator_loss(same)), math.log(2), rel_tol=1e-6)
    assert math.isclose(float(generator_loss(same, saturating=True)), -math.log(2), rel_tol=1e-6)


def test_the_value_at_the_optimum_is_the_jensen_shannon_divergence() -> None:
    """V(D*) = -log 4 + 2 JS(p, q), on two items with p = (.8, .2) and q = (.3, .7), given out in those shares."""
    p, q = torch.tensor([0.8, 0.2]), torch.tensor([0.3, 0.7])
    best = (p / q).log()  # the logit of D*
    real, fake = best[[0] * 8 + [1] * 2], best[[0] * 3 + [1] * 7]
    middle = (p + q) / 2
    js = 0.5 * (p * (p / middle).log()).sum() + 0.5 * (q * (q / middle).log()).sum()
    assert torch.allclose(-discriminator_loss(real, fake), 2 * js - math.log(4))


def test_the_saturating_gradient_dies_where_the_discriminator_wins() -> None:
    for saturating, size in ((True, 0.0), (False, 1.0)):
        logit = torch.tensor([-20.0], requires_grad=True)
        (gradient,) = torch.autograd.grad(generator_loss(logit, saturating=saturating), logit)
        assert math.isclose(abs(float(gradient)), size, abs_tol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 5), (8, 8), (9, 6), (16, 5), (28, 28), (1, 7), (3, 2)])
def test_pictures_of_any_size_go_down_and_up(height: int, width: int) -> None:
    spec = INPUTS["image"].from_config({"kind": "image", "height": height, "width": width, "channels": 3})
    x = torch.rand(2, *spec.shape)
    trunk = Trunk(spec, 4, 8)
    assert trunk(x).shape == (2, trunk.flat)
    for family in GAMES:
        model = build(family, spec, 8, {"hidden": 8, "channels": 4})
        made = model.sample(2, generator=torch.Generator())  # type: ignore[operator]
        assert made.shape == x.shape


def test_an_average_follows_and_is_never_trained() -> None:
    source = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(source)
    average.train()
    assert not average.module.training
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.fill_(1.0)
    for _ in range(2000):
        average.update(source, decay_for(100))
    assert all(torch.allclose(mean, torch.ones(())) for mean in average.module.parameters())
    at_rest = average.module[0].weight.clone()
    with torch.no_grad():
        source[0].weight.fill_(3.0)
    for _ in range(100):
        average.update(source, decay_for(100))
    assert torch.allclose(average.module[0].weight, (at_rest + 3) / 2, atol=1e-4), "half the way in a half-life"


def test_frechet_of_gaussians_is_the_closed_form() -> None:
    """For covariances that commute: |m - n|^2 + sum (s - t)^2, s and t the standard deviations along the axes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T  # whitened exactly
    s, t, m = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 0.5], [1.0, 0.0, -2.0]], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    a, b = (x * s) @ turn, (x * t + m) @ turn
    assert math.isclose(frechet(a, b), float(m.square().sum() + (s - t).square().sum()), rel_tol=1e-9)
    assert abs(frechet(a, a)) < 1e-9


def test_measures_of_pictures_and_labels() -> None:
    flat = torch.full((2, 1, 6, 6), 0.3)
    assert sharpness(flat) < 1e-6
    ramp = torch.arange(6.0).expand(2, 1, 6, 6)
    assert sharpness(ramp) < 1e-6
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1
    assert math.isclose(sharpness(dot), (4 + 4) / 9, rel_tol=1e-6)
    assert class_distance(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), 2) == 0.25
    z = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    assert knn_accuracy(z, y, z + 0.01, y, 3) == 1
    assert knn_accuracy(z, y, z + 0.01, 1 - y, 3) == 0


def test_coverage_of_the_grid() -> None:
    points = torch.from_numpy(grid(20_000, 0).items)
    whole = coverage(points)
    assert whole.modes == 25
    assert whole.quality > 0.999
    assert whole.divergence < 0.002
    one = coverage(CENTRES[3].expand(100, 2))
    assert (one.modes, one.quality) == (1, 1)
    assert math.isclose(one.divergence, math.log(25), rel_tol=1e-6)
    between = coverage(CENTRES + 0.5)
    assert (between.modes, between.quality) == (0, 0)
