"""The bodies of /collections/{collection}/calibrate and /calibration."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from .base import MOST, Input, ModelInfo, Strict


class CalibrationPair(Strict):
    """Two inputs, codes or stored items, and whether they belong together."""

    a: Input
    b: Input
    same: bool


class CalibrateRequest(Strict):
    """How to know what belongs together."""

    by: Literal["labels", "pairs", "augmentation"] | None = Field(
        None, description="labels, unless `pairs` are given; augmentation needs kept inputs, and no labels"
    )
    field: str | None = Field(
        None, min_length=1, description="by labels: the payload field that holds them, dots reach into objects; `label`"
    )
    pairs: list[CalibrationPair] | None = Field(
        None,
        min_length=2,
        max_length=MOST,
        fail_fast=True,
        description="drawn as searches meet them: precision is the share of `same` among those within a radius",
    )
    queries: int = Field(1000, ge=10, description="stored items taken as queries; half choose, half check")
    strength: float = Field(1, gt=0, le=4, description="by augmentation: how much items are changed")
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        by = self.way
        if (by == "pairs") != (self.pairs is not None):
            raise ValueError("give `pairs` with by=pairs, and with nothing else")
        if self.field is not None and by != "labels":
            raise ValueError("`field` names the labels; it has a meaning with by=labels only")
        return self

    @property
    def way(self) -> str:
        """By what."""
        return self.by or ("labels" if self.pairs is None else "pairs")


class HeldOut(BaseModel):
    """The same of the queries that took no part in the curve."""

    precision: float | None
    precision_low: float | None
    precision_high: float | None
    pairs: int


class CalibrationStep(BaseModel):
    """What one radius means."""

    radius: int
    precision: float | None = Field(description="share of right results among all; null where nothing was found")
    precision_low: float | None = Field(description="of the interval; `target_precision` is compared with it")
    precision_high: float | None
    recall: float | None = Field(description="share of what is right that is found")
    recall_low: float | None
    recall_high: float | None
    results: float = Field(description="that a search finds on average")
    pairs: int = Field(description="results that the precision was counted on")
    held_out: HeldOut


class Calibration(BaseModel):
    """What each radius means in a collection, for the model that serves."""

    collection: str
    model: ModelInfo | None
    by: Literal["labels", "pairs", "augmentation"]
    field: str | None
    items: int = Field(description="in the collection at the time")
    queries: int = Field(description="that the curve comes from; of given pairs, their number")
    queries_held_out: int
    confidence: float = Field(description="of the intervals: Clopper-Pearson with Korn and Graubard's effective sample")
    seed: int
    created_at: str
    curve: list[CalibrationStep]
