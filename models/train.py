"""One trainer for every family.

For each batch and each of a model's roles, in order, it takes the gradient of `loss(x, role)` with respect to that
role's parameters only and lets that role's optimiser step. After each epoch the codes of held-out items are searched
in those of the training items, and the epoch that retrieves best is kept: the loss goes on falling long after
retrieval has begun to fall. (A family made to generate or repair keeps the epoch of the best held-out loss, a game
between networks its last one.) A hit is one of the nearest in input space; where labels or pairs are to be learned
from, what they say is one. A model with several stages, an autoencoder and then a prior over its codes, goes through
them in order, each with optimisers, a decaying step size and a best epoch of its own.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.optim import Adam

from . import measure
from .base import Batch, Model, Stage, families
from .batches import Batches
from .errors import DataError, InvalidParams, TrainingFailed
from .inputs import Rows
from .readers import Items
from .supervision import Pair, Supervision
from .validation import Validation

_SMALLEST = 20
_REPORT_EVERY_S = 0.5
_CLIP_NORM = 5.0


class TrainConfig(BaseModel):
    """The run, as opposed to the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int | None = Field(None, ge=1, le=100_000, description="passes over the data; by size when left out")
    batch_size: int | None = Field(None, ge=2, le=65_536, description="items a step; the family's own when left out")
    learning_rate: float | None = Field(None, gt=0, le=1, description="the family's own when left out")
    patience: int = Field(25, ge=1, description="epochs without better retrieval after which training stops")
    validation_share: float = Field(0.1, gt=0, le=0.5, description="held out to choose the epoch")
    max_seconds: float | None = Field(None, gt=0, description="training stops at the end of the step then running")
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")

    def batch_for(self, items: int, model: Model) -> int:
        """How many of `items` a step takes."""
        return self.batch_size or model.batch_for(items)

    def epochs_for(self, items: int, model: Model) -> int:
        """Enough passes for about as many batches as the family wants, between the fewest it asks for and 150."""
        if self.epochs is not None:
            return self.epochs
        return max(model.fewest_epochs, min(150, math.ceil(model.steps * self.batch_for(items, model) / items)))


@dataclass(frozen=True)
class Progress:
    """Where training stands. `retrieval` and the health of the bits are of the last finished epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    losses: Mapping[str, float]
    retrieval: float | None
    best_epoch: int
    bit_balance: float | None
    distinct_codes: float | None
    items_per_s: float
    eta_s: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_supervised(model: Model) -> None:
    """Raise `InvalidParams` where `model` cannot learn from labels or pairs."""
    if not model.supervised:
        able = ", ".join(name for name, family in sorted(families().items()) if family.supervised)
        raise InvalidParams(
            f"{model.family} cannot learn from labels or pairs; {able} can: take one of them, or train without"
        )


class Trainer:
    """Trains one model in place. Deterministic for a seed on one machine: it seeds torch's global generator."""

    def __init__(self, model: Model, config: TrainConfig) -> None:
        self.model = model
        self.config = config
        self.metrics: dict[str, Any] = {}
        """After `fit`: the held-out retrieval of the kept epoch, which one it was, and the health of its bits."""

    def fit(
        self,
        items: Items,
        labels: Sequence[str | None] | None = None,
        *,
        learn_labels: bool = False,
        pairs: Sequence[Pair] | None = None,
    ) -> Iterator[Progress]:
        """Train on `items` and yield progress, at least once an epoch.

        labels: one an item, None where there is none; the metrics tell how well codes find them. They are learned from,
        and choose the epoch, only with `learn_labels`. pairs: what to learn from instead. Raises `DataError`,
        `InvalidParams` where the family cannot learn from either, `TrainingFailed`.
        """
        if learn_labels and labels is None:
            raise DataError("there are no labels to learn from; give each item, or some, a label or train without them")
        known = self._supervision(items, labels if learn_labels else None, pairs)
        if len(items) < _SMALLEST:
            raise DataError(f"training needs at least {_SMALLEST} items; got {len(items)}")
        started = time.monotonic()
        torch.manual_seed(self.config.seed)
        order = np.random.default_rng(self.config.seed)
        model = self.model.to(self._device())
        validation = Validation(model.input.rows(items), labels, known, self.config.validation_share, order)
        rows = validation.train
        model.taught = known is not None
        model.prepare(rows)
        if known is not None:
            self.metrics |= known.metrics()
            known = known.subset(validation.places)
        if model.roles:
            yield from self._epochs(rows, validation, known, order, started)
            model.finish()
        else:
            with torch.no_grad():
                model.fit_hash(rows)
        model.eval()
        model.to("cpu")
        self.metrics |= {
            **validation.tell(model),
            "items": len(items),
            "seconds": round(time.monotonic() - started, 2),
            **model.diagnose(rows),
        }

    def _supervision(
        self, items: Items, labels: Sequence[str | None] | None, pairs: Sequence[Pair] | None
    ) -> Supervision | None:
        if labels is None and pairs is None:
            return None
        check_supervised(self.model)
        if labels is not None and pairs is not None:
            raise InvalidParams("learn from labels or from pairs, not from both")
        if pairs is not None:
            return Supervision.from_pairs(pairs, len(items))
        assert labels is not None
        return Supervision.from_labels(labels)

    def _device(self) -> torch.device:
        if self.config.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.config.device)

    def _epochs(
        self,
        rows: Rows,
        validation: Validation,
        known: Supervision | None,
        order: np.random.Generator,
        started: float,
    ) -> Iterator[Progress]:
        model, config = self.model, self.config
        batches = Batches(model, rows, known, config.batch_for(len(rows), model), order)
        epochs = max(config.epochs_for(batches.items, model), len(model.stages))
        run = _Run(epochs, len(batches), started)
        end = 0.0
        for place, stage in enumerate(model.stages, start=1):
            end += stage.share
            last = min(max(round(epochs * end), run.epoch + 1), epochs - len(model.stages) + place)
            yield from self._stage(stage, last, run, batches, validation)
        if model.chosen_by != "retrieval":  # elsewhere the kept epoch was hashed when it was judged
            model.eval()
            retrieval, health = self._evaluate(rows, validation)
            yield run.progress(run.losses, retrieval, health, len(rows))
        chosen_by = {"retrieval": validation.chosen_by, "loss": "held-out loss", "last": "it is the last"}
        self.metrics |= {
            "best_epoch": run.best_epoch,
            "epoch_chosen_by": chosen_by[model.chosen_by],
            "epochs_run": run.epoch,
        }

    def _stage(
        self,
        stage: Stage,
        last_epoch: int,
        run: _Run,
        batches: Batches,
        validation: Validation,
    ) -> Iterator[Progress]:
        """One stage, from its own first epoch to its own best one, whose state it leaves in the model."""
        model, config = self.model, self.config
        rate = config.learning_rate or model.learning_rate
        optimisers = {
            role: Adam(model.parameters_of(role), lr=rate, betas=model.betas, fused=True) for role in stage.roles
        }
        first, epochs = run.epoch, last_epoch - run.epoch
        best, best_state = -math.inf, model.state_dict()
        retrieval: float | None = None
        health: measure.BitHealth | None = None
        if model.begins_fitted and model.chosen_by == "retrieval" and validation.decides:
            model.eval()
            retrieval, health = self._evaluate(batches.rows, validation)
            best, run.best_epoch, best_state = retrieval, first, copy.deepcopy(model.state_dict())
        for epoch in range(first + 1, last_epoch + 1):
            run.epoch = epoch
            model.train()
            sums: dict[str, float] = {}
            for number, batch in enumerate(batches, start=1):
                done = (epoch - first - 1) / epochs + (number - 1) / (epochs * run.batches)
                decay = 0.505 + 0.495 * math.cos(math.pi * done)  # half a cosine, to a hundredth
                for optimiser in optimisers.values():
                    optimiser.param_groups[0]["lr"] = rate * decay
                losses = self._step(batch, optimisers, epoch)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value
                run.step += 1
                over = config.max_seconds is not None and time.monotonic() - run.started > config.max_seconds
                last = number == run.batches or over
                if last:
                    model.eval()
                    if model.chosen_by == "retrieval":
                        retrieval, health = self._evaluate(batches.rows, validation)
                    score = self._score(epoch, retrieval, validation, stage)
                    if score > best:
                        best, run.best_epoch, best_state = score, epoch, copy.deepcopy(model.state_dict())
                if last or run.due():
                    run.losses = {name: value / number for name, value in sums.items()}
                    yield run.progress(run.losses, retrieval, health, len(batches.rows))
                if over:
                    break
            if over or epoch - run.best_epoch >= config.patience:
                break
        model.load_state_dict(best_state)

    def _score(self, epoch: int, retrieval: float | None, validation: Validation, stage: Stage) -> float:
        """How good this epoch is; more is better, and where the last one is kept, later."""
        if self.model.chosen_by == "loss":
            return -validation.loss(self.model, stage.roles)
        if self.model.chosen_by == "last" or not validation.decides:
            return float(epoch)
        assert retrieval is not None
        return retrieval

    def _step(self, batch: Batch, optimisers: Mapping[str, Adam], epoch: int) -> dict[str, float]:
        model = self.model
        on = model.device
        batch = batch.to(on)
        out: dict[str, float] = {}
        for role, optimiser in optimisers.items():
            parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
            with torch.autocast(on.type, torch.bfloat16, enabled=on.type == "cuda"):
                loss, terms = model.loss(batch, role)
            if not torch.isfinite(loss):
                raise TrainingFailed(
                    f"the loss of role {role!r} became {float(loss.detach())} in epoch {epoch}; "
                    "lower learning_rate, or look for extreme values in the data"
                )
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = None if gradient is None else _laid_out_as(parameter, gradient)
            torch.nn.utils.clip_grad_norm_(parameters, _CLIP_NORM * math.sqrt(len(parameters)))
            optimiser.step()
            out |= {name: float(value.detach()) for name, value in terms.items()}
        model.after_step()
        return out

    def _evaluate(self, rows: Rows, validation: Validation) -> tuple[float, measure.BitHealth]:
        with torch.no_grad():
            self.model.fit_hash(rows)
        return validation(self.model)


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Fused Adam pairs numbers by place in memory: a gradient laid out otherwise would be scrambled."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


@dataclass
class _Run:
    """Where a training stands, across its stages."""

    epochs: int
    batches: int
    started: float
    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    reported: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict)

    def due(self) -> bool:
        """Whether it is time to say something."""
        return time.monotonic() - self.reported > _REPORT_EVERY_S

    def progress(
        self, losses: Mapping[str, float], retrieval: float | None, health: measure.BitHealth | None, items: int
    ) -> Progress:
        self.reported = time.monotonic()
        elapsed = max(self.reported - self.started, 1e-9)
        steps = self.epochs * self.batches
        return Progress(
            epoch=self.epoch,
            epochs=self.epochs,
            step=self.step,
            steps=steps,
            losses=losses,
            retrieval=retrieval,
            best_epoch=self.best_epoch,
            bit_balance=health.balance if health else None,
            distinct_codes=health.distinct if health else None,
            items_per_s=self.step * items / self.batches / elapsed,
            eta_s=max(0.0, elapsed / self.step * (steps - self.step)),
        )
