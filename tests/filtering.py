"""Filters, the payloads that they match or not, and random ones of both: for every engine that decides filters."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

PLAIN = ["a", "b", "c d", "é", "'", "x[0]", "日本", "#-1", "a$", "\x7f"]
STRANGE = ['"', "q\\", "nul\0", "\n", '\\"', "\\u0041"]  # SQLite has no path to them
NAMES = [*PLAIN, *STRANGE]

MEANING: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    # filter, payloads that match, payloads that do not
    ({}, [None, {}, {"a": 1}], []),
    ({"a": 7}, [{"a": 7}, {"a": 7.0}, {"a": [1, 7]}], [None, {}, {"a": "7"}, {"a": [[7]]}, {"a": {"a": 7}}]),
    ({"a": 7.0}, [{"a": 7}, {"a": 7.0}], [{"a": 7.000000000000001}]),
    ({"a": True}, [{"a": True}, {"a": [False, True]}], [{"a": 1}, {"a": 1.0}, {"a": "true"}, {"a": [1]}, {"a": False}]),
    ({"a": 1}, [{"a": 1}, {"a": [True, 1]}], [{"a": True}, {"a": [True]}, {"a": "1"}]),
    ({"a": 0}, [{"a": 0}, {"a": 0.0}, {"a": -0.0}, {"a": [-0.0]}], [{"a": False}, {"a": 5e-324}, {"a": None}]),
    ({"a": None}, [{"a": None}, {"a": [None]}], [None, {}, {"a": 0}, {"a": "null"}, {"a": []}, {"a": ["null", 0]}]),
    ({"a": ""}, [{"a": ""}, {"a": [""]}], [None, {}, {"a": None}, {"a": "\0"}, {"a": ["\0"]}]),
    ({"a": "x"}, [{"a": "x"}, {"a": ["x"]}], [{"a": "x\0"}, {"a": "X"}, {"a": "x "}, {"a": ["x\0"]}, {"a": {"x": 1}}]),
    ({"a": "x\0y"}, [{"a": "x\0y"}, {"a": ["x\0y"]}], [{"a": "x"}, {"a": "x\0"}, {"a": "x\0z"}, {"a": ["x"]}]),
    ({"a": "[1]"}, [{"a": "[1]"}], [{"a": [1]}]),
    ({"a": "\\u0000"}, [{"a": "\\u0000"}], [{"a": "\0"}]),
    ({"a": 2**53 + 1}, [{"a": 2**53 + 1}], [{"a": 2**53}, {"a": 2.0**53}]),
    ({"a": 2.0**53}, [{"a": 2**53}, {"a": 2.0**53}, {"a": [2**53]}], [{"a": 2**53 + 1}, {"a": [2**53 + 1]}]),
    ({"a": 2**63 - 1}, [{"a": 2**63 - 1}], [{"a": 2**63}, {"a": 2.0**63}]),
    ({"a": 2.0**63}, [{"a": 2**63}, {"a": 2.0**63}, {"a": [2**63]}], [{"a": 2**63 - 1}, {"a": 2**63 + 1}]),
    ({"a": 1e30}, [{"a": 1e30}, {"a": int(1e30)}, {"a": [int(1e30)]}], [{"a": 10**30}, {"a": [10**30]}]),
    ({"a.b": 1}, [{"a": {"b": 1}}, {"a": {"b": [1]}}], [{"a.b": 1}, {"a": [{"b": 1}]}, {"a": 1}, {"b": 1}]),
    ({"a.0": 1}, [{"a": {"0": 1}}], [{"a": [1]}]),
    ({"a": {"$eq": 1}}, [{"a": 1}], [{"a": 2}]),
    ({"a": {"$ne": 1}}, [None, {}, {"a": True}, {"a": []}, {"a": [2]}], [{"a": 1}, {"a": 1.0}, {"a": [2, 1]}]),
    ({"a": {"$in": [1, "x", None]}}, [{"a": 1.0}, {"a": "x"}, {"a": None}, {"a": [2, "x"]}], [{}, {"a": True}]),
    ({"a": {"$in": []}}, [], [None, {}, {"a": None}, {"a": []}, {"a": 1}]),
    ({"a": {"$nin": [1, "x"]}}, [None, {}, {"a": True}, {"a": []}], [{"a": 1}, {"a": "x"}, {"a": [3, 1]}]),
    ({"a": {"$nin": []}}, [None, {}, {"a": 1}], []),
    ({"a": {"$gt": 1}}, [{"a": 2}, {"a": 1.5}, {"a": [0, 2]}, {"a": 10**400}], [None, {"a": 1}, {"a": "2"}]),
    ({"a": {"$gt": 0}}, [{"a": 5e-324}, {"a": 1}], [{"a": True}, {"a": -0.0}, {"a": 0.0}, {"a": -(10**400)}]),
    ({"a": {"$gte": 0.1}}, [{"a": 0.1}, {"a": 0.10000000000000002}], [{"a": 0.09999999999999999}, {"a": "0.1"}]),
    ({"a": {"$lt": 2.0**53}}, [{"a": 2**53 - 1}, {"a": -(10**400)}], [{"a": 2**53}, {"a": 2**53 + 1}]),
    ({"a": {"$gt": 2.0**53}}, [{"a": 2**53 + 1}, {"a": [2**53 + 1]}], [{"a": 2**53}, {"a": 2.0**53}]),
    ({"a": {"$gt": 2.0**63}}, [{"a": 2**63 + 1}, {"a": 10**19}], [{"a": 2**63}, {"a": 2**63 - 1}]),
    ({"a": {"$gte": 1.7976931348623157e308}}, [{"a": 10**309}, {"a": 1.7976931348623157e308}], [{"a": 1e308}]),
    ({"a": {"$lte": -(2**63)}}, [{"a": -(2**63)}, {"a": -(2**63) - 1}, {"a": -(2.0**63)}], [{"a": -(2**63) + 1}]),
    ({"a": {"$gt": "b"}}, [{"a": "ba"}, {"a": "b\0"}, {"a": "é"}, {"a": "\uffff"}], [{"a": "b"}, {"a": "B"}, {"a": 3}]),
    ({"a": {"$gt": "\uffff"}}, [{"a": "😀"}], [{"a": "\uffff"}, {"a": "\ud7ff"}]),
    ({"a": {"$lte": "b"}}, [{"a": "b"}, {"a": ""}, {"a": "a\0z"}], [{"a": "b\0"}, {"a": 1}, {"a": None}, {}]),
    ({"a": {"$lt": "b\0c"}}, [{"a": "b"}, {"a": "b\0"}, {"a": "b\0b"}], [{"a": "b\0c"}, {"a": "b\0d"}, {"a": "b\1"}]),
    ({"a": {"$gte": ""}}, [{"a": ""}, {"a": "x"}, {"a": [1, ""]}], [{"a": 1}, {"a": []}, {"a": {}}, {"a": None}]),
    ({"a": {"$lt": "~"}}, [{"a": "[1]"}, {"a": "{}"}], [{"a": [1]}, {"a": {}}, {"a": True}]),
    ({"a": {"$gte": 3, "$lt": 9}}, [{"a": 3}, {"a": 8.5}, {"a": [1, 10]}], [{"a": 9}, {"a": 2}, {"a": [1, 2]}]),
    ({"a": {"$gte": 3, "$lt": "z"}}, [{"a": [5, "x"]}], [{"a": 5}, {"a": "x"}]),
    ({"a": {"$gte": 3, "$ne": 5}}, [{"a": 4}], [{"a": 5}, {"a": [4, 5]}, {}]),
    ({"a": {"$exists": True}}, [{"a": None}, {"a": 0}, {"a": []}, {"a": {}}, {"a": ""}], [None, {}, {"b": 1}]),
    ({"a": {"$exists": False}}, [None, {}, {"b": 1}], [{"a": None}, {"a": []}]),
    ({"a": {"$not": {"$gt": 3}}}, [None, {}, {"a": 3}, {"a": "x"}, {"a": []}], [{"a": 4}, {"a": [1, 4]}]),
    ({"a": {"$not": {"$gt": 3, "$exists": True}}}, [{}, {"a": 1}], [{"a": 4}]),
    ({"a": {"$not": 3}}, [{}, {"a": 1}], [{"a": 3}]),
    ({"a": 1, "b": 2}, [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}, {"a": 2, "b": 2}]),
    ({"$and": [{"a": 1}, {"b": 2}]}, [{"a": 1, "b": 2}], [{"a": 1}]),
    ({"$or": [{"a": 1}, {"b": 2}]}, [{"a": 1}, {"b": 2}], [None, {"a": 2, "b": 1}]),
    ({"$or": [{"a": 1}, {}]}, [None, {"a": 2}], []),
    ({"$not": {"a": 1, "b": 2}}, [None, {"a": 1}], [{"a": 1, "b": 2}]),
    ({"$not": {}}, [], [None, {}, {"a": 1}]),
    ({"a": 1, "$or": [{"b": 1}, {"b": 2}], "$not": {"b": 1}}, [{"a": 1, "b": 2}], [{"a": 1, "b": 1}, {"b": 2}]),
    *(({name: 1}, [{name: 1}, {name: [1]}], [None, {}, {name: 2}, {f"{name}x": 1}]) for name in NAMES),
    *(({f"a.{name}": {"$lt": "z"}}, [{"a": {name: "y"}}], [{name: "y"}]) for name in (*NAMES, "$x")),
]  # fmt: skip


NUMBERS = [0, 1, -1, 2, 7, 0.1, 0.5, 1.5, 1e22, 1e30, 2**53, 2.0**53, 2**53 + 1, 2**63 - 1, -(2**63), 5e-324, 1e308]
NEAR = [math.nextafter(float(number), direction) for number in NUMBERS for direction in (-math.inf, math.inf)]
STRINGS = [
    "",
    "a",
    "b",
    "ab",
    "a\0",
    "a\0b",
    "\0",
    "1",
    "null",
    "true",
    "[1]",
    '"',
    "\\",
    "\n",
    "é",
    "😀",
    "\uffff",
    "'",
]
scalars = st.sampled_from([None, True, False, *NUMBERS, *NEAR, *STRINGS]) | (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
)
stored = scalars | st.sampled_from([2**63, -(2**63) - 1, int(1e22), int(1e30), 10**30, 10**400, -(10**400)])
names = st.sampled_from(["a", "b"]) | st.sampled_from(NAMES)
values = st.recursive(
    stored, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
payloads = st.none() | st.dictionaries(names | st.sampled_from(["", "a.b", "$eq"]), values, max_size=4)
paths = st.lists(names, min_size=1, max_size=2).map(".".join)
asked_for = scalars.filter(lambda value: not isinstance(value, int) or -(2**63) <= value < 2**63)
ordered = asked_for.filter(lambda value: value is not None and not isinstance(value, bool))
operators = st.fixed_dictionaries(
    {},
    optional={
        "$eq": asked_for, "$ne": asked_for, "$exists": st.booleans(),
        "$in": st.lists(asked_for, max_size=5), "$nin": st.lists(asked_for, max_size=3),
        "$gt": ordered, "$gte": ordered, "$lt": ordered, "$lte": ordered,
    },
).filter(bool)  # fmt: skip
tests = operators | operators.map(lambda inner: {"$not": inner}) | asked_for
leaves = st.dictionaries(paths, tests, min_size=1, max_size=2)
filters = st.recursive(
    leaves,
    lambda inner: st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["$and", "$or"], st.lists(inner, min_size=1, max_size=3)) | {"$not": inner}
    ),
    max_leaves=5,
)
