"""Going over to another model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from .base import ModelInfo, Strict


class GateOptions(Strict):
    """What the codes of the new model must be like for them to serve."""

    queries: int = Field(
        200, ge=1, le=1_000, description="searches to replay: recent ones, and stored items where those are too few"
    )
    min_overlap: float = Field(
        0.1,
        ge=0,
        le=1,
        description="least share of the 10 nearest that both models find, on average. Two good models of one subject "
        "share 0.2 to 0.6; what has nothing to do with the items shares 10 / items",
    )
    max_precision_drop: float = Field(
        0.05,
        ge=0,
        le=1,
        description="most that may be lost of precision@10, by the payload field label; not looked at without labels",
    )
    min_distinct: float = Field(
        0.5, ge=0, le=1, description="least share of distinct codes among the items, relative to the old model's"
    )
    max_dead_bits: float = Field(
        0.25, ge=0, le=1, description="largest share of bits that are the same for 99 % of the items"
    )
    max_slowdown: float = Field(
        5.0,
        gt=0,
        description="most that a search, encoding included, may take in the median, relative to the old model",
    )


class ReencodeRequest(Strict):
    model: str = Field(description="the model whose codes are to serve; of the same kind of input")
    gate: GateOptions | None = Field(
        default_factory=GateOptions, description="what they must be like; null lets them serve whatever they are like"
    )
    flip: bool = Field(True, description="let them serve once they pass; false leaves that to POST .../flip")


class GenerationInfo(BaseModel):
    """The codes of one model. While there are two, everything written is encoded by both."""

    number: int
    model: ModelInfo | None
    bits: int
    state: Literal["filling", "ready", "serving", "kept"]
    items: int = Field(description="that have a code")
    created_at: str
