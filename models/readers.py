"""Files as data sets.

folder                    pictures (.png .jpg .jpeg .webp), sounds (.wav .flac) or texts (anything else), at any
                          depth; the folder that a file lies in is its label, the relative path its id
*-idx3-ubyte[.gz]         MNIST's format; labels from the file beside it with `labels-idx1` in its name
.npy                      (n, dim) numbers: vectors; (n, h, w) or (n, h, w, 1|3) uint8: images
.npz                      the same in an array called x, data, images or vectors (else the first array);
                          labels in y or labels, ids in ids or words
.jsonl                    an object a line: `text`, `vector`, `image` or `audio` (paths), and `id`, `label`,
                          `payload`; other members join the payload
.csv, .tsv                with a header: columns text, or nothing but numbers, and id, label; others are payload;
                          without: all numbers are a vector; else the widest column is the text and a
                          column of few distinct values the label
.parquet                  the same columns as .jsonl has members; needs the extra `parquet`
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from . import images, parquet, sounds
from .errors import DataError

MAX_TEXT_BYTES = 200_000
"""A file is read as text up to here: a hash of a book is not a hash of its parts."""

Items = Sequence[Any] | NDArray[Any]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Found:
    """What a reader made of a file."""

    kind: str
    items: Items
    ids: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    payloads: Sequence[Mapping[str, Any]] | None = None
    some_labels: Sequence[str | None] | None = None
    """One an item, None where it has none, where some have one and others have not."""


class Files(Sequence[_T]):
    """Files decoded when asked for, so that a large folder need not fit in memory."""

    def __init__(self, paths: Sequence[Path], decode: Callable[[Path], _T]) -> None:
        self._paths, self._decode = paths, decode

    def __len__(self) -> int:
        return len(self._paths)

    def only(self, places: Sequence[int]) -> Files[_T]:
        """Those at `places`, in that order."""
        return Files([self._paths[place] for place in places], self._decode)

    def encoded(self, place: int) -> bytes:
        """The file itself."""
        return self._paths[place].read_bytes()

    def size(self, place: int) -> int:
        """Bytes of the file; 0 where it is not there any more, which reading it will say."""
        try:
            return self._paths[place].stat().st_size
        except OSError:
            return 0

    @overload
    def __getitem__(self, place: int) -> _T: ...
    @overload
    def __getitem__(self, place: slice) -> Files[_T]: ...
    def __getitem__(self, place: int | slice) -> _T | Files[_T]:
        if isinstance(place, slice):
            return Files(self._paths[place], self._decode)
        try:
            return self._decode(self._paths[place])
        except OSError as error:
            raise DataError(f"{self._paths[place]} cannot be read: {error.strerror}") from None


def read(path: Path) -> Found:
    """The data set in the file or folder `path`. Raises `DataError`."""
    name = path.name.removesuffix(".gz")
    reader = _folder if path.is_dir() else _idx if "idx3-ubyte" in name else _READERS.get(Path(name).suffix)
    if reader is None:
        raise DataError(f"{path}: no reader for this name; known are {', '.join(_READERS)}, IDX files and folders")
    try:
        return reader(path)
    except _BROKEN as error:
        raise DataError(f"{path} cannot be read: {error}") from None


# What the readers and the libraries under them raise for files that are cut short or are not what their name says.
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
)


_DECODED: Mapping[str, tuple[tuple[str, ...], Callable[[Path], Any]]] = {
    "image": (images.SUFFIXES, images.read_image),
    "audio": (sounds.SUFFIXES, sounds.read_sound),
}
"""The kinds whose items are files of their own: the endings of their names and what decodes them."""


def _folder(root: Path) -> Found:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    of_kind = {
        kind: [path for path in files if path.suffix.lower() in suffixes] for kind, (suffixes, _) in _DECODED.items()
    }
    kind, chosen = next(((kind, paths) for kind, paths in of_kind.items() if paths), ("text", files))
    ids = [path.relative_to(root).as_posix() for path in chosen]
    parts = [path.relative_to(root).parts for path in chosen]
    labels = [part[-2] for part in parts] if parts and all(len(part) > 1 for part in parts) else None
    items: Items = [_text(path) for path in chosen] if kind == "text" else Files(chosen, _DECODED[kind][1])
    return Found(kind, items, ids, labels)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_BYTES)
    try:
        # What is cut off in the middle of a character at the limit does not make the file anything but UTF-8.
        return codecs.getincrementaldecoder("utf-8")().decode(data, final=len(data) < MAX_TEXT_BYTES)
    except UnicodeDecodeError:
        return data.decode("latin-1")  # every byte is a character there; old mail and news are written so


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _lines(path: Path) -> Iterator[str]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        yield from file


def _idx_array(path: Path) -> NDArray[np.uint8]:
    data = _bytes(path)
    if len(data) < 8 or data[:3] != b"\0\0\x08":
        raise DataError(f"{path}: not an IDX file of bytes")
    rank = data[3]
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    if len(data) != 4 + 4 * rank + int(np.prod(shape)):
        raise DataError(f"{path}: its header says {shape}, its length does not")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _idx(path: Path) -> Found:
    images = _idx_array(path)[:, :, :, None]
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = [str(label) for label in _idx_array(beside)] if beside != path and beside.exists() else None
    if labels is not None and len(labels) != len(images):
        raise DataError(f"{path}: {len(images)} images but {len(labels)} labels in {beside.name}")
    return Found("image", images, None, labels)


def _arrays(path: Path, x: NDArray[Any], labels: Any = None, ids: Any = None) -> Found:
    ids, labels = (None if values is None else [str(value) for value in values] for values in (ids, labels))
    if x.ndim == 2 and x.dtype.kind in "fiu":
        return Found("vector", x.astype(np.float32, copy=False), ids, labels)
    if x.ndim in (3, 4) and x.dtype == np.uint8 and (x.ndim == 3 or x.shape[3] in (1, 3)):
        return Found("image", x.reshape(*x.shape[:3], -1), ids, labels)
    raise DataError(
        f"{path}: an array {x.shape} of {x.dtype} is neither vectors (n, dim) nor uint8 images (n, h, w[, c])"
    )


def _npy(path: Path) -> Found:
    try:
        return _arrays(path, np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _npz(path: Path) -> Found:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:

            def first(*names: str) -> Any:
                return next((arrays[name] for name in names if name in arrays), None)

            x = first("x", "data", "images", "vectors")
            return _arrays(
                path, arrays[arrays.files[0]] if x is None else x, first("y", "labels"), first("ids", "words")
            )
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: {error}") from None


def _jsonl(path: Path) -> Found:
    records = []
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from None
    return _records(path, records)


def _parquet(path: Path) -> Found:
    return _records(path, *parquet.read(path))


def _records(path: Path, records: Sequence[Mapping[str, Any]], vectors: NDArray[np.float32] | None = None) -> Found:
    """vectors: of the records, where they are not in them."""
    if not records:
        raise DataError(f"{path} holds no items")
    kinds = [kind for kind in ("text", "vector", *_DECODED) if all(kind in record for record in records)]
    if vectors is not None:
        kinds.append("vector")
    if len(kinds) != 1:
        raise DataError(f"{path}: every record needs the same one of text, vector, image, audio")
    kind = kinds[0]
    values: Items = vectors if vectors is not None else [record[kind] for record in records]
    if kind in _DECODED:
        values = Files([path.parent / value for value in values], _DECODED[kind][1])
    elif kind == "vector" and vectors is None:
        if len({len(value) for value in values}) != 1:
            raise DataError(f"{path}: the vectors differ in length")
        values = np.array(values, np.float32)
    ids = [str(record["id"]) for record in records] if all("id" in record for record in records) else None
    labels, some = _labels(records)
    known = (kind, "id", "label", "payload")
    payloads = [
        {name: value for name, value in record.items() if name not in known} | (record.get("payload") or {})
        for record in records
    ]
    return Found(kind, values, ids, labels, payloads if any(payloads) else None, some)


def _labels(records: Sequence[Mapping[str, Any]]) -> tuple[list[str] | None, list[str | None] | None]:
    """The labels of all records, or else of those that have one; an empty cell of a table is none."""
    found = [record.get("label") for record in records]
    some = [None if label is None or label == "" else str(label) for label in found]
    known = [label for label in some if label is not None]
    return (known, None) if len(known) == len(records) else (None, some if known else None)


def _csv(path: Path) -> Found:
    delimiter = "\t" if ".tsv" in path.name else ","
    rows = [row for row in csv.reader(_lines(path), delimiter=delimiter) if row]
    if not rows:
        raise DataError(f"{path} holds no rows")
    width = len(rows[0])
    uneven = next((number for number, row in enumerate(rows, start=1) if len(row) != width), None)
    if uneven is not None:
        raise DataError(f"{path}: row {uneven} has {len(rows[uneven - 1])} columns, the first has {width}")
    header = [name.strip().lower() for name in rows[0]]
    if all(_LIKE_A_NAME.fullmatch(name) for name in header):
        return _records(path, [_with_header(header, row) for row in rows[1:]])
    if all(_is_number(value) for value in rows[0]):
        return Found("vector", np.array(rows, np.float32))
    columns = list(zip(*rows, strict=True))
    text = max(range(width), key=lambda place: sum(map(len, columns[place])))
    few = [place for place in range(width) if place != text and len(set(columns[place])) <= max(2, len(rows) // 10)]
    return Found("text", list(columns[text]), None, list(columns[few[0]]) if few else None)


_LIKE_A_NAME = re.compile(r"[^\W\d][\w .-]{0,39}")
"""A first row of nothing but such cells is a header."""


def _with_header(header: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
    record: dict[str, Any] = dict(zip(header, row, strict=True))
    if "text" in record:
        return record
    numbers = [value for name, value in record.items() if name not in ("id", "label")]
    if not all(_is_number(value) for value in numbers):
        raise DataError(
            "a table needs a column called text, or nothing but numbers beside id and label; "
            f"it has {', '.join(header)}"
        )
    return {name: record[name] for name in ("id", "label") if name in record} | {"vector": [float(n) for n in numbers]}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_READERS: Mapping[str, Callable[[Path], Found]] = {
    ".npy": _npy, ".npz": _npz, ".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv,
    ".parquet": _parquet,
}  # fmt: skip
