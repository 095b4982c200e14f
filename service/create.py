"""What a model makes: generated, repaired and decoded items."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from index import Collection, to_hex
from models.base import Model
from models.capabilities import Denoises, Inpaints, Interpolates, Samples, Varies
from models.images import Picture, contact_sheet, encode_png
from models.inputs import AudioInput
from models.sounds import Sound

from . import rescoring, schemas
from .codecs import encode, mask_for
from .coding import info, tensor_and_item, tensor_of
from .engine import Engine
from .errors import InvalidRequest, TooLarge, UnsupportedMedia, pointer
from .search import by_code, hit_reply
from .twofold import again

_NEAREST = 3


@torch.inference_mode()
def generate(engine: Engine, request: schemas.GenerateRequest) -> tuple[schemas.GenerateReply, list[Picture]]:
    """New items of a model with their codes, and the same as pictures where they are images."""
    if request.n > engine.settings.max_generate:
        raise TooLarge(f"n is at most {engine.settings.max_generate} (max_generate); got {request.n}")
    entry = engine.registry.get(request.model)
    generator = torch.Generator().manual_seed(request.seed)
    if request.near is None:
        model = engine.require(entry, "sample")
        assert isinstance(model, Samples)
        x = model.sample(request.n, generator=generator, temperature=request.temperature)
    else:
        model = engine.require(entry, "vary")
        assert isinstance(model, Varies)
        near = tensor_of(engine, model, request.near, request.collection)
        x = model.vary(near, request.n, generator=generator, temperature=request.temperature)
    items, pictures = _given_out(engine, model, x, request.collection)
    return schemas.GenerateReply(model=info(entry), items=items, seed=request.seed), pictures


@torch.inference_mode()
def interpolate(engine: Engine, request: schemas.InterpolateRequest) -> tuple[schemas.InterpolateReply, list[Picture]]:
    """The way from one item to another, and the same as pictures where they are images."""
    if request.steps > engine.settings.max_generate:
        raise InvalidRequest(
            f"steps is at most {engine.settings.max_generate} (max_generate); got {request.steps}",
            [(pointer("steps"), f"at most {engine.settings.max_generate}")],
        )
    entry = engine.registry.get(request.model)
    model = engine.require(entry, "interpolate")
    assert isinstance(model, Interpolates)
    a, b = (tensor_of(engine, model, value, request.collection) for value in (request.a, request.b))
    items, pictures = _given_out(engine, model, model.interpolate(a, b, request.steps), None)
    return schemas.InterpolateReply(model=info(entry), items=items), pictures


def _given_out(
    engine: Engine, model: Model, x: Tensor, collection_name: str | None
) -> tuple[list[schemas.GeneratedItem], list[Picture]]:
    """Made items with their codes and, in a collection, what is stored nearest to them; and as pictures."""
    kind, made = model.input.kind, model.input.restore(x)
    # The code is that of the item as it is given out, so that sending it back finds the same code.
    codes = engine.encode(model, made)
    nearest: list[list[schemas.Hit] | None] = [None] * len(made)
    if collection_name is not None:
        collection = engine.catalogue.get(collection_name)
        nearest = [again(lambda item=item: _nearest(engine, collection, kind, item)) for item in made]  # type: ignore[misc]
    items = [
        schemas.GeneratedItem(**encode(kind, item).model_dump(), code=to_hex(code), nearest=hits)
        for item, code, hits in zip(made, codes, nearest, strict=True)
    ]
    return items, made if kind == "image" else []


def _nearest(engine: Engine, collection: Collection, kind: str, item: Any) -> list[schemas.Hit]:
    code, _, fingerprint = engine.code_of_item(kind, item, collection)
    return [hit_reply(hit) for hit in collection.search(code, k=_NEAREST, fingerprint=fingerprint).hits]


def sheet(pictures: Sequence[Picture]) -> bytes:
    """All pictures on one sheet, as a PNG file. Raises `UnsupportedMedia` where there are none."""
    if not pictures:
        raise UnsupportedMedia("only a model of images can answer with image/png; accept application/json")
    return encode_png(contact_sheet(pictures))


@torch.inference_mode()
def denoise(engine: Engine, request: schemas.DenoiseRequest) -> schemas.DenoiseReply:
    """A repaired item: denoised, or with a mask inpainted; then its code and, if asked, its neighbours."""
    if request.steps > engine.settings.max_denoise_steps:
        raise InvalidRequest(
            f"steps is at most {engine.settings.max_denoise_steps} (max_denoise_steps); got {request.steps}",
            [(pointer("steps"), f"at most {engine.settings.max_denoise_steps}")],
        )
    entry = engine.registry.get(request.model)
    model = engine.require(entry, "denoise" if request.mask is None else "inpaint")
    assert isinstance(model, Denoises)
    home = request.collection or (request.search.collection if request.search else None)
    x, item = tensor_and_item(engine, model, request.input, home)
    if request.mask is None:
        repaired = x
        for _ in range(request.steps):
            repaired = model.denoise(repaired)
        output = model.input.restore_like(repaired, item)
    else:
        assert isinstance(model, Inpaints)
        output = _inpainted(engine, model, x, item, request)
        repaired = model.input.tensor([output])
    code = engine.encode(model, [output])[0]
    reply = schemas.DenoiseReply(
        model=info(entry),
        output=encode(model.input.kind, output),
        code=to_hex(code),
        error_before=_surprise(model, x),
        error_after=_surprise(model, repaired),
    )
    if request.search is not None:
        collection = engine.catalogue.get(request.search.collection)
        reply.hits = again(lambda: _found(engine, collection, model.input.kind, output, request.search))
    return reply


def _found(engine: Engine, collection: Collection, kind: str, item: Any, options: Any) -> list[schemas.Hit]:
    started = time.perf_counter()
    key, logits, fingerprint = engine.code_of_item(kind, item, collection)
    exact = None
    if options.rerank == "exact":
        exact = rescoring.by_item(engine, collection, engine.model_of(collection)[1], item)
    found = by_code(engine, collection, key, options, started, time.perf_counter(), logits, fingerprint, exact)
    return [hit_reply(hit) for hit in found.page.hits]


def _inpainted(engine: Engine, model: Model, x: Tensor, item: object, request: schemas.DenoiseRequest) -> Any:
    """The item, at the model's own size, with the missing part filled in and the known part as it was."""
    assert isinstance(model, Inpaints)
    assert request.mask is not None
    mask = mask_for(request.mask, item, model.input.kind, engine.settings)
    generator = torch.Generator().manual_seed(request.seed)
    if isinstance(model.input, AudioInput):
        assert isinstance(item, Sound)
        gone = model.input.missing(item, mask)
        cells = model.input.missing_frames(gone)
        return model.input.spliced(model.inpaint(x, cells, steps=request.steps, generator=generator), item, gone)
    known = model.input.restore(x)[0]
    if model.input.kind == "image":
        picture = (mask[:, :, None] * 255).astype(np.uint8)
        missing = model.input.tensor([np.repeat(picture, model.input.shape[0], axis=2)]) > 0  # any covered pixel
    else:
        known = np.asarray(item)
        missing = torch.from_numpy(mask)[None] > 0
    filled = model.input.restore(model.inpaint(x, missing.float(), steps=request.steps, generator=generator))[0]
    hidden = missing[0].numpy()
    if model.input.kind == "image":
        hidden = hidden.transpose(1, 2, 0)
    return np.where(hidden, filled, known)


def _surprise(model: Model, x: Tensor) -> float:
    assert isinstance(model, Denoises)
    return float((x - model.denoise(x)).square().mean())
