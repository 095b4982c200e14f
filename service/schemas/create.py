"""Models at work: the bodies of /generate, /denoise, /interpolate, /encode, /decode and /score."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from .base import MOST, Hit, Input, ModelInfo, Output, Strict, absent
from .items import SearchOptions


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
    nearest: list[Hit] | None = Field(None, exclude_if=absent)


class GenerateReply(BaseModel):
    model: ModelInfo
    items: list[GeneratedItem]
    seed: int


class DenoiseRequest(Strict):
    model: str
    input: Input
    mask: str | list[Any] | None = Field(
        None,
        description="1 = missing: a PNG in base64 (white = missing), or nested lists of 0 and 1 of the input's shape; "
        "of a sound, one for each sample",
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
    hits: list[Hit] | None = Field(None, exclude_if=absent)


class InterpolateRequest(Strict):
    model: str
    a: Input
    b: Input
    steps: int = Field(8, ge=2, description="items in all, from the reconstruction of `a` to that of `b`")
    collection: str | None = Field(None, description="where an `id` is looked up")


class InterpolateReply(BaseModel):
    model: ModelInfo
    items: list[GeneratedItem]


class EncodeRequest(Strict):
    model: str
    inputs: list[Input] = Field(min_length=1, max_length=MOST, fail_fast=True)
    latents: bool = Field(False, description="also the real numbers that the bits were taken from")


class EncodeReply(BaseModel):
    model: ModelInfo
    codes: list[str]
    latents: list[list[float]] | None = Field(
        None, description="the continuous latent where the family has one, else the logits", exclude_if=absent
    )


class DecodeRequest(Strict):
    model: str
    codes: list[str] = Field(min_length=1, max_length=MOST, fail_fast=True)
    flip: list[int] | Literal["all"] | None = Field(
        None, description="after each code, the same with one of these bits flipped, one at a time (0 is the first)"
    )


class DecodedItem(Output):
    code: str
    flipped: int | None = Field(None, description="the bit that differs from the code asked for", exclude_if=absent)


class DecodeReply(BaseModel):
    model: ModelInfo
    items: list[DecodedItem]


class ScoreRequest(Strict):
    model: str
    inputs: list[Input] = Field(min_length=1, max_length=MOST, fail_fast=True)
    relative_to: Input | None = Field(
        None,
        description="also estimate how much likelier each input is than this one, as a difference of log-densities",
    )
    collection: str | None = Field(None, description="where an `id` is looked up")


class ScoreReply(BaseModel):
    model: ModelInfo
    scores: list[float] = Field(description="higher for more ordinary items; compare within one model only")
    measure: str = Field(description="what the score is")
    log_ratios: list[float] | None = Field(
        None, description="with relative_to: log p(input) - log p(relative_to), estimated", exclude_if=absent
    )
