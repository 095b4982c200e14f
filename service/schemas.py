"""The bodies of requests and replies: strict, closed, with examples.

Shapes only; limits that a setting governs are checked by the engine, which can name the setting.
"""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MOST = 10_000
"""No list is longer, whatever a setting says: it is parsed before any setting is looked at."""

INPUT_FIELDS = ("vector", "vector_b64", "text", "image", "code")


def _absent(value: object) -> bool:
    """Leaves a member out of a reply where it was not asked for."""
    return value is None


class Strict(BaseModel):
    """A request body: unknown fields, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Inputs(Strict):
    vector: list[float] | None = Field(None, min_length=1, max_length=65_536, fail_fast=True, description="numbers")
    vector_b64: str | None = Field(None, description="little-endian float32, base64")
    text: str | None = Field(None, description="plain text")
    image: str | None = Field(None, description="a PNG, JPEG or WebP file, base64")
    code: str | None = Field(None, description="a ready-made code, hexadecimal")

    def given(self) -> list[str]:
        return [name for name in (*INPUT_FIELDS, "id") if getattr(self, name, None) is not None]


class Input(_Inputs):
    """An input: exactly one of its fields."""

    id: str | None = Field(None, min_length=1, description="a stored item")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.given()) != 1:
            raise ValueError(f"give exactly one of {', '.join((*INPUT_FIELDS, 'id'))}; got {len(self.given())}")
        return self


class IngestItem(_Inputs):
    """An item to store: an input, an id (made where absent) and any JSON object as payload."""

    id: str | None = Field(None, min_length=1, description="up to 512 bytes; generated, time-ordered, when absent")
    payload: dict[str, Any] | None = None

    @field_validator("payload")
    @classmethod
    def _storable(cls, payload: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            json.dumps(payload, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise ValueError("a payload holds JSON only: no NaN, no half surrogate pairs, no endless depth") from None
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


class ModelInfo(BaseModel):
    name: str
    version: int
    fingerprint: str


class ItemError(BaseModel):
    position: int
    id: str | None
    detail: str


class IngestReply(BaseModel):
    collection: str
    model: ModelInfo | None
    created: int
    updated: int
    unchanged: int
    ids: list[str] | None = Field(
        description="of the stored items, in the order they came; null for a stream of more than 10,000 lines"
    )
    errors: list[ItemError] | None = Field(
        None, description="with on_error=skip: what was left out", exclude_if=_absent
    )
    took_ms: float


class SearchOptions(Strict):
    """How to search, without what to search for."""

    collection: str
    k: int | None = Field(None, ge=1, description="at most so many; 10 when neither k nor radius is given")
    radius: int | None = Field(None, ge=0, description="inclusive Hamming distance")
    limit: int = Field(1000, ge=1, description="hits a page, for a search by radius alone")
    cursor: str | None = Field(None, description="of the page before")
    filter: dict[str, Any] | None = Field(
        None,
        description="payload conditions: {field: value}, $eq $ne $gt $gte $lt $lte $in $nin $exists, $and $or $not",
        examples=[{"label": 7}, {"price": {"$gte": 10, "$lt": 20}, "$or": [{"tags": "new"}, {"author.name": "Ann"}]}],
    )
    rerank: Literal["none", "soft"] = Field(
        "none", description="soft: order what was found by the distance of the query's real logits from the stored bits"
    )
    include: list[Literal["payload", "code"]] = Field(default=["payload"])
    count_only: bool = Field(False, description="only `total`, no hits")


class SearchRequest(SearchOptions):
    query: Input


class Hit(BaseModel):
    id: str
    distance: int
    score: float | None = Field(
        None, description="with rerank=soft: 1 where all bits agree, -1 where none does", exclude_if=_absent
    )
    payload: dict[str, Any] | None = Field(None, exclude_if=_absent)
    code: str | None = Field(None, exclude_if=_absent)


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


class Output(BaseModel):
    """An item made by a model, in the kind of its input."""

    vector: list[float] | None = Field(None, exclude_if=_absent)
    text: str | None = Field(None, exclude_if=_absent)
    image: str | None = Field(None, description="a PNG file, base64", exclude_if=_absent)


class GenerateRequest(Strict):
    model: str
    n: int = Field(1, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    temperature: float = Field(1.0, ge=0, le=10)
    near: Input | None = Field(None, description="sample around this item or code")
    collection: str | None = Field(
        None, description="add the nearest items stored here, by its own codes; also where `near.id` is looked up"
    )


class GeneratedItem(Output):
    code: str
    nearest: list[Hit] | None = Field(None, exclude_if=_absent)


class GenerateReply(BaseModel):
    model: ModelInfo
    items: list[GeneratedItem]
    seed: int


class DenoiseRequest(Strict):
    model: str
    input: Input
    mask: str | list[Any] | None = Field(
        None,
        description="1 = missing: a PNG in base64 (white = missing), or nested lists of 0 and 1 of the input's shape",
    )
    steps: int = Field(1, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    collection: str | None = Field(None, description="where `input.id` is looked up; else that of `search`")
    search: SearchOptions | None = Field(
        None, description="search a collection with the result, in the codes of the collection's own model"
    )


class DenoiseReply(BaseModel):
    model: ModelInfo
    output: Output
    code: str = Field(description="of the output, by the model that made it")
    error_before: float = Field(
        description="mean squared difference of the input from the model's reconstruction of it"
    )
    error_after: float = Field(description="the same of the output")
    hits: list[Hit] | None = Field(None, exclude_if=_absent)


class EncodeRequest(Strict):
    model: str
    inputs: list[Input] = Field(min_length=1, max_length=MOST, fail_fast=True)


class EncodeReply(BaseModel):
    model: ModelInfo
    codes: list[str]


class DecodeRequest(Strict):
    model: str
    codes: list[str] = Field(min_length=1, max_length=MOST, fail_fast=True)


class DecodeReply(BaseModel):
    model: ModelInfo
    items: list[Output]


class CollectionRequest(Strict):
    name: str
    model: str | None = Field(None, description="the model whose codes it holds")
    bits: int | None = Field(None, description="for a collection of ready-made codes, without a model")
    keep_inputs: bool = Field(True, description="keep what was ingested, so that another model can encode it again")
    indexes: list[str] = Field([], max_length=16, description="payload fields to index: filters on them are fast")


class CollectionInfo(BaseModel):
    name: str
    bits: int
    model: ModelInfo | None
    items: int
    keep_inputs: bool
    created_at: str
    indexes: list[str] = Field(description="payload fields that have an index")
    memory_bytes: int = Field(description="taken by the index: codes, keys and buckets")


class DamagedInfo(BaseModel):
    name: str
    detail: str


class CollectionList(BaseModel):
    collections: list[CollectionInfo]
    damaged: list[DamagedInfo]


class StoredItem(BaseModel):
    id: str
    code: str
    payload: dict[str, Any] | None = None
    input: Output | None = Field(None, description="as it was ingested, where inputs are kept")


class ItemList(BaseModel):
    items: list[StoredItem]
    cursor: str | None = Field(description="the last id of this page while more follow")


class DeleteRequest(Strict):
    """Which items to delete: exactly one of these."""

    ids: list[str] | None = Field(None, min_length=1, max_length=MOST, fail_fast=True)
    filter: dict[str, Any] | None = Field(
        None, description="payload conditions, as for /search; {} means all", examples=[{"label": 7}]
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give exactly one of ids, filter")
        return self


class FieldRequest(Strict):
    field: str = Field(min_length=1, description="a payload field; dots reach into objects")


class CompactReply(BaseModel):
    bytes_before: int = Field(description="of all the collection's files")
    bytes_after: int


class DeleteReply(BaseModel):
    deleted: int


class FamilyInfo(BaseModel):
    name: str
    summary: str
    capabilities: list[str]
    params: dict[str, Any] = Field(description="JSON schema of its parameters")


class FamilyList(BaseModel):
    families: list[FamilyInfo]
    training: dict[str, Any] = Field(description="JSON schema of the parameters that every training takes")


class ModelCard(ModelInfo):
    aliases: list[str]
    family: str
    bits: int
    input: dict[str, Any]
    capabilities: list[str]
    metrics: dict[str, Any]
    card: str | None = Field(None, description="Markdown with a YAML head", exclude_if=_absent)


class ModelList(BaseModel):
    models: list[ModelCard]
    damaged: list[DamagedInfo]


class AliasRequest(Strict):
    version: int = Field(ge=1)


class TrainData(Strict):
    """Where the items come from: exactly one."""

    collection: str | None = Field(None, description="the kept inputs of a collection")
    dataset: str | None = Field(None, description="a built-in data set: digits, python-docs")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.collection is None) == (self.dataset is None):
            raise ValueError("give exactly one of collection, dataset")
        return self


class TrainRequest(Strict):
    name: str
    family: str
    bits: int = 64
    data: TrainData
    params: dict[str, Any] = Field(default={}, description="of the family and of training; see GET /families")
    seed: int = Field(0, ge=0, lt=2**63)


class Job(BaseModel):
    id: str
    kind: Literal["train"]
    state: Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
    progress: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: str
    updated_at: str


class JobList(BaseModel):
    jobs: list[Job]


class Health(BaseModel):
    status: Literal["ok"]
    collections: int
    models: int
    damaged: list[str]
