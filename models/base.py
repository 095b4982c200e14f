"""What a model is: an encoder to bits, a loss for each optimiser, and whatever else it can do.

The one Trainer drives every family through `roles` and `loss`; what a family can do beyond encoding it declares
by having the method of a protocol of `capabilities`. Reconstructions and codes are in the input's own terms: `x` is
`(B, *input.shape)`, logits are `(B, bits)`, bits are `(B, bits)` floats of 0 and 1.
"""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from torch.nn import Parameter

from .errors import InvalidInput, InvalidParams
from .inputs import InputSpec, Rows
from .readers import Items

Terms = Mapping[str, Tensor]
"""The named parts of a loss, for the progress record."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step of training sees: items `(B, *input.shape)` and what a family asks for besides.

    neighbour: one of the nearest items to each. views: two augmented versions of each, changed independently; for the
    share `Model.kindred` of the items the second is a version of the neighbour.
    labels: the number of each item's label, or of the group that pairs put it in, `(B,)`, -1 where it has none; only
    where the user wants them used. apart: rows `(m, 2)` that are known not to belong together. pool: `(C,
    *input.shape)`, items among which each of x may find its nearest, and own: `(B,)`, the place there of each of x
    itself, -1 where it is not among them.
    """

    x: Tensor
    neighbour: Tensor | None = None
    views: tuple[Tensor, Tensor] | None = None
    labels: Tensor | None = None
    apart: Tensor | None = None
    pool: Tensor | None = None
    own: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        return Batch(
            self.x.to(device),
            None if self.neighbour is None else self.neighbour.to(device),
            None if self.views is None else (self.views[0].to(device), self.views[1].to(device)),
            None if self.labels is None else self.labels.to(device),
            None if self.apart is None else self.apart.to(device),
            None if self.pool is None else self.pool.to(device),
            None if self.own is None else self.own.to(device),
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """Roles that are stepped together for a share of all the epochs."""

    roles: tuple[str, ...]
    share: float


MIN_BITS, MAX_BITS = 8, 1024
BIT_RULE = "bit = 1 iff logit > 0; numpy packbits order"
_BATCH = 256
log = logging.getLogger(__name__)


class FamilyParams(BaseModel):
    """The choices a family leaves to its user; every one has a default that works."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(nn.Module, ABC):
    """An encoder from items to binary codes. A subclass with a `family` name is registered under it."""

    family: ClassVar[str]
    Params: ClassVar[type[FamilyParams]] = FamilyParams
    roles: ClassVar[tuple[str, ...]] = ("autoencoder",)
    """Optimisers, stepped in this order on each batch; none for a model fitted in closed form."""
    chosen_by: Literal["retrieval", "loss", "last"] = "retrieval"
    """What picks the best epoch on held-out items. A family made to generate or repair is judged by its own
    loss: the epoch at which its codes retrieve best comes long before it has learned what it is for. Where two
    networks play against each other no loss says which epoch is best, and the last one is kept."""
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """Adam's decay rates; games between networks want less momentum."""
    steps: int = 2000
    """Optimiser steps that usually suffice; with the size of the data they give the default number of epochs."""
    batch_size: int = 128
    """Items of a step, unless the user says otherwise."""
    fewest_epochs: int = 15
    """Passes over the data there are at least, however large it is, where the user does not say."""
    begins_fitted: bool = False
    """Whether what `prepare` leaves is an answer already, to be kept where no epoch finds a better one."""
    taught: bool = False
    """Whether the trainer has labels or pairs for it to learn from; set before `prepare`."""
    encodes_at_once: bool = False
    """Whether `encode` is a few matrix products and nothing else, so that its time is known and it cannot hang."""
    supervised: ClassVar[bool] = False
    """Whether the loss learns from `Batch.labels` and `Batch.apart`."""
    stated: Mapping[str, Any] | None = None
    """The params as the artefact states them that the model was loaded from: one saved before there was a choice does
    not state it, and is the same model all the same."""
    registered: ClassVar[dict[str, type[Model]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "family" in cls.__dict__:
            if cls.family in Model.registered:
                raise TypeError(f"two model families are called {cls.family!r}")
            Model.registered[cls.family] = cls

    def __init__(self, input: InputSpec, bits: int, params: FamilyParams) -> None:
        super().__init__()
        self.input = input
        self.bits = bits
        self.params = params

    @classmethod
    def as_saved(cls, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The params of an artefact, with what those that do not state a parameter were trained with."""
        return params

    @property
    def neighbours(self) -> int:
        """How many nearest items in input space `Batch.neighbour` is drawn from; 0 where the loss needs none."""
        return 0

    @property
    def agreeing(self) -> bool:
        """Whether only those neighbours count that have the item among theirs."""
        return False

    def batch_for(self, items: int) -> int:
        """How many of `items` a step takes where the user does not say."""
        return self.batch_size

    @property
    def pool(self) -> int:
        """How many items there are in `Batch.pool`; 0 where the loss needs none."""
        return 0

    def likeness(self, x: Tensor) -> Tensor | None:
        """Rows of unit length `(B, d)` by whose products neighbours are found; None: by distance in input space."""
        return None

    @property
    def views(self) -> bool:
        """Whether the loss needs `Batch.views`."""
        return False

    @property
    def kindred(self) -> float:
        """For which share of the items the second of `Batch.views` is a view of a neighbour."""
        return 0.0

    @property
    def stages(self) -> Sequence[Stage]:
        """What is trained one after the other; each stage has its own optimisers and keeps its own best epoch."""
        return (Stage(self.roles, 1.0),)

    @property
    def learning_rate(self) -> float:
        """The step size that suits the family and its input."""
        return 1e-3

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Logits `(B, bits)` of `x` `(B, *input.shape)`; bit = 1 where a logit is > 0."""

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        """What the optimiser of `role` minimises on a batch, a scalar, and its named terms."""
        raise TypeError(f"{self.family} has no role {role!r}")

    def parameters_of(self, role: str) -> Iterable[Parameter]:
        """The parameters that the optimiser of `role` moves."""
        return self.parameters()

    def after_step(self) -> None:
        """Called after all roles have stepped: schedules, moving averages."""

    def prepare(self, rows: Rows) -> None:
        """Called once with the training rows before the first step."""

    def finish(self) -> None:
        """Called once after the last step: lets go of what served training alone."""

    def fit_hash(self, rows: Rows) -> None:
        """Fit what turns latents into bits; called before each evaluation, with the training rows."""

    def diagnose(self, rows: Rows) -> Mapping[str, float | str]:
        """What the metrics should say about the health of the trained model; called once, with the training rows."""
        return {}

    @property
    def device(self) -> torch.device:
        """Where the weights are. All are in one place, so the first tells; asked for with every item encoded."""
        return next(chain(self.parameters(), self.buffers())).device

    @torch.inference_mode()
    def logits(self, items: Items) -> NDArray[np.float32]:
        """Logits `(n, bits)` of items, the same for an item alone as within any batch.

        A float32 product may round differently for another number of rows, threads or place in memory, which matters
        only where a logit is almost zero: such rows are computed again in float64, which settles the sign. Raises
        `InvalidInput` for an item that the input cannot take or whose logits are not finite.
        """
        if len(items) == 0:
            return np.empty((0, self.bits), np.float32)
        return self.logits_of(self.input.tensor(items), items)

    @torch.inference_mode()
    def logits_of(self, x: Tensor, items: Items | None = None) -> NDArray[np.float32]:
        """`logits` of a tensor `(n, *input.shape)`, which is that of `items` where they are given."""
        if self.training:  # to say so again would take longer than a small model takes for an item
            self.eval()
        x = x.to(self.device)
        parts = [self.encode(part) for part in x.split(_BATCH)] if len(x) > _BATCH else [self.encode(x)]
        # From here on with numpy, which takes a fifth of the time that torch takes for arrays so small.
        out: NDArray[np.float32] = np.concatenate([part.float().cpu().numpy() for part in parts])
        size = np.abs(out)
        weak = size < self.input.near_zero * np.maximum(size.max(axis=1, keepdims=True), 1)
        near = weak.any(axis=1)
        if near.any():
            log.debug("%d weak bits in %d of %d items: settled in float64", weak.sum(), near.sum(), len(x))
            exact = x[torch.from_numpy(near)]
            if items is None:
                exact = exact.double()
            else:
                exact = self.input.exact(exact, [items[place] for place in np.flatnonzero(near).tolist()]).to(
                    self.device
                )
            out[near] = self._in_float64().encode(exact).float().cpu().numpy()
        if not (finite := np.isfinite(out)).all():
            raise InvalidInput(
                "the model gives no finite logits for this item, so it has no code; its values may be too large",
                position=int(np.flatnonzero(~finite.all(axis=1))[0]),
            )
        return out

    def _in_float64(self) -> Model:
        """A copy in float64, made again whenever a weight has changed."""
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in self.state_dict().values())
        known: tuple[Any, Model] | None = self.__dict__.get("_float64")
        if known is None or known[0] != state:
            self.__dict__.pop("_float64", None)  # before the copy, which would copy it too
            known = (state, copy.deepcopy(self).double().eval())
            self.__dict__["_float64"] = known
        return known[1]


def families() -> Mapping[str, type[Model]]:
    """Every family by its registry name. A family registers when it is imported, which this sees to."""
    from . import families as _every  # noqa: F401

    return Model.registered


def build(family: str, input: InputSpec, bits: int, params: Mapping[str, Any], *, seed: int = 0) -> Model:
    """A new model of `family`, its weights drawn from `seed`. Raises `InvalidParams`."""
    known = families()
    if family not in known:
        raise InvalidParams(f"there is no family {family[:64]!r}; known are {', '.join(sorted(known))}")
    if bits % 8 or not MIN_BITS <= bits <= MAX_BITS:
        raise InvalidParams(f"bits must be a multiple of 8 from {MIN_BITS} to {MAX_BITS}; got {bits}")
    kind = known[family]
    try:
        checked = kind.Params(**params)
    except ValidationError as error:
        raise InvalidParams(f"{family}: {explain(error)}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(input, bits, checked)


def explain(error: ValidationError) -> str:
    """A pydantic error in one line: which parameter, what is wrong with it, never the value."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))[:64] or 'value'}: "
        + ("unknown parameter" if fault["type"] == "extra_forbidden" else fault["msg"])
        for fault in error.errors()[:10]
    )
