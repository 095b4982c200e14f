"""Writing to a collection that goes over to another model: everything is encoded by both, and nothing by one alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from index import Collection, Item, ModelKey
from index.errors import GenerationChanged, InputsMissing
from models.errors import InvalidInput

from .codecs import from_bytes
from .engine import Engine
from .kept import unlimited

T = TypeVar("T")

_TRIES = 5
"""A collection cannot change its model so often while one request is worked on, unless it is made to."""


def again(work: Callable[[], T]) -> T:
    """The result of `work`, which is begun again where the collection changes its model in the middle of it."""
    for _ in range(_TRIES):
        try:
            return work()
        except GenerationChanged:
            continue
    return work()


@dataclass(frozen=True, slots=True)
class Beside:
    """The codes that items have in generations that do not serve, by fingerprint, and the errors by place."""

    codes: Mapping[str, Mapping[int, bytes]] = field(default_factory=dict)
    errors: Mapping[int, InvalidInput] = field(default_factory=dict)

    def of(self, places: Sequence[int]) -> dict[str, list[bytes]]:
        """The codes of the items at `places`, in that order."""
        return {fingerprint: [codes[place] for place in places] for fingerprint, codes in self.codes.items()}


def codes_beside(
    engine: Engine,
    collection: Collection | None,
    items: Mapping[int, Item],
    made: Mapping[int, Mapping[str, bytes]],
) -> Beside:
    """What the model beside the one that serves makes of `items`, given by place.

    made: codes that are known already, by place and by the fingerprint of the model. Raises `InputsMissing` where an
    item is a code alone, which fits one model only.
    """
    other = None if collection is None else _other(collection)
    if collection is None or other is None:
        return Beside()
    entry = engine.registry.by_fingerprint(other.fingerprint)
    model = engine.registry.load(entry)
    codes = {place: made[place][entry.fingerprint] for place in items if entry.fingerprint in made.get(place, {})}
    places = [place for place in sorted(items) if place not in codes]
    inputs = []
    for place in places:
        item = items[place]
        if item.kind is None or item.input is None:
            raise InputsMissing(
                f"item {place} came as a code, but collection {collection.name!r} has codes of two models now "
                f"({entry.reference} is the second); send the item itself, or give the second model up with "
                "DELETE /collections/{collection}/standby"
            )
        inputs.append(model.input.shrink(from_bytes(item.input, item.kind, unlimited()).item))
    rows, errors = engine.encode_each(model, inputs)
    codes |= {place: row.tobytes() for place, row in zip(places, rows, strict=True)}
    return Beside({entry.fingerprint: codes}, {places[position]: error for position, error in errors.items()})


def _other(collection: Collection) -> ModelKey | None:
    return next(iter(collection.generations.models()[1:]), None)
