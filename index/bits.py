"""Codes: packing, hexadecimal, and the Hamming distance between them.

A code of `bits` bits is a row of `bits / 8` uint8 in numpy `packbits` order: bit 0 is the most significant
bit of byte 0. A bit is 1 exactly when its logit is > 0. As text a code is lower-case hexadecimal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidCode

Codes = NDArray[np.uint8]
"""Packed codes, `(n, bits / 8)` uint8; one code alone is `(bits / 8,)`."""

MIN_BITS, MAX_BITS = 8, 1024


def check_width(bits: int) -> None:
    """Raise `InvalidCode` unless `bits` is a multiple of 8 from 8 to 1024."""
    if bits % 8 or not MIN_BITS <= bits <= MAX_BITS:
        raise InvalidCode(f"a code has a multiple of 8 bits, {MIN_BITS} to {MAX_BITS}; got {bits}")


def pack(logits: NDArray[Any]) -> Codes:
    """Codes of real-valued logits: bit = 1 exactly where the logit is > 0.

    logits: `(n, bits)`, finite. Returns `(n, bits / 8)` uint8.
    Raises `InvalidCode` for a non-finite logit: NaN compares false and would become a plausible code.
    """
    logits = np.asarray(logits)
    check_width(logits.shape[-1])
    if not np.isfinite(logits).all():
        raise InvalidCode("a logit is not finite, so the item has no code; check the input and the model")
    codes: Codes = np.packbits(logits > 0, axis=-1)
    return codes


def unpack(codes: Codes) -> NDArray[np.uint8]:
    """The bits of packed codes: `(n, bits / 8)` -> `(n, bits)` of 0 and 1."""
    return np.unpackbits(codes, axis=-1)


def to_hex(code: Codes) -> str:
    """A code `(bits / 8,)` as `bits / 4` lower-case hexadecimal digits."""
    return code.tobytes().hex()


def from_hex(text: str, bits: int) -> Codes:
    """The code `(bits / 8,)` written as `text`. Raises `InvalidCode` on a wrong length or digit."""
    if len(text) != bits // 4:
        raise InvalidCode(f"a code of {bits} bits has {bits // 4} hexadecimal digits; got {len(text)}")
    if not set(text) <= set("0123456789abcdefABCDEF"):
        raise InvalidCode("a code is written in hexadecimal digits only (0-9, a-f)")
    return np.frombuffer(bytes.fromhex(text), dtype=np.uint8)


def hamming(a: Codes, b: Codes) -> NDArray[np.int32]:
    """Hamming distance along the last axis, with numpy broadcasting. Returns int32."""
    distances: NDArray[np.int32] = np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int32)
    return distances
