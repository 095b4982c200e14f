"""One trainer for every family.

For each batch and each of a model's roles, in order, it takes the gradient of `loss(x, role)` with respect to that
role's parameters only and lets that role's optimiser step. After each epoch the codes of held-out items are searched
in those of the training items, and the epoch that retrieves best is kept: the loss goes on falling long after
retrieval has begun to fall. (A family made to generate or repair keeps the epoch of the best held-out loss, a game
between networks its last one.) Where there are labels a hit is an item of the same label, else one of the nearest in
input space. A model with several stages, an autoencoder and then a prior over its codes, goes through them in order,
each with optimisers, a decaying step size and a best epoch of its own.
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
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch.optim import Adam

from . import measure, neighbours
from .base import Batch, Model, Stage
from .errors import DataError, TrainingFailed
from .inputs import Rows
from .readers import Items

_SMALLEST = 20
_MOST_QUERIES, _MOST_DATABASE = 1000, 20_000
_K = 10
_REPORT_EVERY_S = 0.5
_CLIP_NORM = 5.0


class TrainConfig(BaseModel):
    """The run, as opposed to the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int | None = Field(None, ge=1, le=100_000, description="passes over the data; by size when left out")
    batch_size: int = Field(128, ge=2, le=65_536)
    learning_rate: float | None = Field(None, gt=0, le=1, description="the family's own when left out")
    patience: int = Field(25, ge=1, description="epochs without better retrieval after which training stops")
    validation_share: float = Field(0.1, gt=0, le=0.5, description="held out to choose the epoch")
    max_seconds: float | None = Field(None, gt=0, description="training stops at the end of the step then running")
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")

    def epochs_for(self, items: int, steps: int) -> int:
        """Enough passes for about `steps` batches, between 15 and 150."""
        if self.epochs is not None:
            return self.epochs
        return max(15, min(150, math.ceil(steps * self.batch_size / items)))


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


class Validation:
    """Held-out retrieval: precision@10 of held-out items searched among the training items."""

    def __init__(
        self, rows: Rows, labels: NDArray[np.str_] | None, share: float, generator: np.random.Generator
    ) -> None:
        order = generator.permutation(len(rows))
        held = order[: max(1, min(_MOST_QUERIES, int(len(rows) * share)))]
        train = np.sort(order[len(held) :])
        database = np.sort(generator.permutation(train)[:_MOST_DATABASE])
        self.train = rows.subset(train)
        self._queries, self._database = rows.subset(np.sort(held)), rows.subset(database)
        if labels is not None:
            self.measure = f"precision@{_K} by label"
            self._relevant = measure.same_label(labels[np.sort(held)], labels[database])
        else:
            self.measure = f"share of the {_K} nearest in input space among the {_K} nearest codes"
            near = neighbours.nearest(self._queries, self._database, _K)
            self._relevant = np.zeros((len(self._queries), len(self._database)), np.bool_)
            np.put_along_axis(self._relevant, near, True, axis=1)

    def loss(self, model: Model, roles: Sequence[str]) -> float:
        """The held-out loss of `roles` added up, with the same random draws every time."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            batch = Batch(self._queries.sample(len(self._queries))).to(model.device)
            return sum(float(model.loss(batch, role)[0]) for role in roles)

    def __call__(self, model: Model) -> tuple[float, measure.BitHealth]:
        queries, database = (np.packbits(_logits(model, part) > 0, axis=1) for part in (self._queries, self._database))
        return measure.precision_at_k(queries, database, self._relevant, _K), measure.bit_health(database)


@torch.no_grad()
def _logits(model: Model, rows: Rows) -> NDArray[np.float32]:
    starts = range(0, len(rows), 1024)
    parts = [model.logits_of(rows.take(np.arange(at, min(at + 1024, len(rows))))) for at in starts]
    return np.concatenate(parts)


class Trainer:
    """Trains one model in place. Deterministic for a seed on one machine: it seeds torch's global generator."""

    def __init__(self, model: Model, config: TrainConfig) -> None:
        self.model = model
        self.config = config
        self.metrics: dict[str, Any] = {}
        """After `fit`: the held-out retrieval of the kept epoch, which one it was, and the health of its bits."""

    def fit(self, items: Items, labels: Sequence[str] | None = None) -> Iterator[Progress]:
        """Train on `items` and yield progress, at least once an epoch. Raises `DataError`, `TrainingFailed`."""
        if len(items) < _SMALLEST:
            raise DataError(f"training needs at least {_SMALLEST} items; got {len(items)}")
        started = time.monotonic()
        torch.manual_seed(self.config.seed)
        order = np.random.default_rng(self.config.seed)
        model = self.model.to(self._device())
        names = None if labels is None else np.array(labels, dtype=np.str_)
        validation = Validation(model.input.rows(items), names, self.config.validation_share, order)
        rows = validation.train
        model.prepare(rows)
        if model.roles:
            yield from self._epochs(rows, validation, order, started)
        else:
            with torch.no_grad():
                model.fit_hash(rows)
        model.eval()
        model.to("cpu")
        retrieval, health = validation(model)
        self.metrics |= {
            "retrieval": retrieval,
            "retrieval_measure": validation.measure,
            "bit_balance": health.balance,
            "distinct_codes": health.distinct,
            "bit_correlation": health.correlation,
            "items": len(items),
            "seconds": round(time.monotonic() - started, 2),
            **model.diagnose(rows),
        }

    def _device(self) -> torch.device:
        if self.config.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.config.device)

    def _epochs(
        self, rows: Rows, validation: Validation, order: np.random.Generator, started: float
    ) -> Iterator[Progress]:
        model, config = self.model, self.config
        epochs = max(config.epochs_for(len(rows), model.steps), len(model.stages))
        run = _Run(epochs, max(1, len(rows) // config.batch_size), started)
        near = neighbours.table(rows, model.neighbours, order) if model.neighbours else None
        end = 0.0
        for place, stage in enumerate(model.stages, start=1):
            end += stage.share
            last = min(max(round(epochs * end), run.epoch + 1), epochs - len(model.stages) + place)
            yield from self._stage(stage, last, run, rows, near, validation, order)
        if model.chosen_by != "retrieval":  # elsewhere the kept epoch was hashed when it was judged
            model.eval()
            retrieval, health = self._evaluate(rows, validation)
            yield run.progress(run.losses, retrieval, health, len(rows))
        self.metrics |= {"best_epoch": run.best_epoch, "epochs_run": run.epoch}

    def _stage(
        self,
        stage: Stage,
        last_epoch: int,
        run: _Run,
        rows: Rows,
        near: NDArray[np.int64] | None,
        validation: Validation,
        order: np.random.Generator,
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
        for epoch in range(first + 1, last_epoch + 1):
            run.epoch = epoch
            model.train()
            sums: dict[str, float] = {}
            permutation = order.permutation(len(rows))
            for batch, places in enumerate(np.array_split(permutation, run.batches), start=1):
                done = (epoch - first - 1) / epochs + (batch - 1) / (epochs * run.batches)
                decay = 0.505 + 0.495 * math.cos(math.pi * done)  # half a cosine, to a hundredth
                for optimiser in optimisers.values():
                    optimiser.param_groups[0]["lr"] = rate * decay
                neighbour = None
                if near is not None:
                    neighbour = rows.take(near[places, order.integers(near.shape[1], size=len(places))])
                views = (rows.view(places), rows.view(places)) if model.views else None
                losses = self._step(Batch(rows.take(places), neighbour, views), optimisers, epoch)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value
                run.step += 1
                over = config.max_seconds is not None and time.monotonic() - run.started > config.max_seconds
                last = batch == run.batches or over
                if last:
                    model.eval()
                    if model.chosen_by == "retrieval":
                        retrieval, health = self._evaluate(rows, validation)
                    score = self._score(retrieval, validation, stage)
                    if score >= best if model.chosen_by == "last" else score > best:
                        best, run.best_epoch, best_state = score, epoch, copy.deepcopy(model.state_dict())
                if last or run.due():
                    run.losses = {name: value / batch for name, value in sums.items()}
                    yield run.progress(run.losses, retrieval, health, len(rows))
                if over:
                    break
            if over or epoch - run.best_epoch >= config.patience:
                break
        model.load_state_dict(best_state)

    def _score(self, retrieval: float | None, validation: Validation, stage: Stage) -> float:
        """How good this epoch is; more is better."""
        if self.model.chosen_by == "retrieval":
            assert retrieval is not None
            return retrieval
        return 0.0 if self.model.chosen_by == "last" else -validation.loss(self.model, stage.roles)

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
                # Fused Adam pairs numbers by place in memory: a gradient laid out otherwise would be scrambled.
                parameter.grad = None if gradient is None else gradient.contiguous()
            torch.nn.utils.clip_grad_norm_(parameters, _CLIP_NORM * math.sqrt(len(parameters)))
            optimiser.step()
            out |= {name: float(value.detach()) for name, value in terms.items()}
        model.after_step()
        return out

    def _evaluate(self, rows: Rows, validation: Validation) -> tuple[float, measure.BitHealth]:
        with torch.no_grad():
            self.model.fit_hash(rows)
        return validation(self.model)


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
