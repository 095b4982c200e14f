"""What a proof is: a function that trains a system and its controls and yields findings.

A finding is a number beside the threshold it must meet (none: it is reported only) and the figure that was published.
Proofs register themselves with `proof`; they say which data they need and how long they take on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..base import Model, build
from ..data import Dataset, part
from ..inputs import INPUTS
from ..train import TrainConfig, Trainer


@dataclass(frozen=True)
class Finding:
    """One measured number. `at` says how the threshold is met; no threshold means that it is only reported."""

    what: str
    value: float
    threshold: float | None = None
    at: Literal["most", "least"] = "most"
    published: str = ""

    @property
    def met(self) -> bool | None:
        if self.threshold is None:
            return None
        return self.value <= self.threshold if self.at == "most" else self.value >= self.threshold


Findings = Iterator[Finding]
Needs = Literal["images", "texts", "sounds", "nothing"]


@dataclass(frozen=True)
class Proof:
    """How a system is proven. `run(data, seed)` gets data of the kind it needs, or None where it makes its own."""

    system: str
    needs: Needs
    seconds: float
    run: Callable[[Any, int], Findings]
    title: str


PROOFS: dict[str, Proof] = {}
"""Every proof by name."""


def proof(
    system: str, *, needs: Needs = "nothing", seconds: float
) -> Callable[[Callable[[Any, int], Findings]], Callable[[Any, int], Findings]]:
    """Register the decorated function as a proof of `system`; its docstring's first line is the title."""

    def register(run: Callable[[Any, int], Findings]) -> Callable[[Any, int], Findings]:
        name = run.__name__.replace("_", "-")
        if name in PROOFS:
            raise TypeError(f"two proofs are called {name!r}")
        PROOFS[name] = Proof(system, needs, seconds, run, (run.__doc__ or name).strip().splitlines()[0])
        return run

    return register


def trained(
    family: str,
    data: Dataset,
    params: Mapping[str, Any] | None = None,
    *,
    bits: int = 32,
    seed: int = 0,
    epochs: int | None = None,
    **config: Any,
) -> Model:
    """A model of `family` trained on `data` by the one Trainer, ready to be used."""
    model = build(family, INPUTS[data.kind].fit(data.items), bits, params or {}, seed=seed)
    for _ in Trainer(model, TrainConfig(seed=seed, epochs=epochs, **config)).fit(data.items, data.labels):
        pass
    return model.eval()


def split(data: Dataset, seed: int, *, test: float = 0.2) -> tuple[Dataset, Dataset]:
    """Training and test part, by a permutation drawn from `seed`."""
    order = np.random.default_rng(seed).permutation(len(data))
    edge = int(len(data) * test)
    return part(data, order[edge:]), part(data, order[:edge])


def smaller(data: Dataset, side: int) -> Dataset:
    """Grey images averaged down and zero-padded to `side` x `side`: 28 becomes 14, and 16 with a margin of one."""
    images = np.asarray(data.items, np.float32)[:, :, :, 0]
    height = images.shape[1]
    factor = max(1, -(-height // side))
    whole = height // factor * factor
    n = len(images)
    pooled = images[:, :whole, :whole].reshape(n, whole // factor, factor, whole // factor, factor).mean((2, 4))
    margin = side - pooled.shape[1]
    padded = np.pad(pooled, ((0, 0), (margin // 2, margin - margin // 2), (margin // 2, margin - margin // 2)))
    items = padded.round().astype(np.uint8)[:, :, :, None]
    return Dataset(f"{data.name}-{side}", "image", items, data.ids, data.labels, data.payloads)
