"""/generate, /denoise, /interpolate, /encode, /decode, /score."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response

from .. import coding, create
from ..dependencies import EngineDep
from ..examples import DIGIT
from ..plain_json import JsonRoute
from ..schemas import (
    DecodeReply,
    DecodeRequest,
    DenoiseReply,
    DenoiseRequest,
    EncodeReply,
    EncodeRequest,
    GenerateReply,
    GenerateRequest,
    InterpolateReply,
    InterpolateRequest,
    ScoreReply,
    ScoreRequest,
)

router = APIRouter(tags=["models at work"], route_class=JsonRoute)


_SHEET: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post("/generate", response_model=GenerateReply, responses=_SHEET)
def generate(
    body: Annotated[GenerateRequest, Body(examples=[{"model": "digits-vae", "n": 16, "seed": 7}])],
    engine: EngineDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "application/json",
) -> GenerateReply | Response:
    """New items of a generative model, each with its code and, in a collection, its nearest stored items.
    `Accept: image/png` asks for one contact sheet."""
    reply, pictures = create.generate(engine, body)
    if _prefers_png(accept):
        return Response(create.sheet(pictures), media_type="image/png")
    return reply


def _prefers_png(accept: str) -> bool:
    """Whether an Accept header (RFC 9110) rates image/png above JSON."""
    rating = {"image/png": 0.0, "application/json": 0.0}
    for part in accept.lower().split(","):
        kind, _, rest = part.strip().partition(";")
        quality = rest.replace(" ", "").partition("q=")[2].partition(";")[0]
        if kind.strip() in rating:
            rating[kind.strip()] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 1.0
    return rating["image/png"] > rating["application/json"]


@router.post("/interpolate", response_model=InterpolateReply, responses=_SHEET)
def interpolate(
    body: Annotated[
        InterpolateRequest,
        Body(examples=[{"model": "digits-vae", "a": {"image": DIGIT}, "b": {"code": "0123456789abcdef"}, "steps": 8}]),
    ],
    engine: EngineDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "application/json",
) -> InterpolateReply | Response:
    """The way from one item to another through the model's latent space, ends included, each step with its code.
    `Accept: image/png` asks for one contact sheet."""
    reply, pictures = create.interpolate(engine, body)
    if _prefers_png(accept):
        return Response(create.sheet(pictures), media_type="image/png")
    return reply


@router.post("/denoise")
def denoise(
    body: Annotated[
        DenoiseRequest,
        Body(examples=[{"model": "digits-denoise", "input": {"image": DIGIT}, "mask": [[1] * 8] * 4 + [[0] * 8] * 4}]),
    ],
    engine: EngineDep,
) -> DenoiseReply:
    """A noisy item cleaned; with a mask (1 = missing), the missing part filled in and the known part unchanged."""
    return create.denoise(engine, body)


@router.post("/encode")
def encode(
    body: Annotated[EncodeRequest, Body(examples=[{"model": "digits-hash", "inputs": [{"image": DIGIT}]}])],
    engine: EngineDep,
) -> EncodeReply:
    """The codes of inputs, without storing anything."""
    return coding.encode_inputs(engine, body)


@router.post("/decode")
def decode(
    body: Annotated[
        DecodeRequest, Body(examples=[{"model": "digits-hash", "codes": ["0123456789abcdef"], "flip": [0, 63]}])
    ],
    engine: EngineDep,
) -> DecodeReply:
    """The items that codes stand for; with `flip`, also what each single bit changes."""
    return coding.decode_codes(engine, body)


@router.post("/score")
def score(
    body: Annotated[ScoreRequest, Body(examples=[{"model": "digits-vae", "inputs": [{"image": DIGIT}]}])],
    engine: EngineDep,
) -> ScoreReply:
    """How ordinary each input is to the model, higher for more ordinary ones; strange ones stand out below."""
    return coding.score(engine, body)
