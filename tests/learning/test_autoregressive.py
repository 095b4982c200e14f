"""Autoregressive models, codebooks and the words of codes: what they promise exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.parts.autoregressive import Autoregressive, draw
from models.parts.codebook import Codebook, usage
from models.parts.index_assignment import FLIP, Words, assign, numbers
from models.parts.pixelcnn import PixelCnn
from models.parts.wavenet import WaveNet

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
        "one-row": (PixelCnn(VALUES, 1, 7, channels=8, layers=6, condition=3), (1, 7)),
        "wavenet": (WaveNet(VALUES, 21, channels=8, layers=8, longest=8, condition=3), (21,)),
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
            left = 7 - 5 <= column < 7  # four layers of one, and the shift
            expected = left if up == 0 else up <= 5 and abs(column - 7) <= 4
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


def test_a_codebook_moves_only_when_it_learns_and_towards_its_vectors() -> None:
    codebook = Codebook(8, 3, decay=0.9, restart=0)
    codebook.start(torch.randn(100, 3), epoch=100)
    before = {name: buffer.clone() for name, buffer in codebook.named_buffers()}
    z = torch.randn(64, 3)
    codebook.train()
    codes = codebook.nearest(z)
    codebook(codes)
    codebook.margin(z)
    codebook.usage()
    assert all(torch.equal(buffer, before[name]) for name, buffer in codebook.named_buffers())
    assert torch.equal(codes, torch.cdist(z, codebook.vectors).argmin(1))
    for _ in range(300):
        codebook.learn(z, codes)
    for code in codes.unique():
        assert torch.allclose(codebook.vectors[code], z[codes == code].mean(0), atol=0.05)


def test_one_update_is_the_moving_average_of_the_paper() -> None:
    codebook = Codebook(2, 1, decay=0.9, restart=0)
    codebook.sums.copy_(torch.tensor([[1.0], [4.0]]))
    codebook.counts.copy_(torch.tensor([1.0, 2.0]))
    codebook.learn(torch.tensor([[2.0], [3.0]]), torch.tensor([0, 0]))
    assert torch.allclose(codebook.counts, torch.tensor([0.9 + 0.2, 1.8]))
    assert torch.allclose(codebook.vectors, torch.tensor([[(0.9 + 0.5) / 1.1], [3.6 / 1.8]]), atol=1e-4)


@pytest.mark.parametrize(("restart", "used"), [(0, 1), (5, 8)])
def test_entries_that_nobody_uses_start_again(restart: int, used: int) -> None:
    codebook = Codebook(8, 2, decay=0.9, restart=restart)
    codebook.vectors.fill_(100)
    codebook.vectors[0] = 0
    codebook.sums.copy_(codebook.vectors)
    for _ in range(50):
        z = torch.randn(256, 2)
        codebook.learn(z, codebook.nearest(z))
    assert len(codebook.nearest(torch.randn(1000, 2)).unique()) == used


def test_use_is_counted_over_an_epoch() -> None:
    codebook = Codebook(4, 1, decay=0.9, restart=0)
    codebook.epoch = 40
    for code in [0, 1, 2, 3, 0]:
        codebook.learn(torch.zeros(10, 1), torch.full((10,), code))
    perplexity, share = codebook.usage()
    assert float(perplexity) == pytest.approx(4)
    assert float(share) == 1
    assert float(usage(torch.tensor([5.0, 5.0, 0.0, 0.0]))[0]) == pytest.approx(2)


@pytest.mark.parametrize("size", [128, 100])
def test_near_entries_differ_in_fewer_bits_than_far_ones(size: int) -> None:
    vectors = torch.randn(size, 8) * torch.linspace(2, 0.3, 8)
    words = Words(size)
    plain = words.table.clone()
    words.fit(vectors)
    assert len(words.table.unique(dim=0)) == size
    distance = torch.cdist(vectors, vectors).fill_diagonal_(float("inf"))

    def hamming(table: Tensor, places: Tensor) -> float:
        return float((words.width - (table[:, None] * table[places]).sum(2)).mean() / 2)

    near = distance.topk(3, largest=False).indices
    far = distance.nan_to_num(posinf=-1.0).topk(size // 2).indices
    assert hamming(words.table, near) < 0.75 * hamming(words.table, far)
    assert hamming(words.table, near) < 0.75 * hamming(plain, near)
    codes = torch.randint(size, (9, 5))
    assert torch.equal(words.read(words.spell(codes)), codes)


def test_swaps_find_what_brute_force_finds() -> None:
    """All 24 assignments of two-bit words to four entries: the cost of the one found is the least."""
    points = torch.randn(4, 2).double()
    distances = torch.cdist(points, points)
    signs = numbers(2).double()

    def cost(words: Tensor) -> float:
        h = (2 - signs[words] @ signs[words].T) / 2
        return float((distances * FLIP**h * (1 - FLIP) ** (2 - h)).sum())

    least = min(cost(torch.tensor(order)) for order in itertools.permutations(range(4)))
    assert cost(assign(distances, 2)) == pytest.approx(least)
