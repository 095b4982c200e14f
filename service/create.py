"""What a model makes: generated, repaired and decoded items."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from index import Codes, from_hex, to_hex
from models.base import Model
from models.capabilities import Decodes, Denoises, Inpaints, Samples, Varies
from models.errors import InvalidInput
from models.images import Picture, contact_sheet, encode_png
from models.registry import Entry

from . import schemas
from .codecs import Decoder, decode, encode, from_bytes, mask_for
from .engine import Engine
from .errors import CapabilityMissing, InvalidRequest, TooLarge, UnsupportedMedia, pointer
from .schemas import Input, ModelInfo
from .search import by_code, hit_reply

_NEAREST = 3


def info(entry: Entry) -> ModelInfo:
    return ModelInfo(name=entry.name, version=entry.version, fingerprint=entry.fingerprint)


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
        near = _tensor(engine, model, request.near, request.collection)
        x = model.vary(near, request.n, generator=generator, temperature=request.temperature)
    kind, made = model.input.kind, model.input.restore(x)
    # The code is that of the item as it is given out, so that sending it back finds the same code.
    codes = engine.encode(model, made)
    nearest: list[list[schemas.Hit] | None] = [None] * len(made)
    if request.collection is not None:
        collection = engine.catalogue.get(request.collection)
        keys = [engine.code_of_item(kind, item, collection)[0] for item in made]
        nearest = [[hit_reply(hit) for hit in collection.search(key, k=_NEAREST).hits] for key in keys]
    items = [
        schemas.GeneratedItem(**encode(kind, item).model_dump(), code=to_hex(code), nearest=hits)
        for item, code, hits in zip(made, codes, nearest, strict=True)
    ]
    pictures = made if kind == "image" else []
    return schemas.GenerateReply(model=info(entry), items=items, seed=request.seed), pictures


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
    x, item = _tensor_and_item(engine, model, request.input, home)
    if request.mask is None:
        repaired = x
        for _ in range(request.steps):
            repaired = model.denoise(repaired)
        output = model.input.restore(repaired)[0]
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
        started = time.perf_counter()
        key, logits = engine.code_of_item(model.input.kind, output, collection)
        reply.hits = by_code(engine, collection, key, request.search, started, time.perf_counter(), logits).hits
    return reply


def _inpainted(engine: Engine, model: Model, x: Tensor, item: object, request: schemas.DenoiseRequest) -> NDArray[Any]:
    """The item, at the model's own size, with the missing part filled in and the known part as it was."""
    assert isinstance(model, Inpaints)
    assert request.mask is not None
    mask = mask_for(request.mask, item, model.input.kind, engine.settings)
    known = model.input.restore(x)[0]
    if model.input.kind == "image":
        picture = (mask[:, :, None] * 255).astype(np.uint8)
        missing = model.input.tensor([np.repeat(picture, model.input.shape[0], axis=2)]) > 0  # any covered pixel
    else:
        known = np.asarray(item)
        missing = torch.from_numpy(mask)[None] > 0
    generator = torch.Generator().manual_seed(request.seed)
    filled = model.input.restore(model.inpaint(x, missing.float(), steps=request.steps, generator=generator))[0]
    hidden = missing[0].numpy()
    if model.input.kind == "image":
        hidden = hidden.transpose(1, 2, 0)
    output: NDArray[Any] = np.where(hidden, filled, known)
    return output


def _surprise(model: Model, x: Tensor) -> float:
    assert isinstance(model, Denoises)
    return float((x - model.denoise(x)).square().mean())


@torch.inference_mode()
def decode_codes(engine: Engine, request: schemas.DecodeRequest) -> schemas.DecodeReply:
    """The items that codes stand for."""
    entry = engine.registry.get(request.model)
    model = engine.require(entry, "decode")
    _count(engine, len(request.codes), "codes")
    codes = np.stack([from_hex(code, model.bits) for code in request.codes])
    items = model.input.restore(_decoded(model, codes))
    return schemas.DecodeReply(model=info(entry), items=[encode(model.input.kind, item) for item in items])


def encode_inputs(engine: Engine, request: schemas.EncodeRequest) -> schemas.EncodeReply:
    """The codes of inputs, stored nowhere."""
    entry = engine.registry.get(request.model)
    model = engine.registry.load(entry)
    _count(engine, len(request.inputs), "inputs")
    items = []
    decoder = Decoder(engine.settings, model.input)
    for place, value in enumerate(request.inputs):
        try:
            if value.id is not None or value.code is not None:
                raise InvalidInput("an id or a code has no place here; give what the model takes")
            items.append(decoder.value(value).item)
        except InvalidInput as error:
            raise InvalidRequest(f"input {place}: {error}", [(pointer("inputs", place), str(error))]) from None
    codes, errors = engine.encode_each(model, items)
    if errors:
        place = min(errors)
        raise InvalidRequest(f"input {place}: {errors[place]}", [(pointer("inputs", place), str(errors[place]))])
    return schemas.EncodeReply(model=info(entry), codes=[to_hex(code) for code in codes])


def _count(engine: Engine, count: int, field: str) -> None:
    if count > engine.settings.max_items:
        raise TooLarge(f"{count} {field} in one request, the limit is {engine.settings.max_items} (max_items)")


def _decoded(model: Model, codes: Codes) -> Tensor:
    if not isinstance(model, Decodes):
        raise CapabilityMissing(f"a {model.family} cannot decode codes; give the item itself")
    return model.decode(torch.from_numpy(np.unpackbits(codes, axis=1)).float())


def _tensor(engine: Engine, model: Model, value: Input, collection: str | None) -> Tensor:
    return _tensor_and_item(engine, model, value, collection)[0]


def _tensor_and_item(engine: Engine, model: Model, value: Input, collection: str | None) -> tuple[Tensor, object]:
    """`x` `(1, *shape)` and the item in memory that an input, a code or a stored item stands for."""
    if value.code is not None:
        x = _decoded(model, from_hex(value.code, model.bits)[None])
        return x, model.input.restore(x)[0]
    if value.id is not None:
        if collection is None:
            raise InvalidRequest("an id needs a collection to be looked up in")
        stored = engine.catalogue.get(collection).get(value.id)
        if stored.input is None or stored.kind != model.input.kind:
            raise InvalidRequest(f"item {value.id!r} was stored without {model.input.kind} input; send the item itself")
        item = from_bytes(stored.input, stored.kind, engine.settings).item
    else:
        item = decode(value, model.input, engine.settings)
    return model.input.tensor([item]), item
