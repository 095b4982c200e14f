"""Items as files, and as pictures where people would rather look."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .base import CommandError
from .places import Service

if TYPE_CHECKING:
    from models.images import Picture

_MOST = 99
"""Hits on one sheet: ten rows of ten with the query are looked at, hundreds are not."""

SUFFIXES = {"image": ".png", "audio": ".wav", "text": ".txt", "vector": ".json"}


def kind_of(item: Mapping[str, Any]) -> str:
    """What a made item is: image, audio, text or vector."""
    return next(kind for kind in SUFFIXES if item.get(kind) is not None)


def as_file(item: Mapping[str, Any]) -> bytes:
    """A made item as the contents of a file of its kind's suffix."""
    kind = kind_of(item)
    if kind in ("image", "audio"):
        return base64.b64decode(item[kind])
    return (item["text"] if kind == "text" else json.dumps(item["vector"])).encode()


def items_sheet(items: Sequence[Mapping[str, Any]]) -> bytes:
    """Made pictures of one size on one sheet, as a PNG file. Raises `CommandError` where they are none."""
    from models.images import contact_sheet, encode_png

    pictures = [_picture(item) for item in items]
    if any(picture is None for picture in pictures):
        raise CommandError(f"--png draws pictures, and the model makes {kind_of(items[0])} items; --out writes files")
    return encode_png(contact_sheet([picture for picture in pictures if picture is not None]))


def hits_sheet(service: Service, body: Mapping[str, Any], reply: Mapping[str, Any]) -> bytes:
    """The query of a search, where it is a picture, and its hits with their distances, as a PNG file.

    Raises `CommandError` where no picture is kept of any of them.
    """
    from models.images import captioned_sheet, encode_png

    collection, query, hits = body["collection"], body["query"], reply["hits"][:_MOST]
    if not hits:
        raise CommandError("the search finds nothing, so there is nothing to draw; widen it")
    found = [(_stored(service, collection, hit["id"]), f"{hit['distance']}  {hit['id']}") for hit in hits]
    if not any(picture is not None for picture, _ in found):
        raise CommandError(f"--sheet draws pictures, and collection {collection} keeps none of these items")
    asked = _stored(service, collection, query["id"]) if "id" in query else _picture(query)
    if asked is not None:
        found.insert(0, (asked, "query"))
    return encode_png(captioned_sheet(found))


def _stored(service: Service, collection: str, id: str) -> Picture | None:
    return _picture(service.item(collection, id).get("input") or {})


def _picture(item: Mapping[str, Any]) -> Picture | None:
    from models.images import decode_image

    return None if item.get("image") is None else decode_image(base64.b64decode(item["image"]))
