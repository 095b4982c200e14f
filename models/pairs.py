"""Pairs of items of which it is known whether they belong together, by their ids.

.jsonl      an object a line: `a` and `b`, each an id or an object with an `id`, and `same`, true or false
.csv, .tsv  a header, or not, and three columns: the id a, the id b, and true or false (or 1 or 0)
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import DataError
from .supervision import Pair

Named = tuple[str, str, bool]
"""The ids of two items, and whether they belong together."""

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def read_pairs(path: Path) -> list[Named]:
    """The pairs in a file. Raises `DataError` naming the line at fault."""
    readers = {".jsonl": _jsonl, ".csv": _table, ".tsv": _table}
    if path.suffix not in readers:
        raise DataError(f"{path}: pairs come in a file called {', '.join(readers)}; this is none of them")
    try:
        found = list(readers[path.suffix](path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not found:
        raise DataError(f"{path} holds no pairs")
    return found


def places_of(pairs: Sequence[Named], ids: Sequence[str]) -> list[Pair]:
    """The same with the places of their items among `ids`. Raises `DataError` for an id that is unknown or twice."""
    at = {id: place for place, id in enumerate(ids)}
    out = []
    for number, (a, b, same) in enumerate(pairs):
        for id in (a, b):
            if id not in at:
                raise DataError(f"pair {number}: no item that is trained on has the id {id[:100]!r}")
        if a == b:
            raise DataError(f"pair {number}: {a[:100]!r} is paired with itself, which says nothing")
        out.append((at[a], at[b], same))
    return out


def _jsonl(path: Path) -> Iterator[Named]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from None
            if not isinstance(record, Mapping) or not isinstance(record.get("same"), bool):
                raise DataError(
                    f"{path}, line {number}: a pair is an object with a, b, and same, which is true or false"
                )
            yield _id(record.get("a"), path, number), _id(record.get("b"), path, number), record["same"]


def _id(value: Any, path: Path, number: int) -> str:
    if isinstance(value, Mapping):
        value = value.get("id")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{path}, line {number}: a and b are ids, or objects with an id")
    return str(value)


def _table(path: Path) -> Iterator[Named]:
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","), start=1):
            cells = [cell.strip() for cell in row]
            if not cells or (number == 1 and [cell.lower() for cell in cells] == ["a", "b", "same"]):
                continue
            if len(cells) != 3 or cells[2].lower() not in _TRUTH:
                raise DataError(f"{path}, line {number}: a pair is two ids and true or false (1 or 0)")
            yield cells[0], cells[1], _TRUTH[cells[2].lower()]
