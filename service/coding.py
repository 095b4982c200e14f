"""Between items and codes, storing nothing: encode, decode, flip single bits, and score."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from index import Codes, from_hex, to_hex
from models.base import Model
from models.capabilities import Decodes, Scores, Weighs
from models.errors import InvalidInput
from models.latent import LatentModel
from models.registry import Entry

from . import schemas
from .codecs import Decoder, decode, encode, from_bytes
from .engine import Engine
from .errors import CapabilityMissing, InvalidRequest, TooLarge, pointer
from .schemas import Input, ModelInfo


def info(entry: Entry) -> ModelInfo:
    """What a reply says of the model that made it."""
    return ModelInfo(name=entry.name, version=entry.version, fingerprint=entry.fingerprint)


@torch.inference_mode()
def encode_inputs(engine: Engine, request: schemas.EncodeRequest) -> schemas.EncodeReply:
    """The codes of inputs and, if asked, the real numbers behind them."""
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
    reply = schemas.EncodeReply(model=info(entry), codes=[to_hex(code) for code in codes])
    if request.latents:
        x = model.input.tensor(items)
        latents = model.latent(x) if isinstance(model, LatentModel) else model.encode(x)
        reply.latents = latents.double().numpy().round(7).tolist()
    return reply


@torch.inference_mode()
def decode_codes(engine: Engine, request: schemas.DecodeRequest) -> schemas.DecodeReply:
    """The items that codes stand for, and those that codes with one bit flipped stand for."""
    entry = engine.registry.get(request.model)
    model = engine.require(entry, "decode")
    flips = _flips(request, model.bits)
    _count(engine, len(request.codes) * len(flips), "items")
    codes = np.stack([from_hex(code, model.bits) for code in request.codes])  # (n, bits / 8)
    walked = np.repeat(codes, len(flips), axis=0)
    for place, bit in enumerate(flips):
        if bit is not None:
            walked[place :: len(flips), bit // 8] ^= 128 >> bit % 8
    items = model.input.restore(_decoded(model, walked))
    return schemas.DecodeReply(
        model=info(entry),
        items=[
            schemas.DecodedItem(**encode(model.input.kind, item).model_dump(), code=to_hex(code), flipped=bit)
            for item, code, bit in zip(items, walked, flips * len(codes), strict=True)
        ],
    )


def _flips(request: schemas.DecodeRequest, bits: int) -> list[int | None]:
    """The bits to flip, after None for the code as it is."""
    chosen = range(bits) if request.flip == "all" else request.flip or []
    for place, bit in enumerate(chosen):
        if not 0 <= bit < bits:
            raise InvalidRequest(
                f"the code has bits 0 to {bits - 1}; flip names bit {bit}",
                [(pointer("flip", place), f"from 0 to {bits - 1}")],
            )
    return [None, *chosen]


@torch.inference_mode()
def score(engine: Engine, request: schemas.ScoreRequest) -> schemas.ScoreReply:
    """How ordinary inputs are to a model and, if asked, how much likelier than one other."""
    entry = engine.registry.get(request.model)
    model = engine.require(entry, "score" if request.relative_to is None else "weigh")
    _count(engine, len(request.inputs), "inputs")
    parts = []
    for place, value in enumerate(request.inputs):
        try:
            parts.append(tensor_of(engine, model, value, request.collection))
        except InvalidInput as error:
            raise InvalidRequest(f"input {place}: {error}", [(pointer("inputs", place), str(error))]) from None
    x = torch.cat(parts)
    assert isinstance(model, Scores)
    scores = model.score(x)
    reply = schemas.ScoreReply(model=info(entry), scores=_finite(scores, "score"), measure=model.scored_by)
    if request.relative_to is not None:
        assert isinstance(model, Weighs)
        other = tensor_of(engine, model, request.relative_to, request.collection)
        reply.log_ratios = _finite(model.log_ratio(other.expand_as(x), x), "log-density ratio")
    return reply


def _finite(values: Tensor, name: str) -> list[float]:
    bad = (~values.isfinite()).nonzero().flatten()
    if len(bad):
        place = int(bad[0])
        raise InvalidRequest(
            f"input {place}: the model gives it no finite {name}; its values may be too large",
            [(pointer("inputs", place), f"no finite {name}")],
        )
    return [float(value) for value in values]


def _count(engine: Engine, count: int, field: str) -> None:
    if count > engine.settings.max_items:
        raise TooLarge(f"{count} {field} in one request, the limit is {engine.settings.max_items} (max_items)")


def _decoded(model: Model, codes: Codes) -> Tensor:
    if not isinstance(model, Decodes):
        raise CapabilityMissing(f"a {model.family} cannot decode codes; give the item itself")
    return model.decode(torch.from_numpy(np.unpackbits(codes, axis=1)).float())


def tensor_of(engine: Engine, model: Model, value: Input, collection: str | None) -> Tensor:
    """`x` `(1, *shape)` of an input, a code or a stored item."""
    return tensor_and_item(engine, model, value, collection)[0]


def tensor_and_item(engine: Engine, model: Model, value: Input, collection: str | None) -> tuple[Tensor, object]:
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
