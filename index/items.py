"""What a collection stores, and the ids it makes."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InvalidItem

MAX_ID_BYTES = 512
"""An id is a name, not a document; 512 bytes hold a path or a URL and keep the id index small."""


@dataclass(frozen=True, slots=True)
class Item:
    """One stored item.

    code: packed, `bits / 8` bytes. payload: any JSON object. kind, input: the kept input ("image", "text",
    "vector", "audio") and its bytes, or None where inputs are not kept or the item came as a ready-made code.
    """

    id: str
    code: bytes
    payload: Mapping[str, Any] | None = None
    kind: str | None = None
    input: bytes | None = None

    def payload_text(self) -> str | None:
        """The payload as canonical JSON, so that equal payloads are equal text."""
        if self.payload is None:
            return None
        return json.dumps(self.payload, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))

    def digest(self) -> bytes:
        """16 bytes that change with any part of the item but its code; none where it is a code and nothing else.

        Tells, beside the code, an unchanged item from an updated one.
        """
        if self.payload is None and self.kind is None and self.input is None:
            return b""
        hasher = hashlib.sha256()
        for part in (self.id, self.payload_text(), self.kind, self.input):
            data = part.encode() if isinstance(part, str) else part
            # The length goes in first, so that moving bytes from one part to the next changes the digest.
            hasher.update(b"-" if data is None else b"%d:" % len(data))
            hasher.update(data or b"")
        return hasher.digest()[:16]


def check_id(id: str) -> None:
    """Raise `InvalidItem` unless `id` is 1 to 512 bytes of UTF-8 without NUL."""
    try:
        size = len(id.encode())
    except UnicodeEncodeError:
        raise InvalidItem("an id must be valid Unicode; this one holds half of a surrogate pair") from None
    if not 1 <= size <= MAX_ID_BYTES:
        raise InvalidItem(f"an id has 1 to {MAX_ID_BYTES} bytes of UTF-8; this one has {size}")
    if "\0" in id:
        raise InvalidItem("an id must not contain the NUL character")


_lock = threading.Lock()
_last_ms = 0
_counter = 0


def new_id() -> str:
    """A UUID version 7 (RFC 9562): time-ordered, and ascending even within one millisecond."""
    global _last_ms, _counter
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_ms:
            _last_ms, _counter = now, secrets.randbits(10)
        else:  # same millisecond, or the clock went back: count on
            _counter += 1
            if _counter >> 12:
                _last_ms, _counter = _last_ms + 1, 0
        ms, counter = _last_ms, _counter
    value = ms << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def members(value: Any) -> int:
    """How many members the objects in a JSON value have in all."""
    if isinstance(value, Mapping):
        return len(value) + sum(map(members, value.values()))
    return sum(map(members, value)) if isinstance(value, list) else 0
