"""One training, from a data set to a saved artefact; the same for the command line, the demo and a job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError

from index import Codes, pack
from index.drift import CodeProfile
from models.artefact import save_artefact
from models.base import MIN_BITS, Model, build, explain
from models.data import Dataset
from models.errors import DataError, InvalidInput, InvalidParams
from models.inputs import INPUTS
from models.pairs import Named, places_of
from models.specs import InputParams, fit_input
from models.train import Progress, TrainConfig, Trainer, check_supervised
from models.width import Width, propose

_SMALL = 1_000_000
_AT_ONCE = 256
_PROFILED = 10_000
"""Items whose codes are remembered: each bit's share of ones is then known to half a percent."""


@dataclass(frozen=True)
class Training:
    """What to train: `params` holds the parameters of family, run and preprocessing, told apart by their names.

    bits: the width, or "auto" for the one that `models.width` proposes. labels: learn from the labels of the data.
    pairs: learn from these, by ids.
    """

    name: str
    family: str
    bits: int | Literal["auto"]
    params: Mapping[str, Any]
    seed: int = 0
    labels: bool = False
    pairs: Sequence[Named] | None = None

    @property
    def width(self) -> int:
        """The number of bits, where it is settled."""
        assert self.bits != "auto"
        return self.bits

    def config(self) -> TrainConfig:
        """The run's own parameters. Raises `InvalidParams`."""
        own = {name: value for name, value in self.params.items() if name in TrainConfig.model_fields}
        try:
            return TrainConfig(**{"seed": self.seed, **own})
        except ValidationError as error:
            raise InvalidParams(explain(error)) from None

    def input_params(self) -> InputParams:
        """What is asked of the preprocessing. Raises `InvalidParams`."""
        try:
            return InputParams(**{name: self.params[name] for name in InputParams.model_fields if name in self.params})
        except ValidationError as error:
            raise InvalidParams(explain(error)) from None

    def family_params(self) -> dict[str, Any]:
        """The rest: the parameters of the family."""
        others = TrainConfig.model_fields.keys() | InputParams.model_fields.keys()
        return {name: value for name, value in self.params.items() if name not in others}


def check(training: Training) -> None:
    """Raise `InvalidParams` where the family, width or a parameter is wrong, before any data is read.

    Or `EmbeddingUnavailable`.
    """
    training.config()
    if training.labels and training.pairs is not None:
        raise InvalidParams("learn from labels or from pairs, not from both")
    training.input_params().check()
    # On the "meta" device nothing is allocated, however large the model would be.
    with torch.device("meta"):
        smallest = INPUTS["vector"].from_config({"kind": "vector", "dim": 1})
        bits = MIN_BITS if training.bits == "auto" else training.bits
        model = build(training.family, smallest, bits, training.family_params())
    if training.labels or training.pairs is not None:
        check_supervised(model)


def train(training: Training, data: Dataset, draft: Path) -> Iterator[Progress | Width]:
    """Train on `data`, yielding progress, and save the artefact as the new folder `draft`.

    Where the width is to be chosen, the one that was comes first.
    """
    with training.input_params().remembering():
        yield from _train(training, data, draft)


def _train(training: Training, data: Dataset, draft: Path) -> Iterator[Progress | Width]:
    labels = data.known_labels
    if training.labels and labels is None:
        raise DataError(
            f"{data.name} has no labels to learn from: give each item, or some, a label (a folder each, a column "
            "called label, the payload field that is named), or train without labels"
        )
    pairs = None if training.pairs is None else places_of(training.pairs, data.ids)
    input, bits = fit_input(data.kind, data.items, training.input_params()), training.bits
    chosen = dict[str, Any]()
    if bits == "auto":
        width = propose(data.items, input, labels if training.labels else None, seed=training.seed)
        bits, chosen = width.bits, {"bits_chosen": width.as_dict()}
        yield width
    model = build(training.family, input, bits, training.family_params(), seed=training.seed)
    trainer = Trainer(model, training.config())
    before = torch.get_num_threads()
    # A second thread costs a small model more than it brings: its steps are shorter than the hand-over.
    small = sum(parameter.numel() for parameter in model.parameters()) < _SMALL
    torch.set_num_threads(1 if small else os.cpu_count() or 1)
    try:
        yield from trainer.fit(data.items, labels, learn_labels=training.labels, pairs=pairs)
    finally:
        torch.set_num_threads(before)
    save_artefact(
        model,
        draft,
        metrics={**trainer.metrics, **chosen},
        training={"data": data.name, "items": len(data), **trainer.config.model_dump()},
        title=training.name,
        codes=profile(model, data),
    )


def profile(model: Model, data: Dataset) -> dict[str, Any] | None:
    """What the codes of `data` are like, of a part of it where it is large, as JSON; None where nothing has a code."""
    places = np.arange(len(data))
    if len(places) > _PROFILED:
        places = np.sort(np.random.default_rng(0).choice(places, _PROFILED, replace=False))
    codes = [
        _codes(model, [data.items[place] for place in part])
        for part in np.split(places, range(_AT_ONCE, len(places), _AT_ONCE))
    ]
    found = np.concatenate(codes)
    return CodeProfile.of(found).as_dict() if len(found) else None


def _codes(model: Model, items: list[Any]) -> Codes:
    """The codes of those of `items` that have one."""
    while items:
        try:
            return pack(model.logits(items))
        except InvalidInput as error:
            if error.position is None:
                raise
            items.pop(error.position)  # an outlier beyond all numbers: nothing that arrives later is like it
    return np.empty((0, model.bits // 8), np.uint8)
