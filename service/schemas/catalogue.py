"""Collections, models, jobs and health."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PlainValidator, model_validator

from .base import MOST, Filter, ModelInfo, Output, Payload, Strict, absent
from .generations import GenerationInfo
from .problem import Problem


class CollectionRequest(Strict):
    name: str
    model: str | None = Field(None, description="the model whose codes it holds")
    bits: int | None = Field(None, description="for a collection of ready-made codes, without a model")
    keep_inputs: bool = Field(True, description="keep what was ingested, so that another model can encode it again")
    indexes: list[str] = Field([], max_length=16, description="payload fields to index: filters on them are fast")
    backend: Literal["embedded", "milvus"] | None = Field(
        None, description="where it is kept: in the service's own data directory or in its Milvus; see default_backend"
    )


class CollectionInfo(BaseModel):
    name: str
    bits: int
    model: ModelInfo | None
    items: int
    keep_inputs: bool
    created_at: str
    indexes: list[str] = Field(description="payload fields that have an index")
    backend: Literal["embedded", "milvus"] = Field(description="where it is kept")
    memory_bytes: int | None = Field(
        description="taken by the index: codes, keys and buckets; null of one in Milvus, which does not say"
    )
    calibrated: bool = Field(
        description="whether it is known what a radius means, for the model that serves; see `GET .../calibration`"
    )
    generations: list[GenerationInfo] = Field(description="the models that it has codes of; one of them serves")


class DamagedInfo(BaseModel):
    name: str
    detail: str


class CollectionList(BaseModel):
    collections: list[CollectionInfo]
    damaged: list[DamagedInfo]


class StoredItem(BaseModel):
    id: str
    code: str
    payload: Payload | None = None
    input: Output | None = Field(None, description="as it was ingested, where inputs are kept")


class ItemList(BaseModel):
    items: list[StoredItem]
    cursor: str | None = Field(description="the last id of this page while more follow")


class DeleteRequest(Strict):
    """Which items to delete: exactly one of these."""

    ids: list[str] | None = Field(None, min_length=1, max_length=MOST, fail_fast=True)
    filter: Filter | None = Field(
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
    bytes_before: int | None = Field(description="of all the collection's files; null of one in Milvus")
    bytes_after: int | None


class DeleteReply(BaseModel):
    deleted: int


class FamilyInfo(BaseModel):
    name: str
    summary: str
    capabilities: list[str]
    supervised: bool = Field(description="whether it can learn from labels and pairs too")
    params: dict[str, Any] = Field(description="JSON schema of its parameters")


class FamilyList(BaseModel):
    families: list[FamilyInfo]
    training: dict[str, Any] = Field(description="JSON schema of the parameters that every training takes")
    input: dict[str, Any] = Field(description="JSON schema of the parameters of the preprocessing")


class ModelCard(ModelInfo):
    aliases: list[str]
    family: str
    bits: int
    input: dict[str, Any]
    capabilities: list[str]
    metrics: dict[str, Any]
    card: str | None = Field(None, description="Markdown with a YAML head", exclude_if=absent)


class ModelList(BaseModel):
    models: list[ModelCard]
    damaged: list[DamagedInfo]


class AliasRequest(Strict):
    version: int = Field(ge=1)


class TrainData(Strict):
    """Where the items come from: exactly one."""

    collection: str | None = Field(None, description="the kept inputs of a collection")
    dataset: str | None = Field(None, description="a built-in data set: digits, python-docs, lines, spiral, tones")
    label: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="of a collection: the payload field that holds the labels, dots reach into objects; `label`",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.collection is None) == (self.dataset is None):
            raise ValueError("give exactly one of collection, dataset")
        if self.label is not None and self.collection is None:
            raise ValueError("`label` names a payload field of a collection; a built-in data set has labels of its own")
        return self


class TrainingItem(Strict):
    id: str = Field(min_length=1)


class TrainingPair(Strict):
    """Two of the items that are trained on, and whether they belong together."""

    a: TrainingItem
    b: TrainingItem
    same: bool


def _bits(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if type(value) is not int:
        raise ValueError("a whole number, a multiple of 8, or auto")
    return value


Bits = Annotated[int | Literal["auto"], PlainValidator(_bits, json_schema_input_type=int | Literal["auto"])]


class TrainRequest(Strict):
    name: str
    family: str
    bits: Bits = Field(
        64, description="width of the codes, a multiple of 8; auto proposes one from the data and says why"
    )
    data: TrainData
    params: dict[str, Any] = Field(
        default={}, description="of the family, of training and of the preprocessing; see GET /families"
    )
    seed: int = Field(0, ge=0, lt=2**63)
    labels: bool = Field(False, description="learn from the labels of the data, as far as items have one")
    pairs: list[TrainingPair] | None = Field(
        None,
        min_length=1,
        max_length=MOST,
        fail_fast=True,
        description="learn from these: what is `same` gets like codes, what is not unlike ones",
    )


class Job(BaseModel):
    id: str
    kind: Literal["train", "reencode", "duplicates", "calibrate"]
    subject: dict[str, str] = Field(
        description="what it is about, as far as it has one: `collection`, `model`, `family`, `dataset`; empty of jobs "
        "from before this was noted"
    )
    state: Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
    progress: dict[str, Any]
    result: dict[str, Any] | None
    error: Problem | None
    created_at: str
    updated_at: str


class JobList(BaseModel):
    jobs: list[Job]


class Health(BaseModel):
    status: Literal["ok"]
    collections: int
    models: int
    damaged: list[str]
