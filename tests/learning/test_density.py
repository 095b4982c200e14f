"""What density estimation rests on, where the answer is known exactly: path integrals, chains, Hutchinson's probes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base import build
from models.data import load
from models.families.contractive_autoencoder import ContractiveAutoencoder
from models.inputs import INPUTS
from models.parts.density import (
    first_order,
    gauss_legendre,
    hutchinson,
    langevin,
    metropolis,
    path_integral,
    plain_mean,
    trapezoid,
)
from models.parts.linear_denoiser import LinearDenoiser
from models.synthetic import ring, spiral

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]])


def gaussian(x: Tensor) -> Tensor:
    """The score of N(0, PRECISION^-1)."""
    return -x @ PRECISION


def gaussian_ratio(a: Tensor, b: Tensor) -> Tensor:
    return 0.5 * (torch.einsum("bi,ij,bj->b", a, PRECISION, a) - torch.einsum("bi,ij,bj->b", b, PRECISION, b))


def pairs(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(64, 2, generator=generator), torch.randn(64, 2, generator=generator)


@pytest.mark.parametrize("rule", [trapezoid(2), trapezoid(5), gauss_legendre(1), gauss_legendre(5), plain_mean(2)])
def test_a_path_integral_of_a_linear_field_is_exact(rule: object) -> None:
    a, b = pairs()
    found = path_integral(gaussian, rule)(a, b)  # type: ignore[arg-type]
    assert torch.allclose(found, gaussian_ratio(a, b), atol=1e-5)


def test_five_gauss_legendre_nodes_follow_a_ring_of_gaussians_where_one_look_does_not() -> None:
    a = torch.from_numpy(ring.draw(200, np.random.default_rng(0)))
    b = a + 0.8 * torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    true = ring.log_density(b) - ring.log_density(a)
    assert float((path_integral(ring.score)(a, b) - true).abs().median()) < 1e-2
    assert float((first_order(ring.score)(a, b) - true).abs().median()) > 1


def test_the_ring_and_its_score_agree() -> None:
    x = torch.from_numpy(ring.draw(50, np.random.default_rng(1))).double().requires_grad_()
    (gradient,) = torch.autograd.grad(ring.log_density(x, 0.2).sum(), x)
    assert torch.allclose(gradient, ring.score(x.detach(), 0.2), atol=1e-10)


def test_metropolis_by_the_exact_density_draws_from_it() -> None:
    generator = torch.Generator().manual_seed(0)
    x, accepted = metropolis(gaussian_ratio, torch.zeros(4000, 2), steps=200, spread=1.0, generator=generator)
    assert torch.allclose(torch.cov(x.T), PRECISION.inverse(), atol=0.06)
    assert x.mean(0).abs().max() < 0.05
    assert 0.4 < accepted < 0.8


def test_metropolis_stays_in_its_box_and_is_a_function_of_the_generator() -> None:
    box = (torch.tensor([-0.5, -1.0]), torch.tensor([0.5, 2.0]))

    def ends(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return metropolis(gaussian_ratio, torch.zeros(99, 2), steps=50, spread=1.0, generator=generator, box=box)[0]

    assert ((ends(0) >= box[0]) & (ends(0) <= box[1])).all()
    assert torch.equal(ends(0), ends(0))
    assert not torch.equal(ends(0), ends(1))


def test_langevin_with_small_steps_draws_from_the_density_and_without_noise_climbs_to_its_mode() -> None:
    generator = torch.Generator().manual_seed(0)
    x = langevin(gaussian, torch.zeros(4000, 2), steps=400, step=0.25, generator=generator)
    assert torch.allclose(torch.cov(x.T), PRECISION.inverse(), atol=0.1)
    still = langevin(gaussian, torch.ones(3, 2), steps=400, step=0.25, generator=generator, temperature=0.0)
    assert still.abs().max() < 1e-2


def test_hutchinson_is_within_a_tenth_of_the_exact_jacobian_with_200_probes() -> None:
    torch.manual_seed(0)
    vectors = INPUTS["vector"].fit(load("spiral").items[:500])
    model = build("contractive-autoencoder", vectors, 8, {"hidden": 32, "latent": 8, "sigma": 0.3})
    assert isinstance(model, ContractiveAutoencoder)
    x = vectors.tensor(load("spiral").items[:20]).requires_grad_()
    exact = torch.func.vmap(torch.func.jacrev(lambda at: model.reconstruct(at[None])[0]))(x).flatten(1).square().sum(1)
    found = hutchinson(model.reconstruct(x), x, 200)
    assert float(((found - exact).abs() / exact).detach().max()) < 0.1


def test_hutchinson_agrees_with_the_closed_form_of_a_sigmoid_layer() -> None:
    """sum_j (h_j (1 - h_j))^2 sum_i W_ji^2: Rifai et al. (2011), equation 6."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(12, 30)
    x = torch.randn(20, 12, requires_grad=True)
    h = layer(x).sigmoid()
    exact = (h * (1 - h)).square() @ layer.weight.square().sum(1)
    found = hutchinson(h, x, 200)
    assert float(((found - exact).abs() / exact).detach().max()) < 0.1
    found.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().max() > 0, "the estimate can be learned from"


def test_the_linear_denoiser_is_the_posterior_mean_of_gaussian_data() -> None:
    rng = np.random.default_rng(0)
    items = (rng.normal(size=(20_000, 3)) * [2.0, 1.0, 0.3]).astype(np.float32)
    spec = INPUTS["vector"].fit(items)
    linear = LinearDenoiser(3, 5)
    linear.fit(spec.rows(items))
    x, sigma = spec.tensor(items), 0.4
    noisy = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    level = torch.full((len(x), 1), sigma)
    repaired = linear.item(linear.code(noisy, level))
    variances = x.var(0)
    assert torch.allclose(repaired, noisy * variances / (variances + sigma**2), atol=0.02)
    measured = (repaired - x).square().mean().sqrt()
    assert float(linear.error(level)[0]) == pytest.approx(float(measured), rel=0.02)
    drawn = linear.draw(20_000, sigma, torch.Generator().manual_seed(1), 1.0)
    assert torch.allclose(drawn.var(0), variances + sigma**2, rtol=0.05)


def test_the_spiral_is_known_where_it_is() -> None:
    items, t = spiral.draw(500, np.random.default_rng(0))
    found, away = spiral.nearest(items)
    assert abs(found - t).mean() < 0.05
    assert np.median(away) == pytest.approx(spiral.NOISE * 0.674, rel=0.2)
    assert np.allclose(spiral.points(np.array([math.pi])), [[0, -0.04 * math.pi]], atol=1e-9)
