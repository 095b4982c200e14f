"""Files of pairs, and data of which only some has labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.data import load
from models.errors import DataError
from models.pairs import places_of, read_pairs


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.jsonl", '{"a": "x", "b": {"id": "y"}, "same": true}\n\n{"a": {"id": 3}, "b": "y", "same": false}\n'),
        ("p.csv", "a,b,same\nx,y,true\n3, y,False\n"),
        ("p.tsv", "x\ty\t1\n3\ty\t0\n"),
    ],
)
def test_every_shape_of_a_pair(tmp_path: Path, name: str, text: str) -> None:
    pairs = read_pairs(written(tmp_path, name, text))
    assert pairs == [("x", "y", True), ("3", "y", False)]
    assert places_of(pairs, ["y", "x", "3"]) == [(1, 0, True), (2, 0, False)]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("p.txt", "x", r"called \.jsonl, \.csv, \.tsv"),
        ("p.jsonl", "", "holds no pairs"),
        ("p.jsonl", "{", "line 1"),
        ("p.jsonl", "[]", "line 1: a pair is an object"),
        ("p.jsonl", '{"a": "x", "b": "y", "same": 1}', "true or false"),
        ("p.jsonl", '{"a": "x", "same": true}', "a and b are ids"),
        ("p.jsonl", '{"a": true, "b": "y", "same": true}', "a and b are ids"),
        ("p.csv", "a,b,same\nx,y\n", "line 2: a pair is two ids"),
        ("p.csv", "x,y,perhaps\n", "line 1: a pair is two ids"),
    ],
)
def test_what_is_no_pair_is_named_by_its_line(tmp_path: Path, name: str, text: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        read_pairs(written(tmp_path, name, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "absent.csv")
    (tmp_path / "latin.csv").write_bytes(b"\xe9,b,true\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "latin.csv")


def test_pairs_of_items_that_are_not_there() -> None:
    with pytest.raises(DataError, match="pair 1: no item that is trained on has the id 'z'"):
        places_of([("x", "y", True), ("x", "z", True)], ["x", "y"])
    with pytest.raises(DataError, match="pair 0: 'x' is paired with itself"):
        places_of([("x", "x", True)], ["x"])


def test_some_labels_are_kept_apart_from_all_labels(tmp_path: Path) -> None:
    rows = [
        {"text": "one", "label": "a"},
        {"text": "two", "label": None},
        {"text": "three"},
        {"text": "four", "label": 0},
    ]
    data = load(str(written(tmp_path, "x.jsonl", "\n".join(map(json.dumps, rows)))))
    assert data.labels is None
    assert data.known_labels == ["a", None, None, "0"]
    assert data.describe() == "x.jsonl: 4 texts, 2 labels on 2 of them (0, a)"
    assert [data.payload(place) for place in (0, 1, 3)] == [{"label": "a"}, None, {"label": "0"}]
    table = load(str(written(tmp_path, "x.csv", "id,text,label\na,one,\nb,two,x\n")))
    assert (table.labels, table.known_labels) == (None, [None, "x"])
    none = load(str(written(tmp_path, "y.csv", "id,text,label\na,one,\nb,two,\n")))
    assert none.known_labels is None
