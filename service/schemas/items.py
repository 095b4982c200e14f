"""Storing and finding: the bodies of /ingest and /search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from .base import INPUT_FIELDS, MOST, Filter, Hit, Input, Inputs, ModelInfo, Payload, Strict, absent


def check_storable(payload: Mapping[str, Any] | None) -> None:
    """Raise `ValueError` unless a payload can be written as JSON."""
    try:
        json.dumps(payload, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("a payload holds JSON only: no NaN, no half surrogate pairs, no endless depth") from None


class IngestItem(Inputs):
    """An item to store: an input, an id (made where absent) and any JSON object as payload."""

    id: str | None = Field(None, min_length=1, description="up to 512 bytes; generated, time-ordered, when absent")
    payload: Payload | None = None

    @field_validator("payload")
    @classmethod
    def _storable(cls, payload: dict[str, Any] | None) -> dict[str, Any] | None:
        check_storable(payload)
        return payload

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in self.given() if name != "id"]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(INPUT_FIELDS)}; got {len(given)}")
        return self


class IngestRequest(Strict):
    collection: str
    model: str | None = Field(None, description="needed only when the call creates the collection")
    items: list[IngestItem] = Field(min_length=1, max_length=MOST, fail_fast=True)


class ItemError(BaseModel):
    position: int
    id: str | None
    detail: str


class DuplicateItem(BaseModel):
    """An item that lies within the radius of another one."""

    position: int = Field(description="in the call: of the item, or of the line")
    id: str | None = Field(description="null for an item that came without one and was not stored")
    of: str = Field(description="the nearest item under another id; of several as near, the one stored first")
    distance: int


class IngestReply(BaseModel):
    collection: str
    model: ModelInfo | None
    created: int
    updated: int
    unchanged: int
    ids: list[str] | None = Field(
        description="of the stored items, in the order they came; null for a stream of more than 10,000 lines"
    )
    errors: list[ItemError] | None = Field(None, description="with on_error=skip: what was left out", exclude_if=absent)
    duplicates: list[DuplicateItem] | None = Field(
        None,
        description="with on_duplicate=reject: what was not stored; with tag: what was stored and marked; the first "
        "10,000 of a stream",
        exclude_if=absent,
    )
    duplicates_total: int | None = Field(None, description="how many there are in all", exclude_if=absent)
    took_ms: float


class SearchOptions(Strict):
    """How to search, without what to search for."""

    collection: str
    k: int | None = Field(None, ge=1, description="at most so many; 10 when neither k nor radius is given")
    radius: int | None = Field(None, ge=0, description="inclusive Hamming distance")
    target_precision: float | None = Field(
        None,
        gt=0,
        le=1,
        description="in place of `radius`: the largest radius whose precision, by the lower bound of its interval in "
        "the collection's calibration, is at least this",
    )
    limit: int = Field(1000, ge=1, description="hits a page, for a search by radius alone")
    cursor: str | None = Field(None, description="of the page before")
    filter: Filter | None = Field(
        None,
        description="payload conditions: {field: value}, $eq $ne $gt $gte $lt $lte $in $nin $exists, $and $or $not",
        examples=[{"label": 7}, {"price": {"$gte": 10, "$lt": 20}, "$or": [{"tags": "new"}, {"author.name": "Ann"}]}],
    )
    rerank: Literal["none", "soft", "exact"] = Field(
        "none",
        description="the order of what was found. soft: by the distance of the query's real logits from the stored "
        "bits. exact: by the Euclidean distance of the query's input from the kept inputs, of vectors as they came, of "
        "all else as the model sees it; with k, in a collection that keeps inputs",
    )
    oversample: int = Field(
        1, ge=1, le=100, description="with k and a rerank: of so many times k nearest codes, the best k are the hits"
    )
    include: list[Literal["payload", "code"]] = Field(default=["payload"])
    count_only: bool = Field(False, description="only `total`, no hits")

    @model_validator(mode="after")
    def _one_radius(self) -> Self:
        if self.radius is not None and self.target_precision is not None:
            raise ValueError("target_precision chooses the radius; give one of the two")
        return self


class SearchRequest(SearchOptions):
    query: Input


class Plan(BaseModel):
    method: Literal["multi-index-hash", "scan", "bucket"]
    candidates: int


class Timing(BaseModel):
    encode: float
    search: float
    total: float


class SearchReply(BaseModel):
    collection: str
    model: ModelInfo | None
    code: str = Field(description="of the query")
    radius: int | None = Field(None, description="that target_precision led to", exclude_if=absent)
    hits: list[Hit] = Field(description="by distance, then id")
    total: int = Field(description="size of the whole answer, exact")
    complete: bool = Field(description="false only while a cursor remains")
    cursor: str | None
    plan: Plan
    took_ms: Timing


class SearchBatchRequest(Strict):
    searches: list[SearchRequest] = Field(min_length=1, max_length=MOST, fail_fast=True)


class SearchBatchReply(BaseModel):
    results: list[SearchReply]
