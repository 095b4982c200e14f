"""Autoregressive models, codebooks and the words of codes: what they promise exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.autoregressive import Autoregressive, draw
from models.pixelcnn import PixelCnn
from models.wavenet import WaveNet

VALUES = 5


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def models() -> dict[str, tuple[Autoregressive, tuple[int, ...]]]:
    """Small models with weights large enough that every path through them shows, and the shape of their codes."""
    out: dict[str, tuple[Autoregressive, tuple[int, ...]]] = {
        "pixelcnn": (PixelCnn(VALUES, 6, 5, channels=8, layers=4, condition=3), (6, 5)),
        "one-row": (PixelCnn(VALUES, 1, 7, channels=8, layers=3, condition=3), (1, 7)),
        "wavenet": (WaveNet(VALUES, 21, channels=8, layers=6, longest=8, condition=3), (21,)),
    }
    return {name: (model.double().eval(), shape) for name, (model, shape) in out.items()}


@pytest.mark.parametrize("name", ["pixelcnn", "one-row", "wavenet"])
def test_a_code_changes_later_logits_only_and_all_of_them(name: str) -> None:
    """Exact causality, and no blind spot: with enough layers every later position feels every earlier code."""
    model, shape = models()[name]
    codes = torch.randint(VALUES, (1, *shape))
    before = model(codes, torch.zeros(1, 3).double()).flatten(2)  # (1, values, positions)
    positions = before.shape[2]
    felt = torch.zeros(positions, positions, dtype=torch.bool)
    for t in range(positions):
        changed = codes.clone().flatten()
        changed[t] = (changed[t] + 1) % VALUES
        after = model(changed.view(1, *shape), torch.zeros(1, 3).double()).flatten(2)
        felt[t] = (after != before).any(1)[0]
    assert torch.equal(felt, torch.ones(positions, positions, dtype=torch.bool).triu(1))


def reach(model: PixelCnn, i: int, j: int) -> Tensor:
    """Which embedded inputs the logits at `(i, j)` depend on, by gradient."""
    codes = torch.zeros(1, model.height, model.width, dtype=torch.int64)
    seen: list[Tensor] = []
    handle = model.embedding.register_forward_hook(lambda _m, _i, out: seen.append(out.requires_grad_()) or out)
    logits = model(codes)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, :, i, j].square().sum(), seen[0])
    return gradient[0].abs().sum(-1) > 0


def test_the_receptive_field_has_no_blind_spot() -> None:
    """One layer more widens the field evenly; nothing above within its width is missed."""
    model = PixelCnn(VALUES, 9, 15, channels=8, layers=4, kernel=3, first_kernel=3).double().eval()
    field = reach(model, 8, 7)
    for up in range(9):
        for column in range(15):
            if up == 0:
                expected = 7 - 5 <= column < 7  # four layers of one to the left, and the shift
            else:
                expected = up <= 5 and abs(column - 7) <= 4
            assert bool(field[8 - up, column]) == expected, (up, column)


def slow_sample(model: Autoregressive, shape: tuple[int, ...], n: int, seed: int, condition: Tensor) -> Tensor:
    """Ancestral sampling by the whole forward pass at every position."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.zeros(n, *shape, dtype=torch.int64)
    for place in itertools.product(*map(range, shape)):
        at = (slice(None), *place)
        logits = model(codes, condition)[(slice(None), slice(None), *place)]
        codes[at] = draw(logits, 1.0, generator)
    return codes


@torch.no_grad()
@pytest.mark.parametrize("name", ["pixelcnn", "one-row", "wavenet"])
def test_cached_sampling_is_ancestral_sampling(name: str) -> None:
    model, shape = models()[name]
    condition = torch.randn(64, 3).double()
    fast = model.sample(64, generator=torch.Generator().manual_seed(3), condition=condition)
    assert torch.equal(fast, slow_sample(model, shape, 64, 3, condition))
    assert len(fast.flatten(1).unique(dim=0)) > 60


@torch.no_grad()
@pytest.mark.parametrize("name", ["pixelcnn", "wavenet"])
def test_known_codes_stay_and_cold_samples_are_alike(name: str) -> None:
    model, shape = models()[name]
    known = torch.randint(VALUES, (16, *shape))
    redraw = torch.rand(16, *shape) < 0.5
    drawn = model.sample(16, generator=torch.Generator().manual_seed(0), known=known, redraw=redraw)
    assert torch.equal(drawn[~redraw], known[~redraw])
    assert (drawn[redraw] != known[redraw]).any()
    cold = model.sample(4, generator=torch.Generator().manual_seed(0), temperature=0.0)
    assert torch.equal(cold, cold[:1].expand_as(cold))


@torch.no_grad()
@pytest.mark.parametrize("condition", [0, 2])
def test_likelihoods_sum_to_one(condition: int) -> None:
    """All sixteen binary maps of 2 x 2, and all binary sequences of 4."""
    given = torch.randn(1, 2).double().expand(16, 2) if condition else None
    every = torch.tensor(list(itertools.product(range(2), repeat=4)))
    pixelcnn = PixelCnn(2, 2, 2, channels=8, layers=3, condition=condition).double().eval()
    wavenet = WaveNet(2, 4, channels=8, layers=3, condition=condition).double().eval()
    for model, codes in ((pixelcnn, every.view(16, 2, 2)), (wavenet, every)):
        probability = model.log_likelihood(codes, given).exp()
        assert float(probability.sum()) == pytest.approx(1, abs=1e-12)
        assert probability.std() > 1e-3


@torch.no_grad()
def test_samples_come_as_often_as_their_likelihood_says() -> None:
    model = PixelCnn(2, 2, 2, channels=8, layers=3).double().eval()
    every = torch.tensor(list(itertools.product(range(2), repeat=4)))
    drawn = model.sample(20_000, generator=torch.Generator().manual_seed(0)).flatten(1)
    share = (drawn @ torch.tensor([8, 4, 2, 1])).bincount(minlength=16) / len(drawn)
    assert torch.allclose(share.double(), model.log_likelihood(every.view(16, 2, 2)).exp(), atol=0.012)
