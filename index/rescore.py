"""Exact order: what was found by code, put in the order of true distances between inputs.

A short code finds, the input itself decides: the second stage of search by compact codes (Jegou, Tavenard, Douze and
Amsaleg, "Searching in one billion vectors: re-rank with source coding", ICASSP 2011), here with the kept inputs.
How far two inputs are from each other is the caller's to say; the index only fetches them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answer import Hit
from .errors import InputsMissing, InvalidQuery, StoreDamaged
from .items import Item
from .protocol import Hits
from .reader import Reader


@dataclass(frozen=True, slots=True)
class Rescore:
    """The distances `(n,)` of items, all with an input, from the query; and how much may be looked at for them."""

    distances: Callable[[Sequence[Item]], NDArray[np.floating[Any]]]
    most: int
    """Items of one search."""
    most_bytes: int
    """Of their inputs together."""


def check_many(items: int, by: Rescore) -> None:
    """Raise `InvalidQuery` where more items are near than may be looked at."""
    if items > by.most:
        raise InvalidQuery(
            f"{items:,} items are near, at most {by.most:,} are compared exactly (max_oversampled); ask for less "
            "with k x oversample, or for those within a radius"
        )


def check_inputs(items: int, inputs: int, size: int, by: Rescore) -> None:
    """Raise `InputsMissing` where `inputs` are fewer than `items`, `InvalidQuery` where their `size` is too large."""
    if inputs < items:
        raise InputsMissing(
            f"{items - inputs:,} of the {items:,} items that were found have no kept input to compare with: "
            "they came as codes, or keep_inputs was off. Rerank soft, which needs none, or ingest them as items"
        )
    if size > by.most_bytes:
        raise InvalidQuery(
            f"the inputs of the {items:,} items that were found have {size:,} bytes, at most {by.most_bytes:,} are "
            "compared in one search (max_oversampled_bytes); ask for less with k x oversample"
        )


def rescored(reader: Reader, found: Hits, by: Rescore, take: int, *, payloads: bool, codes: bool) -> list[Hit]:
    """The first `take` of `found` by (distance of the inputs, id); minus that distance is a hit's score.

    Raises `InvalidQuery` where they are more than may be looked at, `InputsMissing` where one has no input.
    """
    check_many(len(found), by)
    keys = found.keys.tolist()
    check_inputs(len(keys), *reader.inputs_of(keys), by)
    items = reader.with_keys(keys)
    key_of = dict(reader.ids(keys, after=None, limit=len(keys)))
    if not len(items) == len(key_of) == len(keys):
        raise StoreDamaged("an item near the query cannot be read; restore the collection from a backup")
    hamming = dict(zip(keys, found.distances.tolist(), strict=True))
    distances = by.distances(items).tolist()
    rows = sorted(zip(distances, items, strict=True), key=lambda row: (row[0], row[1].id))[:take]
    payload_of = reader.payloads([key_of[item.id] for _, item in rows]) if payloads else {}
    return [
        Hit(item.id, hamming[key], payload_of.get(key), item.code if codes else None, -distance)
        for distance, item in rows
        for key in (key_of[item.id],)
    ]
