"""NVAE's arithmetic: the residual posterior, what keeps it stable, the balance of groups, and any depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from models.base import Batch, FamilyParams, Model, build
from models.errors import InvalidParams
from models.families.nvae import Nvae
from models.inputs import ImageInput, InputSpec, TextInput, VectorInput
from models.parts.cells import SpectralNorms, convolution_weights, soft_clamp
from models.parts.hierarchical import balance, posterior_of, prior_of
from models.train import TrainConfig, Trainer

SMALL = {"channels": 4, "latents": 3, "expansion": 2}


def model(input: InputSpec, **params: Any) -> Nvae:
    out = build("nvae", input, 32, {**SMALL, **params})
    assert isinstance(out, Nvae)
    return out.eval()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_residual_kl_is_the_kl_of_two_gaussians() -> None:
    torch.manual_seed(0)
    raw, change = (3 * torch.randn(64, 6, 4, 4, dtype=torch.float64) for _ in range(2))
    prior = prior_of(raw)
    posterior = posterior_of(change, prior)
    q = Normal(prior.mean + prior.sigma * posterior.shift, prior.sigma * posterior.spread)
    expected = kl_divergence(q, Normal(prior.mean, prior.sigma))
    assert torch.allclose(posterior.kl(), expected, rtol=1e-5, atol=1e-5)
    change_of_mean, log_change_of_sigma = soft_clamp(change).chunk(2, dim=1)  # the paper's own terms
    assert torch.allclose(q.mean, prior.mean + change_of_mean)
    assert torch.allclose(q.stddev, prior.sigma * log_change_of_sigma.exp())


def test_the_soft_clamp_keeps_its_range_and_the_identity_near_zero() -> None:
    x = torch.linspace(-1e4, 1e4, 10_001)
    assert soft_clamp(x).abs().max() <= 5
    near = torch.linspace(-0.1, 0.1, 101)
    assert torch.allclose(soft_clamp(near), near, rtol=1e-3)
    prior = prior_of(torch.tensor([[[[1e9]], [[-1e9]]]]))
    assert float(prior.mean) == pytest.approx(5)
    assert float(prior.sigma) > 1e-2


def test_spectral_norms_are_those_of_the_decomposition_and_follow_the_weights() -> None:
    torch.manual_seed(0)
    net = model(ImageInput(16, 16, 1), groups=[2, 2])
    weights = convolution_weights(net.ladder)
    norms = SpectralNorms(weights)

    def exact() -> torch.Tensor:
        return torch.stack([torch.linalg.matrix_norm(weight.flatten(1), 2) for weight in weights])

    assert torch.allclose(norms(weights).sort().values, exact().sort().values, rtol=0.01)
    with torch.no_grad():
        for _ in range(50):  # as in training, where the weights move a little between two estimates
            for weight in weights:
                weight.add_(0.01 * weight.std() * torch.randn_like(weight))
            estimate = norms.train()(weights)
    assert torch.allclose(estimate.sort().values, exact().sort().values, rtol=0.01)


def test_the_gradient_of_a_spectral_norm_is_that_of_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    norms = SpectralNorms([weight], first_rounds=400)
    (estimated,) = torch.autograd.grad(norms([weight]).sum(), weight)
    (exact,) = torch.autograd.grad(torch.linalg.matrix_norm(weight.flatten(1), 2), weight)
    assert torch.allclose(estimated, exact, atol=1e-4)


def test_balancing_weights_have_a_mean_of_one_and_no_gradient() -> None:
    kl = torch.tensor([5.0, 0.0, 4.0, 1.0], requires_grad=True)
    weight = balance(kl, torch.tensor([8.0, 8.0, 32.0, 32.0]))
    assert float(weight.mean()) == pytest.approx(1)
    assert not weight.requires_grad
    assert weight[0] > weight[1]
    assert weight[0] > weight[2]


INPUTS_TRIED = {
    "square": ImageInput(16, 16, 1),
    "odd": ImageInput(11, 7, 3),
    "tiny": ImageInput(1, 2, 1),
    "vector": VectorInput(10),
    "text": TextInput([f"word{place}" for place in range(12)]),
}


@pytest.mark.parametrize("groups", [[1], [3], [1, 2], [2, 1, 1], [1, 1, 1, 1, 1]], ids=str)
@pytest.mark.parametrize("kind", INPUTS_TRIED)
def test_any_depth_runs_on_any_input(kind: str, groups: list[int]) -> None:
    input = INPUTS_TRIED[kind]
    net = model(input, groups=groups)
    torch.manual_seed(0)
    x = torch.rand(4, *input.shape)
    assert len(net.ladder.shapes) == sum(groups)
    loss, _ = net.train().loss(Batch(x), "autoencoder")
    loss.backward()
    assert torch.isfinite(loss)
    net.eval()
    with torch.inference_mode():
        z = net.latent(x)
        assert z.shape == (4, net.rotation.dim)
        assert torch.allclose(net.expected(z), net.reconstruct(x))
        assert net.sample(3, generator=generator()).shape == (3, *input.shape)
        assert net.vary(x[:1], 3, generator=generator()).shape == (3, *input.shape)
        assert net.score(x).shape == (4,)
        assert net.double().latent(x.double()).dtype == torch.float64


@torch.inference_mode()
def test_groups_left_out_take_their_prior_means() -> None:
    net = model(ImageInput(8, 8, 1), groups=[1, 1])
    z = net.latent(torch.rand(3, 1, 8, 8))
    coarse = z[:, : net.ladder.shapes[0][0] * 4]  # the coarse scale is 2 x 2
    whole = torch.cat([coarse, torch.zeros(3, z.shape[1] - coarse.shape[1])], dim=1)
    assert torch.allclose(net.expected(coarse), net.expected(whole))
    with pytest.raises(ValueError, match="first groups"):
        net.expected(z[:, :-1])


@torch.inference_mode()
def test_sampling_at_temperature_zero_draws_nothing() -> None:
    net = model(ImageInput(8, 8, 1), groups=[2, 2])
    one = net.sample(4, generator=torch.Generator().manual_seed(1), temperature=0.0)
    two = net.sample(4, generator=torch.Generator().manual_seed(2), temperature=0.0)
    assert torch.equal(one, two)
    assert torch.allclose(one, one[:1].expand_as(one), atol=1e-6)


@torch.inference_mode()
def test_the_bound_is_below_the_importance_weighted_one_and_is_what_the_loss_says() -> None:
    net = model(ImageInput(8, 8, 1), groups=[1, 2], binarise=True)
    x = (torch.rand(64, 1, 8, 8, generator=generator()) > 0.5).float()
    noise = generator()
    closed = float(
        torch.stack([torch.cat([cost.view(64, -1) for cost in net.costs(x, noise)], 1) for _ in range(50)])
        .sum(2)
        .mean()
    )
    drawn = -float(torch.stack([net.log_weights(x, noise) for _ in range(50)]).mean())
    assert closed == pytest.approx(drawn, abs=0.2), "the KL in closed form, and by sampling"
    assert -closed < float(net.log_likelihood(x, 50, noise).mean())
    torch.manual_seed(0)
    assert float(net.loss(Batch(x), "autoencoder")[0]) == pytest.approx(closed, abs=0.5)


@torch.inference_mode()
def test_a_score_belongs_to_its_item() -> None:
    net = model(ImageInput(8, 8, 1), groups=[1, 1])
    x = torch.rand(6, 1, 8, 8)
    alone = torch.cat([net.score(item[None]) for item in x])
    assert torch.allclose(net.score(x), alone, atol=1e-3)


def test_black_and_white_is_for_pictures() -> None:
    with pytest.raises(InvalidParams, match="images"):
        build("nvae", VectorInput(4), 32, {"binarise": True})


class Sheet(Model):
    """A weight whose gradient comes transposed in memory, as those of spectral norms may."""

    def __init__(self) -> None:
        super().__init__(VectorInput(3), 8, FamilyParams())
        self.weight = torch.nn.Parameter(torch.zeros(3, 4))
        self.target = torch.tensor([[1.0, -1, 1, 1], [-1, -1, 1, -1], [1, 1, -1, 1]])

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def loss(self, batch: Batch, role: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return -(self.weight.T * self.target.T.contiguous()).sum(), {}


def test_a_gradient_laid_out_otherwise_moves_the_right_weights() -> None:
    sheet = Sheet()
    (gradient,) = torch.autograd.grad(sheet.loss(Batch(torch.zeros(2, 3)), "autoencoder")[0], [sheet.weight])
    assert not gradient.is_contiguous()
    optimiser = torch.optim.Adam(sheet.parameters(), lr=0.1, fused=True)
    Trainer(sheet, TrainConfig(device="cpu"))._step(Batch(torch.zeros(2, 3)), {"autoencoder": optimiser}, 1)
    assert torch.equal(sheet.weight.sign(), sheet.target)
