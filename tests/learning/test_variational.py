"""The arithmetic of variational autoencoders against closed forms, sampling and enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base import Model, build
from models.errors import InvalidParams
from models.inputs import INPUTS
from models.parts import variational
from models.parts.collapse import CollapseReport, examine
from models.parts.observation import Observation
from models.parts.variational import Bernoulli, Gaussian
from models.train import TrainConfig, Trainer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


MEAN = torch.tensor([0.8, -1.5, 0.3], dtype=torch.float64)
LOG_VARIANCE = torch.tensor([-1.0, 0.4, -0.2], dtype=torch.float64)


def test_reparameterised_gradients_of_a_quadratic_are_those_of_its_expectation() -> None:
    a = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]], dtype=torch.float64)
    b = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    mean, log_variance = MEAN.clone().requires_grad_(), LOG_VARIANCE.clone().requires_grad_()
    noise = torch.randn(200_000, 3, generator=generator(), dtype=torch.float64)
    z = variational.reparameterised(mean, log_variance, noise)
    ((z @ a * z).sum(1) + z @ b).mean().backward()
    for got, exact in ((mean.grad, 2 * a @ MEAN + b), (log_variance.grad, a.diagonal() * LOG_VARIANCE.exp())):
        assert got is not None
        assert (got - exact).norm() < 0.02 * exact.norm()


def test_gaussian_kl_is_what_sampling_gives() -> None:
    z = variational.reparameterised(MEAN, LOG_VARIANCE, torch.randn(100_000, 3, generator=generator()).double())
    q, p = torch.distributions.Normal(MEAN, (LOG_VARIANCE / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    sampled = float((q.log_prob(z) - p.log_prob(z)).sum(1).mean())
    assert float(variational.gaussian_kl(MEAN, LOG_VARIANCE).sum()) == pytest.approx(sampled, rel=0.01)
    ratio = variational.gaussian_log_ratio(z, MEAN, LOG_VARIANCE)
    assert torch.allclose(ratio, (p.log_prob(z) - q.log_prob(z)).sum(1))
    assert not variational.gaussian_kl(torch.zeros(3), torch.zeros(3)).any()


def test_bernoulli_kl_is_log_two_less_the_entropy() -> None:
    logits = torch.tensor([-40.0, -2.0, 0.0, 0.7, 40.0], dtype=torch.float64)
    entropy = torch.distributions.Bernoulli(logits=logits).entropy()
    assert torch.allclose(variational.bernoulli_kl(logits), math.log(2) - entropy)
    coins = torch.distributions.Bernoulli(logits=torch.zeros(5, dtype=torch.float64))
    closed = torch.distributions.kl_divergence(torch.distributions.Bernoulli(logits=logits), coins)
    assert torch.allclose(variational.bernoulli_kl(logits), closed)


def test_free_bits_are_a_floor_under_the_mean_of_each_dimension() -> None:
    kl = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 3.0]], requires_grad=True)
    assert variational.free_bits(kl, 0.0).item() == 4.0
    assert variational.free_bits(kl, 0.4).item() == 4.0  # no item's zero counts, only the mean of .5
    total = variational.free_bits(kl, 0.6)
    assert total.item() == pytest.approx(0.6 + 0.6 + 3.0)
    total.backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0.0, 0.0, 0.5], [0.0, 0.0, 0.5]]


def test_binarised_pixels_are_white_as_often_as_they_are_grey() -> None:
    x = torch.tensor([0.0, 0.2, 0.9, 1.0]).expand(50_000, 4)
    drawn = variational.binarised(x, torch.rand(x.shape, generator=generator()))
    assert torch.allclose(drawn.mean(0), x[0], atol=0.01)
    assert torch.equal(variational.binarised(drawn, torch.rand(x.shape, generator=generator(1))), drawn)


def test_the_importance_weighted_bound_grows_from_the_elbo_to_the_likelihood() -> None:
    """x = 2 z + noise of variance .25, whose likelihood is N(0, 4.25); the posterior is made wrong on purpose."""
    x = torch.tensor([[0.5], [-3.0], [4.0]], dtype=torch.float64)
    exact = torch.distributions.Normal(0.0, 4.25**0.5).log_prob(x).squeeze(1)
    variance = torch.full_like(x, 1 / (1 + 4 / 0.25)).log()
    mean = variance.exp() * 2 * x / 0.25

    def bound(draws: int, shift: float) -> tuple[Tensor, Tensor]:
        random = generator()

        def weights() -> Tensor:
            noise = torch.randn(x.shape, generator=random, dtype=x.dtype)
            z = variational.reparameterised(mean + shift, variance, noise)
            likelihood = torch.distributions.Normal(2 * z, 0.5).log_prob(x).sum(1)
            return variational.gaussian_log_ratio(z, mean + shift, variance) + likelihood

        each = [weights() for _ in range(draws)]
        return torch.stack(each).mean(0), variational.importance_weighted(each)

    assert torch.allclose(bound(1, 0.0)[1], exact), "a posterior that is right needs one draw"
    elbo, weighted = bound(1000, 0.3)
    assert (elbo < weighted).all()
    assert (weighted < exact + 0.1).all()
    assert torch.allclose(weighted, exact, atol=0.1)
    assert (bound(10, 0.3)[1].mean() < exact.mean()).all()


def test_bits_sum_to_the_likelihood() -> None:
    """Over all codes, q(b) times the weight p(x, b) / q(b) adds up to p(x)."""
    logits = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64)
    codes = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    nll = (codes * torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)).sum(1)
    ratio = variational.bernoulli_log_ratio(codes, logits)
    q = Bernoulli(logits).log_densities(codes).squeeze(1)
    assert float(q.exp().sum()) == pytest.approx(1)
    assert float((q + ratio - nll).exp().sum()) == pytest.approx(float((-nll).exp().mean()))


def test_a_text_has_as_many_words_as_it_has() -> None:
    x = torch.zeros(2, 6)
    x[0, :4], x[1, 1:3] = 0.5, 2**-0.5  # four and two words of equal weight, rows of unit length
    assert float(variational.words_in(x)) == pytest.approx(3)
    uniform = variational.multinomial_nll(torch.zeros(2, 6), x, torch.tensor(3.0))
    assert torch.allclose(uniform, torch.full((2,), 3 * math.log(6)))


# -- likelihoods that are likelihoods ------------------------------------------------------------------------------


def small(family: str, **params: object) -> Model:
    spec = INPUTS["image"].from_config({"kind": "image", "height": 2, "width": 2, "channels": 1})
    torch.manual_seed(0)
    model = build(family, spec, 8, {"hidden": 8, **params}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


PICTURES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(16, 1, 2, 2)


@pytest.mark.parametrize("decoder", ["dense", "autoregressive"])
@torch.no_grad()
def test_black_and_white_pictures_have_a_probability_each(decoder: str) -> None:
    model = small("vae", latent=2, binarise=True, decoder=decoder, channels=4, layers=2)
    for z in torch.randn(3, 2, generator=generator()):
        log_p = -model.nll(z.expand(16, 2), PICTURES)
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    bound = model.log_likelihood(PICTURES, 2000, generator())
    assert float(bound.exp().sum()) == pytest.approx(1, abs=0.03)
    elbo = torch.stack([model.log_weights(PICTURES, torch.randn(16, 2, generator=generator(k))) for k in range(200)])
    assert elbo.mean() < bound.mean()


@torch.no_grad()
def test_an_autoregressive_decoder_draws_pictures_as_often_as_it_says() -> None:
    model = small("vae", latent=2, binarise=True, decoder="autoregressive", channels=4, layers=2)
    z = torch.tensor([[0.5, -1.0]])
    drawn = model.drawn(z.expand(20_000, 2), generator(), 1.0)
    places = (drawn.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    share = torch.bincount(places, minlength=16) / len(drawn)
    assert torch.allclose(share, (-model.nll(z.expand(16, 2), PICTURES)).exp(), atol=0.015)
    likeliest = model.drawn(z, generator(), 0.0)
    assert torch.equal(model.expected(z) > 0.5, likeliest > 0.5)
    mask = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]]).expand(5, 1, 2, 2)
    filled = model.inpaint(PICTURES[:5], mask, steps=2, generator=generator())
    assert torch.equal(filled[mask == 0], PICTURES[:5][mask == 0])
    assert set(filled.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(("family", "params"), [("vae", {}), ("vae", {"binarise": True}), ("bernoulli-vae", {})])
@torch.no_grad()
def test_a_score_is_that_of_the_item_alone(family: str, params: dict[str, object]) -> None:
    model = small(family, **params)
    x = torch.rand(6, 1, 2, 2, generator=generator())
    alone = torch.cat([model.score(item[None]) for item in x])
    assert torch.allclose(model.score(x), alone, atol=1e-5)


@torch.no_grad()
def test_bits_flip_one_after_the_other() -> None:
    model = small("bernoulli-vae")
    a, b = PICTURES[5:6], PICTURES[10:11]
    walk = model.interpolate(a, b, 9)
    assert torch.allclose(walk[:1], model.reconstruct(a), atol=1e-6)
    assert torch.allclose(walk[-1:], model.reconstruct(b), atol=1e-6)


def test_what_black_and_white_is_not_for() -> None:
    vector = INPUTS["vector"].from_config({"kind": "vector", "dim": 4})
    with pytest.raises(InvalidParams, match="for images"):
        build("vae", vector, 8, {"binarise": True})
    with pytest.raises(InvalidParams, match="set binarise"):
        build("vae", vector, 8, {"decoder": "autoregressive"})
    image = INPUTS["image"].from_config({"kind": "image", "height": 2, "width": 2, "channels": 1})
    with pytest.raises(InvalidParams, match="set binarise"):
        build("vae", image, 8, {"decoder": "autoregressive"})


def test_the_best_prediction_is_perfect() -> None:
    spec = INPUTS["text"].from_config({"kind": "text", "vocabulary": ["a", "b", "c"]})
    observation = Observation(spec)
    x = torch.nn.functional.normalize(torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 1.0]]), dim=1)
    least = observation.perfect(x)
    assert least == pytest.approx(float(torch.distributions.Categorical(probs=x).entropy().mean()))
    assert least < float(observation.nll(torch.randn(2, 3, generator=generator()), x).mean())


# -- posterior collapse ----------------------------------------------------------------------------------------------


def items(n: int = 500) -> Tensor:
    return torch.randn(n, 4, generator=generator())


def heard(z: Tensor, x: Tensor) -> Tensor:
    """A decoder that repeats its latent, with noise of variance .1 and no constant."""
    return 5 * (z - x).square().sum(1)


def ignored(z: Tensor, x: Tensor) -> Tensor:
    """A decoder that has its own idea of every item."""
    return 5 * (x - 0.1).square().sum(1) + 0 * z.sum(1)


def diagnosed(spread: float, nll: object, x: Tensor) -> CollapseReport:
    posterior = Gaussian(x, torch.full_like(x, 2 * math.log(spread)))
    return examine(x, posterior, nll)  # type: ignore[arg-type]


def test_a_decoder_that_listens_is_healthy() -> None:
    report = diagnosed(0.1, heard, items())
    assert not report.collapsed
    assert report.verdict.startswith("healthy: 4 of 4")
    assert report.active_units == 4
    assert report.gap == pytest.approx(5 * 4 * (2 - 0.01), rel=0.1)  # x and z ~ p are independent and of unit variance
    assert report.sensitivity == pytest.approx(10 * 0.1, rel=0.1)
    assert report.total_kl == pytest.approx(
        float(variational.gaussian_kl(items(), torch.tensor(0.01).log()).sum(1).mean())
    )
    assert 0.9 * math.log(500) < report.information <= math.log(500) + 1e-4


def test_a_decoder_that_ignores_its_latent_is_found_out_however_much_the_encoder_says() -> None:
    report = diagnosed(0.1, ignored, items())
    assert report.collapsed
    assert report.active_units == 4
    assert (report.gap, report.sensitivity) == (pytest.approx(0, abs=1e-4), 0)
    assert "could almost do without" in report.verdict


def test_an_encoder_that_says_nothing_is_found_out() -> None:
    x = items()
    report = examine(x, Gaussian(torch.zeros_like(x), torch.zeros_like(x)), heard)
    assert report.collapsed
    assert report.active_units == 0
    assert (report.total_kl, report.information) == (0, pytest.approx(0, abs=1e-4))
    assert report.verdict.startswith("collapsed: no latent dimension")
    assert report.metrics()["posterior"] == report.verdict


def test_bits_are_diagnosed_like_any_latent() -> None:
    x = (items() > 0).float()
    report = examine(x, Bernoulli(20 * (2 * x - 1)), heard)
    assert not report.collapsed
    assert report.total_kl == pytest.approx(4 * math.log(2), rel=1e-3)
    assert report.information == pytest.approx(math.log(len(np.unique(x.numpy(), axis=0))), rel=0.05)


@pytest.mark.parametrize("family", ["vae", "bernoulli-vae"])
def test_a_trained_model_says_whether_its_latent_is_used(family: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    trainer = Trainer(build(family, INPUTS["vector"].fit(vectors), 8, {"hidden": 8}), TrainConfig(epochs=1))
    list(trainer.fit(vectors))
    assert trainer.metrics["information_at_most"] == pytest.approx(math.log(54), abs=1e-3)  # six are held out
    assert str(trainer.metrics["posterior"]).startswith(("healthy", "collapsed", "partly collapsed"))
