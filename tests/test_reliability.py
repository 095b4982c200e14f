"""docs/reliability.md names every row and no test that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text()
ROWS = re.findall(r"^\| ([HMXSR]\d+) \|(.*)$", PAGE, re.MULTILINE)


def test_every_row_is_there_once() -> None:
    counts = {"H": 12, "M": 5, "X": 9, "S": 4, "R": 5}
    assert [row for row, _ in ROWS] == [f"{part}{number}" for part in "HMXSR" for number in range(1, counts[part] + 1)]


@pytest.mark.parametrize(("row", "text"), ROWS, ids=[row for row, _ in ROWS])
def test_what_a_row_names_is_there(row: str, text: str) -> None:
    """A file of tests, or a test in it; a row without either says that it is missing."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert named or "missing" in text, row
    for file, test in named:
        source = (ROOT / file).read_text()
        assert re.search(rf"\b{row}\b", source), f"{file} does not name {row}"
        assert not test or re.search(rf"^(?:def|class) {test}\b|^{test} = ", source, re.MULTILINE), f"{file}::{test}"
