"""The lines metric on paths whose worth is known: ../shared/reference/seeds.md, section 9."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data import load
from models.synthetic.lines import STEPS, Bank, Score, draw, smoothness

pytestmark = pytest.mark.xdist_group("lines")  # one process makes what they all use

PAIRS = 256
SIDES = (32, 16)


@pytest.fixture(scope="module", params=SIDES)
def scores(request: pytest.FixtureRequest) -> tuple[int, dict[str, Score]]:
    """Scores of five kinds of path, by side."""
    side = request.param
    bank = Bank(side)
    return side, {name: bank.judge(path) for name, path in paths(side).items()}


def paths(side: int) -> dict[str, Tensor]:
    """Paths `(PAIRS, STEPS, side * side)` between lines at random angles."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 2 * math.pi, (2, PAIRS))
    turn = (b - a + math.pi) % (2 * math.pi) - math.pi  # the shorter way round
    share = np.linspace(0, 1, STEPS)
    perfect = torch.from_numpy(draw((a[:, None] + turn[:, None] * share).ravel(), side)).view(PAIRS, STEPS, -1)
    first, last = perfect[:, :1], perfect[:, -1:]
    noise = torch.randn(perfect.shape, generator=torch.Generator().manual_seed(0))
    late = (torch.arange(STEPS) >= STEPS // 2)[None, :, None]
    return {
        "perfect": perfect,
        "noisy": perfect + 0.1 * noise,
        "mixed": torch.lerp(first, last, torch.linspace(0, 1, STEPS)[None, :, None]),
        "abrupt": torch.where(late, last, first),
        "blank": torch.full_like(perfect, -1),
    }


def test_a_turning_line_is_perfect(scores: tuple[int, dict[str, Score]]) -> None:
    perfect = scores[1]["perfect"]
    assert perfect.distance < 1e-5
    assert perfect.foreground < 1e-4
    assert perfect.smoothness < 0.005
    assert perfect.valid == perfect.pairs == PAIRS


def test_noise_costs_distance_alone(scores: tuple[int, dict[str, Score]]) -> None:
    side, score = scores
    assert score["noisy"].distance == pytest.approx({32: 5.0e-3, 16: 5.1e-3}[side], rel=0.1)
    assert score["noisy"].smoothness < 0.03


def test_a_mix_of_pixels_is_neither_near_nor_smooth(scores: tuple[int, dict[str, Score]]) -> None:
    side, score = scores
    assert score["mixed"].distance == pytest.approx({32: 6.17e-3, 16: 10.6e-3}[side], rel=0.1)
    assert score["mixed"].smoothness == pytest.approx({32: 0.875, 16: 0.819}[side], abs=0.025)


def test_a_jump_is_near_and_not_smooth(scores: tuple[int, dict[str, Score]]) -> None:
    abrupt = scores[1]["abrupt"]
    assert abrupt.distance < 1e-5
    assert abrupt.smoothness == pytest.approx(14 / 15, abs=1e-9)


def test_a_blank_picture_is_near_by_its_background_only(scores: tuple[int, dict[str, Score]]) -> None:
    side, score = scores
    assert score["blank"].distance == pytest.approx({32: 3.07e-2, 16: 5.84e-2}[side], rel=0.01)
    assert score["blank"].foreground == pytest.approx(1)
    assert score["blank"].valid == 0
    assert math.isnan(score["blank"].smoothness)


def test_paths_without_a_smoothness_do_not_improve_the_mean() -> None:
    path = paths(16)
    half = torch.cat([path["abrupt"][:10], path["blank"][:30]])
    score = Bank(16).judge(half)
    assert (score.valid, score.pairs) == (10, 40)
    assert score.smoothness == pytest.approx(14 / 15)


def test_smoothness_of_angles() -> None:
    assert smoothness(np.linspace(0.1, 1.5, 16)) == pytest.approx(0)
    assert smoothness(np.linspace(-1, 1, 16) % (2 * math.pi)) == pytest.approx(0), "past 0 there is no jump"
    assert smoothness(np.full(16, 0.3)) is None
    over = smoothness(np.array([0.0] * 8 + [2.0] * 7 + [1.0]))
    assert over is not None
    assert over > 14 / 15, "not bounded by that of one jump"


def test_lines_are_as_the_paper_draws_them() -> None:
    for side, share in ((32, 0.027), (16, 0.05)):
        drawn = draw(np.linspace(0, 2 * math.pi, 720, endpoint=False), side)
        assert drawn.shape == (720, side, side)
        assert drawn.dtype == np.float32
        assert drawn.min() == -1
        assert drawn.max() == 1
        assert float((drawn + 1).mean() / 2) == pytest.approx(share, rel=0.05)
    down = draw(np.zeros(1), 16)[0]
    assert (down[8:15, 7:9] == 1).all()
    assert (down == 1).sum() == 14


def test_the_built_in_lines() -> None:
    data = load("lines")
    assert (len(data), data.items[0].shape, data.items[0].dtype) == (2000, (16, 16, 1), np.uint8)
    assert data.labels is not None
    assert data.payloads is not None
    assert sorted(set(data.labels)) == [str(label) for label in range(10)]
    angle = data.payloads[3]["angle"]
    assert data.labels[3] == str(int(angle / (2 * math.pi) * 10))
    assert np.abs((draw(np.array([angle]), 16)[0] + 1) * 127.5 - data.items[3][:, :, 0]).max() < 2
