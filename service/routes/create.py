"""/generate, /denoise, /encode, /decode."""

from __future__ import annotations

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
    if "image/png" in accept.lower():
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
    return create.encode_inputs(engine, body)


@router.post("/decode")
def decode(
    body: Annotated[DecodeRequest, Body(examples=[{"model": "digits-hash", "codes": ["0123456789abcdef"]}])],
    engine: EngineDep,
) -> DecodeReply:
    """The items that codes stand for."""
    return create.decode_codes(engine, body)
