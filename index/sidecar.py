"""A copy of the codes beside the store, so that a large collection starts at once.

It is derived and may be thrown away: the store is the truth. A copy is used only if it is proven to be the store's: it
is read whole, added up to the number that the store keeps of its contents (see `contents`), and brought up to date with
what the store wrote and removed since. Whatever does not fit, it is ignored and written anew.

Layout: a header of 64 bytes, then the keys (n x 8 bytes, ascending), then the codes (n x bits / 8).
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bits import Codes
from .contents import contents_of, signed
from .errors import StoreDamaged
from .reader import Reader

NAME = "codes.copy"
_HEADER = struct.Struct("<8sIxxxxQQQI")  # magic, bits, sequence, items, last key, CRC-32 of what comes before
_MAGIC = b"HBCODES1"
_HEADER_BYTES = 64


@dataclass(frozen=True, slots=True)
class Copy:
    """Keys `(n,)` ascending and codes `(n, bits / 8)` of a collection at `sequence`, when `last_key` was the newest."""

    sequence: int
    last_key: int
    keys: NDArray[np.int64]
    codes: Codes
    behind: int = 0
    """How many items, written or removed later, the store had to make up for."""


def save(folder: Path, copy: Copy) -> None:
    """Write `copy` in place of the one in `folder`; on disk when this returns."""
    bits = copy.codes.shape[1] * 8
    fields = _HEADER.pack(_MAGIC, bits, copy.sequence, len(copy.keys), copy.last_key, 0)[:-4]
    header = (fields + struct.pack("<I", zlib.crc32(fields))).ljust(_HEADER_BYTES, b"\0")
    draft = folder / (NAME + ".new")
    try:
        with draft.open("wb") as file:
            file.write(header)
            file.write(np.ascontiguousarray(copy.keys).data)
            file.write(np.ascontiguousarray(copy.codes).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, folder / NAME)
    except BaseException:
        # On a full disk the room belongs to the store.
        draft.unlink(missing_ok=True)
        raise


def discard(folder: Path) -> None:
    """Remove the copy in `folder`, and one that was being written."""
    for name in (NAME, NAME + ".new"):
        (folder / name).unlink(missing_ok=True)


def load(folder: Path, reader: Reader, bits: int) -> Copy | None:
    """The codes of the state that `reader` sees, by way of the copy in `folder`; None where that cannot be used."""
    try:
        copy = _read(folder / NAME, bits)
    except OSError:
        return None
    if copy is None or copy.sequence > reader.sequence:
        return None
    try:
        removed, removed_codes = reader.removed_since(copy.sequence, bits)
        keys, codes = reader.codes_above(copy.last_key, bits)
    except (StoreDamaged, TypeError):
        return None  # a damaged row may hold anything; the full reading will say what is wrong
    gone = np.isin(copy.keys, removed, assume_unique=True) if len(removed) else np.zeros(len(copy.keys), np.bool_)
    held = np.isin(removed, copy.keys[gone], assume_unique=True)
    total = contents_of(copy.keys, copy.codes) + contents_of(keys, codes)
    total -= contents_of(removed[held], removed_codes[held])
    if signed(total) != reader.contents or len(copy.keys) - int(gone.sum()) + len(keys) != reader.count:
        return None
    if len(keys) or gone.any():
        return Copy(
            reader.sequence,
            reader.last_key,
            np.concatenate([copy.keys[~gone], keys]),
            np.concatenate([copy.codes[~gone], codes]),
            len(keys) + int(gone.sum()),
        )
    return Copy(reader.sequence, reader.last_key, copy.keys, copy.codes)


def _read(path: Path, bits: int) -> Copy | None:
    """The copy at `path` where its header is whole, its size right and its keys ascend."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) != _HEADER_BYTES:
        return None
    magic, width, sequence, items, last_key, check = _HEADER.unpack_from(header)
    if (magic, width, check) != (_MAGIC, bits, zlib.crc32(header[: _HEADER.size - 4])):
        return None
    if path.stat().st_size != _HEADER_BYTES + items * (8 + bits // 8):
        return None
    keys = np.fromfile(path, np.int64, items, offset=_HEADER_BYTES)
    if (keys[1:] <= keys[:-1]).any():
        return None
    codes = np.fromfile(path, np.uint8, items * bits // 8, offset=_HEADER_BYTES + 8 * items)
    return Copy(sequence, last_key, keys, codes.reshape(items, bits // 8))
