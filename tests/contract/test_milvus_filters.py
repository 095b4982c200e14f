"""A filter as Milvus decides it, on real rows: no match is ever lost, and where it is said to decide alone it does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import places
import pytest
from filtering import MEANING, NEAR, NUMBERS, STRINGS, filters, payloads, stored, tests
from hypothesis import given, settings
from hypothesis import strategies as st

from index import Item
from index.filters import parse
from index.milvus.expressions import expression_of
from index.milvus.names import to_id
from index.milvus.table import Rows

pytestmark = places.in_milvus


def agree(held: list[dict[str, Any] | None], asked: list[dict[str, Any]]) -> None:
    """Milvus's answer to each filter over items with these payloads."""
    collection = places.milvus().make()
    try:
        items = [Item(f"{number:04d}", b"\0\0", payload) for number, payload in enumerate(held)]
        collection.put(items)
        for item in collection.scan():
            assert item.payload_text() == items[int(item.id)].payload_text()
        table = Rows(places.milvus().connection, collection.look().serving.physical)
        for filter in asked:
            condition = parse(filter)
            want = {item.id for item in items if condition.matches(item.payload)}
            expression = expression_of(condition)
            found = {to_id(row["id"]) for row in table.ordered(["id"], where=expression.text)}
            assert want <= found, (filter, expression.text, [held[int(id)] for id in want - found])
            if expression.exact:
                assert found == want, (filter, expression.text, [held[int(id)] for id in found - want])
            page = collection.search(np.zeros(2, np.uint8), radius=0, limit=10_000, filter=filter)
            assert [hit.id for hit in page.hits] == sorted(want), filter
    finally:
        places.milvus().done(collection)


def test_what_filters_mean() -> None:
    """Every example of what matches and what does not, all payloads against all filters."""
    held = [payload for _, found, left in MEANING for payload in [*found, *left]]
    distinct = {json.dumps(payload, sort_keys=True): payload for payload in held}
    agree(list(distinct.values()), [filter for filter, _, _ in MEANING])


def test_every_number_and_string_under_every_operator() -> None:
    """Alone and in a list, and beyond what Milvus can hold."""
    large = [2**63, 2**63 + 1, -(2**63) - 1, int(1e22), int(1e22) + 1, int(1e30), 10**30, 10**400, True, None]
    values = [*NUMBERS, *NEAR, *STRINGS, *large]
    held: list[Any] = [{"a": value} for value in values] + [{"a": [value]} for value in values]
    bounds: list[Any] = [*NUMBERS[::3], *NEAR[::5], *STRINGS[::4]]
    agree(held, [{"a": {name: bound}} for bound in bounds for name in ("$eq", "$gt", "$gte", "$lt", "$lte")])


@settings(max_examples=25, deadline=None)
@given(st.lists(payloads, max_size=12), st.lists(filters, min_size=1, max_size=6))
def test_random_payloads_and_filters(held: list[dict[str, Any] | None], asked: list[dict[str, Any]]) -> None:
    agree(held, asked)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(stored | st.lists(stored, max_size=3), max_size=12),
    st.sampled_from(["a", "a.b", "c d", "é"]),
    st.lists(tests, min_size=1, max_size=6),
)
def test_random_values_of_one_field(held: list[Any], field: str, asked: list[Any]) -> None:
    """Fewer names, so that more matches."""
    nested = []
    for value in held:
        for name in reversed(field.split(".")):
            value = {name: value}
        nested.append(value)
    agree(nested, [{field: test} for test in asked])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=1500, deadline=None)
@given(st.lists(payloads, max_size=20), st.lists(filters, min_size=1, max_size=8))
def test_random_payloads_and_filters_at_length(held: list[Any], asked: list[dict[str, Any]]) -> None:
    agree(held, asked)
