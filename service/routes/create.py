"""/generate, /denoise, /encode, /decode."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Body, Header, Response

from .. import create
from ..dependencies import EngineDep
from ..examples import DIGIT
from ..schemas import (
    DecodeReply,
    DecodeRequest,
    DenoiseReply,
    DenoiseRequest,
    EncodeReply,
    EncodeRequest,
    GenerateReply,
    GenerateRequest,
)

router = APIRouter(tags=["models at work"])


@router.post(
    "/generate",
    response_model=GenerateReply,
    responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
def generate(
    body: Annotated[GenerateRequest, Body(examples=[{"model": "digits-vae", "n": 16, "seed": 7}])],
    engine: EngineDep,
    accept: Annotated[str, Header(description="image/png asks for one contact sheet")] = "application/json",
) -> GenerateReply | Response:
    """New items of a generative model, each with its code and, in a collection, its nearest stored items."""
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
    return create.encode_inputs(engine, body)


@router.post("/decode")
def decode(
    body: Annotated[DecodeRequest, Body(examples=[{"model": "digits-hash", "codes": ["0123456789abcdef"]}])],
    engine: EngineDep,
) -> DecodeReply:
    """The items that codes stand for."""
    return create.decode_codes(engine, body)
