"""The lines benchmark (see `models.synthetic.lines`) for every family that interpolates, as one table.

Smaller than the paper's, so that it runs on a CPU: 16 x 16 instead of 32 x 32, two thousand steps instead of 262,144.
The published figures stand beside ours for their order, not for their size. The autoencoder that ACAI is held against
is its own control: the same networks, trained alike, with lambda = 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base import Model, build, families
from ..capabilities import capabilities
from ..data import Dataset
from ..inputs import INPUTS
from ..synthetic.lines import STEPS, Bank, Score, draw
from ..train import TrainConfig, Trainer
from .base import Finding, Findings, proof

SIDE = 16
_LINES = 2000
_PAIRS = 256
_BATCH = 64
_LAST = 5
"""Evaluations at the end of training of which the median is taken, as the distance swings between them."""
_ACAI_STEPS, _OTHER_STEPS = 2200, 1400
_STEPS: Mapping[str, int] = {"alae": 3000, "nvae": 500}
"""What a family gets instead: its steps are quick, or very slow."""
_PUBLISHED = {
    "autoencoder": ("6.88", ".44"),
    "denoising-autoencoder": ("4.21", ".66"),
    "vae": ("1.21", ".49"),
    "vq-vae": ("5.41", ".77"),
    "acai": (".24", ".10"),
}
_PARAMS: Mapping[str, Mapping[str, Any]] = {
    "alae": {"generator": "dense"},
    # The codes alone are walked through; their prior gets the least there is.
    "vq-vae": {"codes": 256, "channels": 32, "prior_share": 0.02, "prior_channels": 8, "prior_layers": 1},
}


class Benchmark:
    """Lines to train on and other ones to interpolate between, both drawn from `seed`."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        angles = rng.uniform(0, 2 * math.pi, _LINES)
        items = np.round((draw(angles, SIDE) + 1) * 127.5).astype(np.uint8)[:, :, :, None]
        labels = [str(int(angle / (2 * math.pi) * 10)) for angle in angles]
        self.data = Dataset("lines", "image", items, [str(place) for place in range(_LINES)], labels)
        ends = torch.from_numpy(draw(rng.uniform(0, 2 * math.pi, 2 * _PAIRS), SIDE))
        self._a, self._b = ((ends[:, None] + 1) / 2).chunk(2)  # (pairs, 1, side, side) in [0, 1]
        self._bank = Bank(SIDE)
        self._seed = seed

    @torch.no_grad()
    def judge(self, model: Model) -> Score:
        """The score of the model's paths between the pairs."""
        walks: list[Tensor] = [
            model.interpolate(a, b, STEPS).clamp(0, 1)  # type: ignore[operator]
            for a, b in zip(self._a.split(1), self._b.split(1), strict=True)
        ]
        return self._bank.judge(2 * torch.stack(walks).flatten(2) - 1)

    def run(self, family: str, params: Mapping[str, Any], steps: int, evaluations: int = 1) -> Score:
        """Train a model of `family` and judge it: the median of the last so many epochs, or the epoch kept."""
        model = build(family, INPUTS["image"].fit(self.data.items), 32, params, seed=self._seed)
        epochs = math.ceil(steps * _BATCH / (0.9 * _LINES))
        config = TrainConfig(epochs=epochs, batch_size=_BATCH, patience=epochs, seed=self._seed, device="cpu")
        scores: dict[int, Score] = {}
        for progress in Trainer(model, config).fit(self.data.items, self.data.labels):
            whole = progress.step == progress.epoch * (progress.steps // progress.epochs)
            late = progress.epoch > epochs - evaluations
            if evaluations > 1 and whole and late and progress.epoch not in scores:
                scores[progress.epoch] = self.judge(model.eval())
        if evaluations == 1:
            return self.judge(model.eval())
        found = list(scores.values())
        return Score(
            distance=float(np.median([score.distance for score in found])),
            foreground=float(np.median([score.foreground for score in found])),
            smoothness=float(np.median([score.smoothness for score in found])),
            valid=min(score.valid for score in found),
            pairs=_PAIRS,
        )


def _row(name: str, score: Score) -> Findings:
    distance, smoothness = _PUBLISHED.get(name, ("", ""))
    yield Finding(f"{name}: mean distance, thousandths", 1000 * score.distance, published=distance)
    yield Finding(f"{name}: mean smoothness", score.smoothness, published=smoothness)
    yield Finding(f"{name}: mean distance of foregrounds", score.foreground)
    yield Finding(f"{name}: pairs of {_PAIRS} that have a smoothness", score.valid)


def _small(family: type[Model]) -> Mapping[str, Any]:
    """Few channels, as the pictures are small."""
    return {"channels": 8} if "channels" in family.Params.model_fields else {}


@proof("acai", seconds=620)
def lines(data: None, seed: int) -> Findings:
    """Interpolation between lines, for every family that interpolates."""
    bench = Benchmark(seed)
    acai = bench.run("acai", {"channels": 8}, _ACAI_STEPS, _LAST)
    plain = bench.run("acai", {"channels": 8, "critic_weight": 0.0}, _ACAI_STEPS, _LAST)
    yield from _row("acai", acai)
    yield from _row("acai without its critic (lambda = 0)", plain)
    yield Finding("acai: mean smoothness, at most", acai.smoothness, 0.20, published=".10")
    yield Finding("acai: smoothness over that with lambda = 0", acai.smoothness / plain.smoothness, 0.5)
    yield Finding("acai: distance over that with lambda = 0", acai.distance / plain.distance, 0.6)
    yield Finding("control: smoothness with lambda = 0 stays above", plain.smoothness, 0.35, "least", published=".44")
    for name, family in sorted(families().items()):
        if name == "acai" or "interpolate" not in capabilities(family):
            continue
        score = bench.run(name, {**_small(family), **_PARAMS.get(name, {})}, _STEPS.get(name, _OTHER_STEPS))
        yield from _row(name, score)
        if name == "vq-vae":
            yield Finding("vq-vae: distance over that of acai with lambda = 0", score.distance / plain.distance, 1.0)
            ratio = score.smoothness / acai.smoothness
            yield Finding("vq-vae's weakness: smoothness over that of acai", ratio, 2.0, "least", published="7.7")
