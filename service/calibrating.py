"""From the pairs of a calibration to their codes."""

from __future__ import annotations

from collections.abc import Sequence

from index import Codes, Collection, from_hex
from index.errors import HammingIndexError
from models.errors import ModelsError

from .codecs import Decoder
from .engine import Engine
from .errors import InvalidRequest, pointer
from .schemas import Input
from .schemas.calibration import CalibrationPair

_BATCH = 256


def codes_of(engine: Engine, collection: Collection, pairs: Sequence[CalibrationPair]) -> list[tuple[Codes, Codes]]:
    """The codes `(bits / 8,)` of both sides of each pair. Raises `InvalidRequest` naming the first bad one."""
    codes: list[Codes] = []
    sides = [(place, name, value) for place, pair in enumerate(pairs) for name, value in (("a", pair.a), ("b", pair.b))]
    for start in range(0, len(sides), _BATCH):
        codes += _codes(engine, collection, sides[start : start + _BATCH])
    return list(zip(codes[::2], codes[1::2], strict=True))


def _codes(engine: Engine, collection: Collection, sides: Sequence[tuple[int, str, Input]]) -> list[Codes]:
    """Codes in the order of `sides`; a batch of inputs goes through the model at once."""
    found: dict[int, Codes] = {}
    items: dict[int, object] = {}
    model = None if collection.config.model is None else engine.model_of(collection)[1]
    decoder = Decoder(engine.settings, None if model is None else model.input)
    for at, (place, name, value) in enumerate(sides):
        try:
            if value.code is not None:
                found[at] = from_hex(value.code, collection.bits)
            elif value.id is not None:
                found[at] = engine.code_of(value, collection)[0]
            else:
                items[at] = decoder.value(value).item
        except (HammingIndexError, ModelsError) as error:
            raise _bad(place, name, error) from None
    if items and model is not None:
        codes, errors = engine.encode_each(model, list(items.values()))
        if errors:
            place, name, _ = sides[list(items)[min(errors)]]
            raise _bad(place, name, errors[min(errors)])
        found |= dict(zip(items, codes, strict=True))
    return [found[at] for at in range(len(sides))]


def _bad(place: int, name: str, error: Exception) -> InvalidRequest:
    return InvalidRequest(f"pair {place}, {name}: {error}", [(pointer("pairs", place, name), str(error))])
