"""What the bodies share: strictness, inputs, items that a model made."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypeAliasType

MOST = 10_000
"""No list is longer, whatever a setting says: it is parsed before any setting is looked at."""

INPUT_FIELDS = ("vector", "vector_b64", "text", "image", "audio", "code")


Payload = TypeAliasType("Payload", dict[str, Any])
"""Any JSON object that is stored with an item. Named, so that the document names it too."""
Filter = TypeAliasType("Filter", dict[str, Any])
"""Conditions on payloads."""


def absent(value: object) -> bool:
    """Leaves a member out of a reply where it was not asked for."""
    return value is None


class Strict(BaseModel):
    """A request body: unknown fields, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Inputs(Strict):
    vector: list[float] | None = Field(None, min_length=1, max_length=65_536, fail_fast=True, description="numbers")
    vector_b64: str | None = Field(None, description="little-endian float32, base64")
    text: str | None = Field(None, description="plain text")
    image: str | None = Field(None, description="a PNG, JPEG or WebP file, base64")
    audio: str | None = Field(None, description="a WAV or FLAC file, base64")
    code: str | None = Field(None, description="a ready-made code, hexadecimal")

    def given(self) -> list[str]:
        return [name for name in (*INPUT_FIELDS, "id") if getattr(self, name, None) is not None]


class Input(Inputs):
    """An input: exactly one of its fields."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    id: str | None = Field(None, min_length=1, description="a stored item")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.given()) != 1:
            raise ValueError(f"give exactly one of {', '.join((*INPUT_FIELDS, 'id'))}; got {len(self.given())}")
        return self


class ModelInfo(BaseModel):
    name: str
    version: int
    fingerprint: str


class Hit(BaseModel):
    id: str
    distance: int
    score: float | None = Field(
        None,
        description="with rerank=soft: 1 where all bits agree, -1 where none does; with rerank=exact: minus the "
        "distance of the inputs",
        exclude_if=absent,
    )
    payload: Payload | None = Field(None, exclude_if=absent)
    code: str | None = Field(None, exclude_if=absent)


class Output(BaseModel):
    """An item made by a model, in the kind of its input."""

    vector: list[float] | None = Field(None, exclude_if=absent)
    text: str | None = Field(None, exclude_if=absent)
    image: str | None = Field(None, description="a PNG file, base64", exclude_if=absent)
    audio: str | None = Field(None, description="a WAV file, base64", exclude_if=absent)
