"""An item as a row of a Milvus collection, and back.

A payload is kept as JSON, which filters look at. Where JSON in Milvus cannot hold it (whole numbers beyond 64 bits) the
row also has its text, and the JSON holds the nearest floating-point numbers.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidItem, StoreDamaged
from ..items import Item
from .names import to_id, to_key
from .schema import TEXT_BYTES

PAYLOAD, INPUT = 1, 2
SLOTS = range(2**31)
FIELDS = ["id", "code", "seal", "flags", "digest", "kind", "place", "payload", "exact"]
"""All that a row says."""
LISTS = "$lists"
"""The member of the stored JSON that names the fields that hold lists, for filters (see `expressions`)."""

_INTEGERS = range(-(2**63), 2**63)


def to_row(item: Item, code: bytes, place: str, position: int) -> dict[str, Any]:
    """The row of an item with its code in one generation. Raises `InvalidItem` where its payload is too long."""
    text = item.payload_text()
    if text is not None and len(text.encode()) > TEXT_BYTES - 2048:  # room for the names of lists
        raise InvalidItem(
            f"item {position}: its payload has {len(text.encode()):,} bytes as JSON, in Milvus it has at most "
            f"{TEXT_BYTES - 2048:,}; shorten it, or keep the collection embedded",
            position=position,
        )
    digest = item.digest().hex()
    flags = PAYLOAD * (item.payload is not None) | INPUT * (item.input is not None)
    payload = {} if item.payload is None else _filterable(item.payload)
    return {
        "id": to_key(item.id),
        "code": code,
        "slot": slot_of(item.id),
        "seal": seal_of(item.id, code, digest),
        "flags": flags,
        "digest": digest,
        "kind": item.kind or "",
        "place": place,
        "payload": payload,
        "exact": "" if text is None or _same(payload, item.payload) else text,
    }


def from_row(row: Mapping[str, Any], inputs: Mapping[str, bytes] | None) -> Item:
    """The item of a row; its input from `inputs`, by place, and none where that is None. Raises `StoreDamaged`.

    Without inputs the digest is not verified, which covers them.
    """
    id = to_id(row["id"])
    code, digest = code_of(row), row["digest"]
    payload = json.loads(text) if (text := payload_text(row)) is not None else None
    there = bool(row["flags"] & INPUT)
    item = Item(
        id,
        code,
        payload,
        row["kind"] or None,
        inputs[row["place"]] if there and inputs is not None else None,
    )
    if row["seal"] != seal_of(id, code, digest) or (
        (inputs is not None or not there) and item.digest().hex() != digest
    ):
        raise StoreDamaged(f"item {id!r} is not what was written; restore the collection from a snapshot")
    return item


def code_of(row: Mapping[str, Any]) -> bytes:
    """The code of a row, which comes as bytes or as a list of them."""
    code = row["code"]
    return bytes(code[0] if isinstance(code, list) else code)


def payload_text(row: Mapping[str, Any]) -> str | None:
    """The payload as canonical JSON."""
    if not row["flags"] & PAYLOAD:
        return None
    if row["exact"]:
        return str(row["exact"])
    payload = row["payload"]
    if isinstance(payload, str | bytes):
        payload = json.loads(payload)
    payload = {name: value for name, value in payload.items() if name != LISTS}
    return Item("", b"", payload).payload_text()


def seal_of(id: str, code: bytes, digest: str) -> int:
    """A number that changes with any of these."""
    return zlib.crc32(digest.encode(), zlib.crc32(code, zlib.crc32(id.encode())))


def slot_of(id: str) -> int:
    """A hash of the id, one of `SLOTS`."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=4).digest()) % len(SLOTS)


def _filterable(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload as Milvus can hold it, with the names of the fields that hold lists."""
    lists: list[str] = []
    found = {name: _plain(value, name, lists) for name, value in payload.items()}
    if lists:
        found[LISTS] = lists
    return found


def _plain(value: Any, path: str, lists: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner, f"{path}.{name}", lists) for name, inner in value.items()}
    if isinstance(value, list):
        lists.append(path)
        return [_plain_number(element) for element in value]
    return _plain_number(value)


def _plain_number(value: Any) -> Any:
    """Numbers that fit; a list in a list, or an object in one, is looked at by no filter, and only made to fit."""
    if isinstance(value, Mapping):
        return {name: _plain_number(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain_number(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INTEGERS:
        try:
            return float(value)
        except OverflowError:
            return 1.7e308 if value > 0 else -1.7e308
    return value


def _same(stored: Mapping[str, Any], payload: Mapping[str, Any] | None) -> bool:
    """Whether the payload can be had back from what is stored."""
    bare = {name: value for name, value in stored.items() if name != LISTS}
    return bare == payload and LISTS not in (payload or {}) and _types(bare) == _types(payload)


def _types(value: Any) -> Any:
    """The types of all numbers, as 1 and 1.0 are equal."""
    if isinstance(value, Mapping):
        return {name: _types(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_types(inner) for inner in value]
    return type(value)
