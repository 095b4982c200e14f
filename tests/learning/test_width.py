"""bits=auto: the width that is proposed follows from the data, says why, and is the same for the same seed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from support import sounds, topics, vectors

from models import width
from models.data import Dataset, load
from models.inputs import INPUTS, VectorInput
from models.width import WIDTHS, Width, propose


def proposed(data: Dataset, labels: Any = None, **options: Any) -> Width:
    return propose(data.items, INPUTS[data.kind].fit(data.items), labels, **options)


def cloud(n: int, dim: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Vectors of `dim` dimensions in a space of 64."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, dim)) @ np.linalg.qr(rng.normal(size=(64, dim)))[0].T).astype(np.float32)


def of(items: np.ndarray[Any, Any], **options: Any) -> Width:
    return propose(items, VectorInput.fit(items), **options)


@pytest.mark.parametrize("kind", ["image", "text", "vector", "audio"])
def test_every_kind_of_input_gets_a_width_and_a_reason(kind: str) -> None:
    data = {
        "image": lambda: load("lines"),
        "text": lambda: topics(load("python-docs"), 5, 40),
        "vector": lambda: vectors(200),
        "audio": sounds,
    }[kind]()
    data = Dataset(data.name, data.kind, data.items[:200], data.ids[:200])
    found = proposed(data)
    assert found.bits in WIDTHS
    assert found.why.startswith(f"{found.bits} bits, {found.bits // 8} bytes an item: ")
    assert f"Of all {len(data):,} in" in found.why
    assert list(found.found) == list(WIDTHS)
    assert all(0 <= share <= 1 for share in found.found.values())
    assert json.loads(json.dumps(found.as_dict()))["bits"] == found.bits
    assert found == proposed(data)


def test_what_has_more_dimensions_or_more_items_gets_more_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width, "_SAMPLE", 1000)
    monkeypatch.setattr(width, "_QUERIES", 200)
    few, many = of(cloud(1000, 6)), of(cloud(1000, 40))
    assert few.bits < many.bits
    assert few.dimension == pytest.approx(6, abs=1)
    assert many.dimension > 15  # type: ignore[operator]

    class Many(list[Any]):
        """As many vectors of six dimensions as it is told, without the memory."""

        def __init__(self, n: int) -> None:
            self.n, self.items = n, cloud(5000, 6)

        def __len__(self) -> int:
            return self.n

        def __getitem__(self, place: Any) -> Any:
            return self.items[place % 5000]

    spec = VectorInput.fit(cloud(5000, 6))
    small, large = (propose(Many(n), spec) for n in (5000, 100_000_000))
    assert small.bits < large.bits
    assert large.sampled == 1000
    assert "more than one with fewer bits" in large.why


def test_the_least_width_that_is_worth_its_bytes_and_tells_items_apart() -> None:
    apart = dict.fromkeys(WIDTHS, 0.0)
    shares = dict(zip(WIDTHS, [0.1, 0.2, 0.3, 0.4, 0.5, 0.52, 0.54, 0.56, 0.58], strict=True))
    assert width._least(shares, apart) == 64
    assert width._least(shares, apart | {64: 1.5}) == 96, "too many would share a code"
    assert width._least(shares | {256: 0.9}, apart) == 256, "a larger one may be worth it where the next is not"
    assert width._least(dict.fromkeys(WIDTHS, 1.0), apart) == 16
    assert width._least(dict.fromkeys(WIDTHS, 0.5), dict.fromkeys(WIDTHS, 2.0)) == 16, "no bits tell these apart"


def test_where_no_pair_shares_a_code_it_is_expected_from_fewer_bits() -> None:
    assert width._carried_on({16: 1e-2, 24: 1e-3, 32: 0.0}) == pytest.approx({16: 1e-2, 24: 1e-3, 32: 1e-4})
    assert width._carried_on({16: 0.0}) == {16: 0.0}
    codes = np.array([[1], [1], [1], [2]], np.uint8)
    assert width._alike(codes, torch.tensor([[0.0], [1.0], [1.0], [2.0]])) == pytest.approx(4 / 10)


def test_labels_are_looked_at_only_where_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    data = vectors(300)
    assert "nearest in input space" in proposed(data).measure
    told = proposed(data, data.labels)
    assert told.measure == "precision@10 by label"
    assert "has the same label" in told.why
    assert told.bits <= proposed(data).bits
    assert "nearest" in proposed(data, [None] * 299 + ["a"]).measure, "too few labels to judge by"


@pytest.mark.parametrize("n", [20, 23, 60])
def test_tiny_sets(n: int) -> None:
    items = cloud(n, 5)
    assert of(items).bits in WIDTHS
    assert of(np.repeat(items[: n // 4], 4, axis=0)).bits in WIDTHS
