"""A filter means the same in Python and in SQLite, with and without indexes, and says what is wrong with it."""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from filtering import MEANING, NEAR, NUMBERS, STRINGS, asked_for, filters, paths, payloads, stored, tests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from index.errors import InvalidQuery
from index.filters import MAX_CONDITIONS, MAX_DEPTH, MAX_FIELD, MAX_VALUES, index_expression, index_statements, install
from index.filters import parse as condition
from index.items import Item
from index.migrations import migrate

DECLARED = ["a", "b", "a.b", "a.a", "c d", "é", "'", "日本"]


def store(*, indexed: bool) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    install(db)
    for number, field in enumerate(DECLARED if indexed else []):
        for statement in index_statements(field, f"declared{number}"):
            db.execute(statement)
    return db


def fill(db: sqlite3.Connection, payloads: list[dict[str, Any] | None]) -> None:
    db.executemany(
        "INSERT INTO items (id, code, seal, payload, digest) VALUES (?, x'00', 0, ?, x'00')",
        [(str(number), Item(str(number), b"\0", payload).payload_text()) for number, payload in enumerate(payloads)],
    )


STORES = {False: store(indexed=False), True: store(indexed=True)}


def agree(payloads: list[dict[str, Any] | None], filter: dict[str, Any]) -> None:
    """`matches` of the payloads as they are read back, and `where` in both stores, are one."""
    asked = condition(filter)
    want = [int(asked.matches(payload)) for payload in json.loads(json.dumps(payloads))]
    sql, values = asked.where()
    for indexed, db in STORES.items():
        db.execute("BEGIN")
        try:
            fill(db, payloads)
            got = [row[0] for row in db.execute(f"SELECT {sql} FROM items ORDER BY key", values)]
            assert got == want, (indexed, filter)
            for word, value in (("", 1), ("NOT", 0)):
                found = [int(row[0]) for row in db.execute(f"SELECT id FROM items WHERE {word} {sql}", values)]
                assert sorted(found) == [place for place, one in enumerate(want) if one == value], (indexed, filter)
        finally:
            db.execute("ROLLBACK")


# -- what they mean ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("filter", "found", "left"), MEANING, ids=lambda value: json.dumps(value)[:40])
def test_what_matches(filter: dict[str, Any], found: list[Any], left: list[Any]) -> None:
    asked = condition(filter)
    assert [payload for payload in found if not asked.matches(payload)] == []
    assert [payload for payload in left if asked.matches(payload)] == []
    agree([*found, *left], filter)


# -- Python and SQLite agree ---------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.lists(payloads, max_size=6), filters)
def test_python_and_sqlite_agree(payloads: list[dict[str, Any] | None], filter: dict[str, Any]) -> None:
    agree(payloads, filter)


@settings(max_examples=300, deadline=None)
@given(st.lists(stored | st.lists(stored, max_size=3), max_size=10), st.sampled_from([*DECLARED, "b.b", '"']), tests)
@example([[True, 1], "a\0", ["a\0"], 2**63], "a", {"$in": ["a", 1, 2.0**63]})
def test_they_agree_on_one_field(held: list[Any], field: str, test: Any) -> None:
    """Fewer names, so that more matches."""
    payloads: list[dict[str, Any] | None] = []
    for value in held:
        for name in reversed(field.split(".")):
            value = {name: value}
        payloads.append(value)
    agree(payloads, {field: test})
    for value in held:
        if not isinstance(value, list) and not (isinstance(value, int) and value.bit_length() > 63):
            agree(payloads, {field: value})


def test_they_agree_on_all_pairs() -> None:
    """Every number, and every string, against each other, under every operator, alone and in a list."""
    large = [2**63, 2**63 + 1, -(2**63) - 1, int(1e22), int(1e22) + 1, int(1e30), 10**30, 10**400, True, None]
    held = [*NUMBERS, *NEAR, *STRINGS, *large]
    payloads: list[dict[str, Any] | None] = [{"a": value} for value in held] + [{"a": [value]} for value in held]
    for bound, name in itertools.product(
        [*NUMBERS[::2], *NEAR[::3], *STRINGS[::2]], ["$eq", "$gt", "$gte", "$lt", "$lte"]
    ):
        agree(payloads, {"a": {name: bound}})


# -- laws ----------------------------------------------------------------------------------------------------------

LAWS: list[tuple[str, Any, Any]] = [
    ("ne", lambda f, v, w: {f: {"$ne": v}}, lambda f, v, w: {"$not": {f: v}}),
    ("ne and not", lambda f, v, w: {f: {"$ne": v}}, lambda f, v, w: {f: {"$not": {"$eq": v}}}),
    ("in is or", lambda f, v, w: {f: {"$in": [v, w]}}, lambda f, v, w: {"$or": [{f: v}, {f: w}]}),
    ("nin", lambda f, v, w: {f: {"$nin": [v, w]}}, lambda f, v, w: {"$not": {f: {"$in": [v, w]}}}),
    ("nin is and", lambda f, v, w: {f: {"$nin": [v, w]}}, lambda f, v, w: {f: {"$ne": v}, "$not": {f: w}}),
    ("not exists", lambda f, v, w: {f: {"$exists": False}}, lambda f, v, w: {"$not": {f: {"$exists": True}}}),
    (
        "De Morgan",
        lambda f, v, w: {"$not": {"$and": [{f: v}, {"b": w}]}},
        lambda f, v, w: {"$or": [{"$not": {f: v}}, {"$not": {"b": w}}]},
    ),
    (
        "De Morgan, too",
        lambda f, v, w: {"$not": {"$or": [{f: v}, {"b": w}]}},
        lambda f, v, w: {"$and": [{f: {"$ne": v}}, {"b": {"$ne": w}}]},
    ),
    ("twice", lambda f, v, w: {"$not": {"$not": {f: v}}}, lambda f, v, w: {f: v}),
    ("members are and", lambda f, v, w: {f: v, "$or": [{"b": w}]}, lambda f, v, w: {"$and": [{f: v}, {"b": w}]}),
    ("alone", lambda f, v, w: {"$or": [{f: v}]}, lambda f, v, w: {f: {"$eq": v}}),
    ("found is there", lambda f, v, w: {f: v, "$not": {f: {"$exists": True}}}, lambda f, v, w: {"$not": {}}),
]


@pytest.mark.parametrize(("left", "right"), [pytest.param(left, right, id=name) for name, left, right in LAWS])
@settings(max_examples=40, deadline=None)
@given(st.lists(payloads, min_size=1, max_size=4), paths, asked_for, asked_for)
def test_laws(left: Any, right: Any, payloads: list[dict[str, Any] | None], field: str, v: Any, w: Any) -> None:
    one, two = condition(left(field, v, w)), condition(right(field, v, w))
    assert [one.matches(payload) for payload in payloads] == [two.matches(payload) for payload in payloads]


# -- the canonical text --------------------------------------------------------------------------------------------


def turned(filter: Any) -> Any:
    """The same filter with all its members and alternatives the other way round."""
    if isinstance(filter, dict):
        return {name: turned(value) for name, value in reversed(filter.items())}
    return [turned(value) for value in reversed(filter)] if isinstance(filter, list) else filter


@settings(max_examples=200, deadline=None)
@given(filters)
def test_the_text_does_not_depend_on_the_order(filter: dict[str, Any]) -> None:
    asked = condition(filter)
    assert condition(turned(filter)).text == asked.text
    assert condition(turned(filter)) == asked
    again = condition(json.loads(asked.text))
    assert (again, again.text, again.fields()) == (asked, asked.text, asked.fields())


def test_texts_tell_filters_apart() -> None:
    asked: list[dict[str, Any]] = [
        {}, {"$not": {}}, {"a": 1}, {"a": True}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": 1, "b": 1},
        {"a": {"$ne": 1}}, {"a": {"$gt": 1}}, {"a": {"$in": [1, 2]}}, {"a": {"$in": []}}, {"a": {"$exists": True}},
        {"$or": [{"a": 1}, {"b": 1}]},
    ]  # fmt: skip
    assert len({condition(filter).text for filter in asked}) == len(asked)
    assert condition({"a": 7.0}).text == condition({"a": 7}).text == '{"a":{"$eq":7}}'
    assert condition({"b": 1, "a": {"$lt": 2, "$gte": 1}}).text == '{"$and":[{"a":{"$gte":1,"$lt":2}},{"b":{"$eq":1}}]}'
    assert condition({"a": 1, "$or": [{"b.c": 1}, {"$not": {"d": 1}}]}).fields() == {"a", "b.c", "d"}
    assert condition({}).fields() == frozenset()


# -- indexes are used ----------------------------------------------------------------------------------------------

SEARCHES: list[tuple[dict[str, Any], set[str]]] = [
    ({"n": 7}, "n_equal"),
    ({"n": "x"}, "n_equal"),
    ({"n": None}, "n_equal"),
    ({"n": {"$in": [1, 2, "x"]}}, "n_equal"),
    ({"n": {"$in": list(range(100))}}, "n_equal"),
    ({"n": {"$gt": 990}}, "n_equal n_order"),
    ({"n": {"$lte": 0.5}}, "n_equal n_order"),
    ({"n": {"$gte": 3, "$lt": 9}}, "n_equal n_order"),
    ({"n": {"$gte": "x", "$lt": "y"}}, "n_equal n_order"),
    ({"n": 7, "other": 1}, "n_equal"),
    ({"n": {"$gte": 3, "$lt": 9}, "other": {"$ne": 1}}, "n_equal n_order"),
    ({"$and": [{"n": 7}, {"$or": [{"other": 1}, {"other": 2}]}]}, "n_equal"),
    ({"$or": [{"n": 7}, {"o.p": "x"}]}, "n_equal o_equal"),
    ({"$or": [{"n": {"$lt": 3}}, {"o.p": "x"}], "other": 1}, "n_equal n_order o_equal"),
]


@pytest.fixture(scope="module", params=["fresh", "analyzed"])
def declared(request: pytest.FixtureRequest) -> Iterator[sqlite3.Connection]:
    """A store with 2,000 items and indexes on `n` and `o.p`."""
    db = store(indexed=False)
    fill(db, [{"n": number % 1000, "o": {"p": f"{number % 700}"}, "other": number % 3} for number in range(2000)])
    for field, name in (("n", "n"), ("o.p", "o")):
        for statement in index_statements(field, name):
            db.execute(statement)
            db.execute(statement)
    if request.param == "analyzed":
        db.execute("ANALYZE")
    yield db
    db.close()


@pytest.mark.parametrize(("filter", "indexes"), SEARCHES, ids=lambda value: str(value)[:50])
def test_declared_fields_are_searched_by_index(
    declared: sqlite3.Connection, filter: dict[str, Any], indexes: str
) -> None:
    sql, values = condition(filter).where()
    plan = [row[3] for row in declared.execute(f"EXPLAIN QUERY PLAN SELECT key FROM items WHERE {sql}", values)]
    touched = [line for line in plan if " items" in line]
    assert touched
    assert all(line.startswith("SEARCH items USING INDEX ") for line in touched), plan
    assert {line.split()[4] for line in touched} == set(indexes.split()), plan


def test_an_index_may_have_any_name_and_field() -> None:
    db = store(indexed=False)
    for number, field in enumerate(["it's", "日本", "a b.c[0]", "$.x", "é" * MAX_FIELD]):
        for statement in index_statements(field, f'"; DROP TABLE items; --{number}'):
            db.execute(statement)
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchone() == (10,)
    db.close()


# -- what is refused -----------------------------------------------------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    filter: dict[str, Any] = {"a": 1}
    for _ in range(depth - 1):
        filter = {"$not": filter}
    return filter


def many(count: int) -> dict[str, Any]:
    return {"$or": [{f"f{number}": number} for number in range(count)]}


REFUSED: list[tuple[Any, str, str]] = [
    # filter, where, and the way out
    ([], "filter: ", "{'label': 7}; this is list of 0"),
    ("x", "filter: ", 'this is "x"'),
    (None, "filter: ", "this is null"),
    ({"$and": {}}, "filter.$and: ", "list of one or more filters"),
    ({"$or": []}, "filter.$or: ", "list of one or more filters; this is list of 0"),
    ({"$or": [{"a": 1}, 3]}, "filter.$or[1]: ", "{'label': 7}; this is 3"),
    ({"$not": []}, "filter.$not: ", "{'label': 7}"),
    ({"$nor": []}, "filter.$nor: ", "$and $or $not"),
    ({"$gt": 3}, "filter.$gt: ", "behind a field $eq $ne"),
    ({"a": {"$regex": "x"}}, "filter.a.$regex: ", "$eq $ne $in $nin $gt $gte $lt $lte $exists $not"),
    ({"author": {"name": "x"}}, "filter.author.name: ", "'author.name'"),
    ({"a": {"$and": [{"$gt": 1}]}}, "filter.a.$and: ", "on a field there are $eq"),
    ({"a": {}}, "filter.a: ", "{'$exists': true}"),
    ({"a": {"$not": {}}}, "filter.a.$not: ", "{'$exists': true}"),
    ({"a": [1, 2]}, "filter.a.$eq: ", "use $in for one of several"),
    ({"a": {"$eq": {"b": 1}}}, "filter.a.$eq: ", "'author.name', to look into an object; this is dict of 1"),
    ({"a": {"$ne": [1]}}, "filter.a.$ne: ", "use $in"),
    ({"a": {"$in": [1, [2]]}}, "filter.a.$in[1]: ", "list of 1"),
    ({"a": {"$in": 1}}, "filter.a.$in: ", "use $eq"),
    ({"a": {"$nin": "abc"}}, "filter.a.$nin: ", 'this is "abc"'),
    ({"a": {"$exists": 1}}, "filter.a.$exists: ", "true or false; this is 1"),
    ({"a": {"$gt": None}}, "filter.a.$gt: ", "use $eq; this is null"),
    ({"a": {"$gte": True}}, "filter.a.$gte: ", "this is true"),
    ({"a": {"$lt": [1]}}, "filter.a.$lt: ", "list of 1"),
    ({"a": {"$lte": math.nan}}, "filter.a.$lte: ", "finite"),
    ({"a": math.inf}, "filter.a.$eq: ", "finite"),
    ({"a": {"$in": [-math.inf]}}, "filter.a.$in[0]: ", "finite"),
    ({"a": 2**63}, "filter.a.$eq: ", "64 bits, this 65; write it as a decimal, such as 1.0e30"),
    ({"a": -(2**63) - 1}, "filter.a.$eq: ", "64 bits"),
    ({"a": {"$gt": 10**400}}, "filter.a.$gt: ", "64 bits, this 1,330"),
    ({"a": "x\ud800"}, "filter.a.$eq: ", "surrogate"),
    ({"\ud800": 1}, "filter.?: ", "surrogate"),
    ({"": 1}, "filter.: ", "empty"),
    ({"a..b": 1}, "filter.a..b: ", "single dots"),
    ({".a": 1}, "filter..a: ", "single dots"),
    ({"a.": 1}, "filter.a.: ", "single dots"),
    ({"a" * (MAX_FIELD + 1): 1}, f"filter.{'a' * 63}…: ", "513 characters, the limit is 512"),
    ({"a": {"$exists": "v" * 100}}, "filter.a.$exists: ", f'"{"v" * 62}…'),
    ({"a": {"$" + "o" * 100: 1}}, f"filter.a.${'o' * 62}…: ", "unknown operator"),
    (nested(MAX_DEPTH + 1), "filter" + ".$not" * MAX_DEPTH + ": ", f"level {MAX_DEPTH + 1} of"),
    ({"a": {"$not": nested(MAX_DEPTH)}}, "filter.a" + ".$not" * MAX_DEPTH + ": ", "the limit"),
    (many(MAX_CONDITIONS + 1), "filter: ", "257 conditions, the limit is 256; use $in"),
    ({"a": {"$in": list(range(MAX_VALUES + 1))}}, "filter.a.$in: ", "10,001 values, the limit is 10,000"),
    ({"a": {"$in": list(range(6000))}, "b": {"$nin": list(range(6000))}}, "filter: ", "12,000 values in all"),
]  # fmt: skip


@pytest.mark.parametrize(("filter", "at", "way"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_refused(filter: Any, at: str, way: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        condition(filter)
    message = str(refusal.value)
    assert message.startswith(at), message
    assert way in message, message
    assert len(message) < 400
    message.encode()


@pytest.mark.parametrize("field", ['"', "a\\b", "a.\n", "", "a..b", "a" * (MAX_FIELD + 1), "\udc00"])
def test_fields_that_cannot_be_indexed(field: str) -> None:
    for refuse in (index_expression, lambda field: index_statements(field, "name")):
        with pytest.raises(InvalidQuery, match=r"^field"):
            refuse(field)


def test_what_is_just_within_the_limits_works_in_any_sqlite() -> None:
    """Under the limits that SQLite has by default, whatever this build allows."""
    db = store(indexed=False)
    db.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
    db.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 1000)
    fill(db, [{"a": 1}, {"a": [9999.0]}, {"a": "x"}, None])
    long = {"$or": [{f"{number:03}{'é' * (MAX_FIELD - 3)}": {"$gt": 1, "$lt": 3}} for number in range(MAX_CONDITIONS)]}
    several = {f"f{number}": {"$nin": list(range(number * 39, number * 39 + 39))} for number in range(MAX_CONDITIONS)}
    for filter, want in (
        (nested(MAX_DEPTH), 3),
        (many(MAX_CONDITIONS), 0),
        (long, 0),
        (several, 4),
        ({"a": {"$in": list(range(MAX_VALUES))}}, 2),
        ({"a": {"$nin": list(range(MAX_VALUES))}}, 2),
    ):
        sql, values = condition(filter).where()
        assert db.execute(f"SELECT count(*) FROM items WHERE {sql}", values).fetchone() == (want,)
    db.close()
