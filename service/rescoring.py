"""`rerank: "exact"`: what codes found, in the order of the true distances between the query and the kept inputs.

The distance is the Euclidean one in the model's input space: between vectors as they came; between images, texts and
sounds as the model sees them (pixels from 0 to 1 at its own size, tf-idf of unit length, the spectrogram), which no
model of another input would share. A hit's score is minus the distance, so that more is better, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from index import Collection, Item
from index.errors import InputsMissing
from index.rescore import Rescore
from models.base import Model
from models.inputs import VectorInput

from .codecs import decode, from_bytes
from .engine import Engine
from .errors import InvalidRequest, TooLarge, pointer
from .kept import unlimited
from .schemas import Input, SearchOptions, SearchRequest

DEFAULT_K = 10
_AT_ONCE = 256
"""Inputs that become one tensor: pictures of 256 x 256 pixels take 200 MB."""


def check(engine: Engine, options: SearchOptions) -> None:
    """Raise `InvalidRequest` where an exact order or more candidates than hits are asked for and cannot be had."""
    if options.k is None and (options.radius is not None or options.target_precision is not None):
        for name, asked in (("rerank", options.rerank == "exact"), ("oversample", options.oversample > 1)):
            if asked:
                raise InvalidRequest(
                    f"{name} {getattr(options, name)} chooses the best k of what codes find; give k, beside the "
                    "radius or without it",
                    [(pointer(name), "needs k")],
                )
    if options.oversample > 1 and options.rerank == "none":
        raise InvalidRequest(
            "oversample finds more codes than k for a rerank to choose from, and without one changes nothing; "
            "give rerank soft or exact",
            [(pointer("oversample"), "needs rerank soft or exact")],
        )
    if (pool := pool_of(options)) > engine.settings.max_oversampled:
        raise InvalidRequest(
            f"k x oversample is {pool:,}, at most {engine.settings.max_oversampled:,} items are looked at "
            "(max_oversampled); ask for less of either",
            [(pointer("oversample" if options.oversample > 1 else "k"), "too much to look at")],
        )


def check_batch(engine: Engine, requests: Sequence[SearchRequest]) -> None:
    """Raise `TooLarge` where the searches of a batch ask for more than one request may look at."""
    pools = sum(pool_of(request) for request in requests)
    if pools > engine.settings.max_batch_hits:
        raise TooLarge(
            f"the searches of the batch look at {pools:,} items for their reranks (k x oversample), the limit is "
            f"{engine.settings.max_batch_hits:,} (max_batch_hits); send fewer in one batch"
        )


def pool_of(options: SearchOptions) -> int:
    """The nearest codes that a rerank with a limit of its own looks at; 0 for any other search."""
    if options.rerank != "exact" and options.oversample == 1:
        return 0
    return (DEFAULT_K if options.k is None else options.k) * options.oversample


def by_input(engine: Engine, collection: Collection, value: Input) -> Rescore:
    """What `rerank: "exact"` orders by, for a query as it came.

    Raises `InvalidRequest` for a query without an input, `InputsMissing` where the collection keeps none.
    """
    if value.id is None:
        if value.code is not None:
            raise without_input("a code")
        _, model = engine.model_of(collection)
        return by_item(engine, collection, model, decode(value, model.input, engine.settings))
    stored, _ = collection.stored(value.id)
    if stored.kind is None or stored.input is None:
        _check_keeps(collection)
        raise without_input("an item that came as a code")
    _, model = engine.model_of(collection)
    return by_item(engine, collection, model, from_bytes(stored.input, stored.kind, unlimited()).item)


def by_item(engine: Engine, collection: Collection, model: Model, item: Any) -> Rescore:
    """The same for an item in memory, which `model` can take."""
    _check_keeps(collection)
    if not model.input.at_once:
        raise InvalidRequest(
            f"an exact rerank would embed again every {model.input.kind} that it compares, which takes too long; "
            "rerank soft, which needs the codes alone",
            [(pointer("rerank"), "not with a model of embeddings")],
        )
    settings = engine.settings
    return Rescore(distances_from(model, item), settings.max_oversampled, settings.max_oversampled_bytes)


def distances_from(model: Model, item: Any) -> Callable[[Sequence[Item]], NDArray[np.float64]]:
    """The distances `(n,)` of stored items from `item`. One is the same whatever other items it is asked with."""
    query = _points(model, [item])

    def distances(stored: Sequence[Item]) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(stored), _AT_ONCE):
            # Each shrunk at once: so many photographs would fill the memory.
            inputs = [model.input.shrink(_input(one)) for one in stored[start : start + _AT_ONCE]]
            parts.append(np.sqrt(np.square(_points(model, inputs) - query).sum(axis=1)))
        return np.concatenate(parts) if parts else np.empty(0)

    return distances


def _input(stored: Item) -> Any:
    assert stored.kind is not None
    assert stored.input is not None
    return from_bytes(stored.input, stored.kind, unlimited()).item


def _points(model: Model, items: Sequence[Any]) -> NDArray[np.float64]:
    """Items as points `(n, size)` of the space that distances are measured in."""
    if isinstance(model.input, VectorInput):
        return model.input.rest(items).astype(np.float64)
    with torch.inference_mode():
        return model.input.tensor(items).flatten(1).double().numpy()


def _check_keeps(collection: Collection) -> None:
    if not collection.config.keep_inputs:
        raise InputsMissing(
            f"collection {collection.name!r} keeps no inputs, so true distances cannot be told; rerank soft, which "
            "needs none, or fill a collection with keep_inputs true"
        )


def without_input(what: str) -> InvalidRequest:
    """The refusal of a query that is `what`, a code or such."""
    return InvalidRequest(
        f"an exact rerank compares inputs, which {what} has not; search with the item itself, or rerank none",
        [(pointer("rerank"), "needs a query with an input")],
    )
