"""Conditions on payloads: parsed once, decided in Python or in SQLite with the same result.

A filter is JSON. `{field: value}` asks for equality, `{field: {operator: operand, ..}}` for all of its operators,
`{"$and": [..]}`, `{"$or": [..]}` and `{"$not": {..}}` combine filters; all members of an object must hold, `{}` holds
for every item. On a field: `$eq $ne $in $nin $gt $gte $lt $lte $exists $not`.

- `a.b` is the member `b` of the object `a`. A dot always separates and a `$` in front always means an operator, so
  payload names written like that cannot be reached. Paths do not enter lists. An item without payload has no field.
- Equality is typed: numbers equal numbers of the same mathematical value (7 and 7.0), strings the same string,
  `true` only `true` (not 1), `null` only a `null` that is there.
- Order is between two numbers, or two strings (by code point); a stored value of another type does not match.
- A list in the field matches where one of its elements does, for each operator on its own, one level deep. Objects,
  and lists in lists, match `$exists` only.
- `$ne`, `$nin`, `$not` are the exact opposites of `$eq`, `$in` and their operand: items without the field match.
"""

from __future__ import annotations

import functools
import json
import math
import operator
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InvalidQuery
from .items import members

MAX_DEPTH = 16  # levels of $and, $or, $not: people write up to four, and Python and SQLite recurse over them
MAX_CONDITIONS = 256  # fields asked for: each may be looked up in every item, and SQLite has to plan them all
MAX_MEMBERS = 4_096  # as it is written, with operators and repetitions: looked at before anything is made of it
MAX_VALUES = 10_000  # in all $in and $nin: each takes up to two of the 32,766 parameters of a SQLite statement
MAX_FIELD = 512  # characters of a dotted path, which the SQL repeats; as long as an id may be
INTEGERS = range(-(2**63), 2**63)  # what SQLite compares exactly; stored ones may be longer and still count exactly

_TYPES = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
_ORDERS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
_OPPOSITES = {"$ne": "$eq", "$nin": "$in"}
_ON_FIELDS = f"$eq $ne $in $nin {' '.join(_ORDERS)} $exists $not"

Typed = tuple[str, Any]  # a value behind the name of its type, so that `true` and 1 differ
Sql = tuple[str, list[str | int | float | None]]  # an expression and its parameters


class Condition(ABC):
    """What a filter asks of a payload."""

    @abstractmethod
    def matches(self, payload: Mapping[str, Any] | None) -> bool:
        """Whether an item with this payload is meant; this is the definition."""

    @abstractmethod
    def where(self) -> Sql:
        """The same over the column `payload`, as 0 or 1; it must hold what `Item.payload_text` wrote, or NULL.

        The connection must have gone through `install`. Indexes by `index_statements` are used.
        """

    @abstractmethod
    def form(self) -> dict[str, Any]:
        """The same as a filter, written in one way only."""

    @abstractmethod
    def leaves(self) -> Iterator[Leaf]:
        """The conditions on single fields."""

    @property
    def text(self) -> str:
        """Canonical JSON, the same for filters that differ in the order of members, or in 7 for 7.0, only."""
        return _canonical(self.form())

    def fields(self) -> frozenset[str]:
        """The fields it looks at."""
        return frozenset(leaf.field for leaf in self.leaves())


@dataclass(frozen=True)
class Group(Condition):
    """`$and`, `$or`, or `$not` of a single part."""

    operator: str
    parts: tuple[Condition, ...]

    def matches(self, payload: Mapping[str, Any] | None) -> bool:
        found = (part.matches(payload) for part in self.parts)
        return all(found) if self.operator == "$and" else any(found) != (self.operator == "$not")

    def where(self) -> Sql:
        parts = [part.where() for part in self.parts]
        sql = (" OR " if self.operator == "$or" else " AND ").join(sql for sql, _ in parts) or "1"
        return f"({'NOT ' * (self.operator == '$not')}{sql})", [value for _, values in parts for value in values]

    def form(self) -> dict[str, Any]:
        forms = [part.form() for part in self.parts]
        return {self.operator: forms[0] if self.operator == "$not" else forms} if forms else {}

    def leaves(self) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.leaves()


@dataclass(frozen=True)
class Leaf(Condition):
    """The field is there; the classes below also ask what it holds."""

    field: str

    def matches(self, payload: Mapping[str, Any] | None) -> bool:
        value: Any = payload
        for name in self.field.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return False
            value = value[name]
        return self._holds(value if isinstance(value, list) else [value])

    def where(self) -> Sql:
        return self._sql() if _addressable(self.field) else ("hb_matches(payload, ?)", [self.text])

    def form(self) -> dict[str, Any]:
        return {self.field: {"$exists": True}}

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def _holds(self, values: list[Any]) -> bool:
        """Whether a field with these elements, or this one value, matches."""
        return True

    def _sql(self) -> Sql:
        return f"({_json(self.field)} > '')", []


@dataclass(frozen=True)
class In(Leaf):
    """The field is one of `values`."""

    values: frozenset[Typed]

    def _holds(self, values: list[Any]) -> bool:
        return any(_typed(value) in self.values for value in values)

    def form(self) -> dict[str, Any]:
        values = [value for _, value in sorted(self.values)]
        return {self.field: {"$eq": values[0]} if len(values) == 1 else {"$in": values}}

    def _sql(self) -> Sql:
        # What is equal has the same canonical JSON, but for the ways to write a whole number. The elements of a list
        # come without theirs: SQL finds what looks equal, such as 1 and true, and `matches` decides.
        stored = _json(self.field)
        texts = [text for typed in sorted(self.values) for text in _texts(typed)]
        sql = f"""({stored} IN ({", ".join("?" * len(texts))}) OR ({stored} BETWEEN '[' AND ']' AND CASE WHEN EXISTS (
            SELECT 1 FROM json_each(payload, {_path(self.field)})
            WHERE ifnull(value, 0) IN (SELECT ifnull(value, 0) FROM json_each(?))
            ) THEN hb_matches(payload, ?) ELSE 0 END))"""
        return sql, [*texts, f"[{','.join(texts)}]", self.text]


@dataclass(frozen=True)
class Range(Leaf):
    """The field is on the right side of all `bounds`, each an order and a number or string."""

    bounds: tuple[tuple[str, Any], ...]

    def _holds(self, values: list[Any]) -> bool:
        return all(
            any(_typed(value)[0] == _typed(bound)[0] and _ORDERS[order](value, bound) for value in values)
            for order, bound in self.bounds
        )

    def form(self) -> dict[str, Any]:
        return {self.field: dict(self.bounds)}

    def _sql(self) -> Sql:
        arms = [self._bound(order, bound) for order, bound in self.bounds]
        single = " AND ".join(sql for sql, _ in arms)
        sql = f"(({single}) OR ({_json(self.field)} BETWEEN '[' AND ']' AND hb_matches(payload, ?)))"
        return sql, [*(value for _, values in arms for value in values), self.text]

    def _bound(self, order: str, bound: Any) -> Sql:
        # SQLite cuts strings at NUL, and may read the last digit of a decimal wrongly: close to the bound, look again.
        stored, value = _json(self.field), _value(self.field)
        side, equal = ("<" if order.startswith("$lt") else ">"), "=" * order.endswith("e")
        if isinstance(bound, str):
            first, near, far = "= '\"'", *[bound.partition("\0")[0]] * 2
        else:
            slack = (abs(bound) * 1e-12 + 1e-300) * (1 if side == "<" else -1)
            first, near, far = "BETWEEN '-' AND '9'", bound + slack, bound - slack
        sql = f"""substr({stored}, 1, 1) {first} AND {value} {side}= ? AND ({value} {side} ? OR CASE
            WHEN {stored} = ? THEN {len(equal)} WHEN typeof({value}) = 'integer' THEN {value} {side}{equal} ?
            ELSE hb_matches(payload, ?) END)"""
        return sql, [near, far, _canonical(bound), bound, Range(self.field, ((order, bound),)).text]


# -- SQLite --------------------------------------------------------------------------------------------------------


def install(db: sqlite3.Connection) -> None:
    """Give `db` the function by which `where` asks `matches` where SQL alone would be wrong."""
    db.create_function("hb_matches", 2, _matches, deterministic=True)


def index_expression(field: str) -> str:
    """What `where` looks up for $eq, $in and $exists: the JSON text of the field, '' where it is absent."""
    _check_field(field, "field")
    rule = "names with quotes, backslashes or control characters have no index; filters find them without"
    _check(_addressable(field), f"field {_cut(field)!r}", rule)
    return _json(field)


def index_statements(field: str, name: str) -> list[str]:
    """What makes filters on `field` fast: an index for equality and lists, and one for order."""
    kinds = {"equal": index_expression(field), "order": _value(field)}
    name = name.replace('"', '""')
    return [f'CREATE INDEX IF NOT EXISTS "{name}_{kind}" ON items ({sql})' for kind, sql in kinds.items()]


def _matches(payload: str | None, text: str) -> bool:
    return _parsed(text).matches(None if payload is None else json.loads(payload))


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> Condition:
    return parse(json.loads(text))


def value_of(field: str) -> str:
    """SQL for the value of the payload field `field`, NULL where there is none. Raises `InvalidQuery`."""
    parse({field: None})  # says what is wrong with the name
    if not _addressable(field):
        raise InvalidQuery("the name of the field holds a character that must be escaped in JSON")
    return _value(field)


def _json(field: str) -> str:
    return f"ifnull(payload -> {_path(field)}, '')"


def _value(field: str) -> str:
    return f"json_extract(payload, {_path(field)})"


def _path(field: str) -> str:
    return "'$" + "".join(f'."{name}"' for name in field.replace("'", "''").split(".")) + "'"


def _addressable(field: str) -> bool:
    """Whether SQLite has a path to it: paths know no escapes."""
    return _canonical(field) == f'"{field}"'


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _typed(value: Any) -> Typed:
    return (_TYPES[type(value)], value) if type(value) in _TYPES else ("container", None)


def _texts(typed: Typed) -> list[str]:
    """The canonical JSON of everything that equals it."""
    kind, value = typed
    if kind != "number":
        return [_canonical(value)]
    same = {_canonical(twin) for twin in (value, float(value), int(value)) if twin == value}
    return sorted(same if value else {"0", "0.0", "-0.0"})


# -- parsing -------------------------------------------------------------------------------------------------------


def parse(filter: Mapping[str, Any]) -> Condition:
    """The condition that `filter` states. Raises `InvalidQuery`, which says where in the filter and what to do."""
    rule = f"it has more than {MAX_MEMBERS:,} members; use $in, or several searches"
    _check(members(filter) <= MAX_MEMBERS, "filter", rule)
    condition = _filter(filter, "filter", 1)
    leaves = list(condition.leaves())
    rule = f"it has {len(leaves):,} conditions, the limit is {MAX_CONDITIONS}; use $in, or several searches"
    _check(len(leaves) <= MAX_CONDITIONS, "filter", rule)
    values = sum(len(leaf.values) for leaf in leaves if isinstance(leaf, In) and len(leaf.values) > 1)
    rule = f"$in and $nin have {values:,} values in all, the limit is {MAX_VALUES:,}; use several searches"
    _check(values <= MAX_VALUES, "filter", rule)
    return condition


def _filter(value: Any, at: str, depth: int) -> Condition:
    _check(isinstance(value, Mapping), at, "a filter is an object such as {'label': 7}", value)
    _check_depth(depth, at)
    return _group("$and", [_member(name, operand, f"{at}.{_cut(name)}", depth) for name, operand in value.items()])


def _member(name: str, operand: Any, at: str, depth: int) -> Condition:
    if name in ("$and", "$or"):
        _check(isinstance(operand, list) and operand, at, "it takes a list of one or more filters", operand)
        return _group(name, [_filter(part, f"{at}[{place}]", depth + 1) for place, part in enumerate(operand)])
    if name == "$not":
        return _not(_filter(operand, at, depth + 1))
    _check(name[:1] != "$", at, f"unknown operator; known are $and $or $not, and behind a field {_ON_FIELDS}")
    _check_field(name, at)
    return _on_field(name, operand, at, depth)


def _on_field(field: str, value: Any, at: str, depth: int) -> Condition:
    operators = value if isinstance(value, Mapping) else {"$eq": value}
    _check_depth(depth, at)
    _check(operators, at, "an object holds one or more operators; for any value write {'$exists': true}", value)
    parts, bounds = [], []
    for name, operand in operators.items():
        here = f"{at}.{_cut(name)}"
        if name in _ORDERS:
            kind, bound = _scalar(operand, here)
            _check(kind in ("number", "string"), here, "only numbers and strings have an order; use $eq", operand)
            bounds.append((name, bound))
        else:
            parts.append(_operator(name, field, operand, here, depth))
    return _group("$and", [*parts, Range(field, tuple(sorted(bounds)))] if bounds else parts)


def _operator(name: str, field: str, operand: Any, at: str, depth: int) -> Condition:
    if name in _OPPOSITES:
        return _not(_operator(_OPPOSITES[name], field, operand, at, depth))
    if name == "$not":
        return _not(_on_field(field, operand, at, depth + 1))
    if name == "$eq":
        return In(field, frozenset([_scalar(operand, at)]))
    if name == "$in":
        _check(isinstance(operand, list), at, "it takes a list; for a single value use $eq or $ne", operand)
        rule = f"it has {len(operand):,} values, the limit is {MAX_VALUES:,}; use several searches"
        _check(len(operand) <= MAX_VALUES, at, rule)
        return In(field, frozenset(_scalar(one, f"{at}[{place}]") for place, one in enumerate(operand)))
    way = "to look into an object, write a path with dots, such as 'author.name'"
    _check(name == "$exists", at, f"unknown operator; on a field there are {_ON_FIELDS}; {way}")
    _check(isinstance(operand, bool), at, "it takes true or false", operand)
    return Leaf(field) if operand else _not(Leaf(field))


def _not(part: Condition) -> Condition:
    return Group("$not", (part,))


def _group(operator: str, parts: Iterable[Condition]) -> Condition:
    """The parts as one condition: flat, without repetition, in the order of their texts."""
    flat: dict[str, Condition] = {}
    for part in parts:
        inner = part.parts if isinstance(part, Group) and part.operator == operator else (part,)
        flat |= {one.text: one for one in inner}
    ordered = tuple(flat[text] for text in sorted(flat))
    return ordered[0] if len(ordered) == 1 else Group(operator, ordered)


def _scalar(value: Any, at: str) -> Typed:
    """A value in a filter, checked; whole numbers become integers."""
    kind, _ = typed = _typed(value)
    way = "use $in for one of several, and a path with dots, such as 'author.name', to look into an object"
    _check(kind != "container", at, f"a value is a string, number, boolean or null; {way}", value)
    if kind == "string":
        _check_unicode(value, at)
    if kind != "number":
        return typed
    finite = isinstance(value, int) or math.isfinite(value)
    _check(finite, at, "a number is finite; leave out a bound that excludes nothing", value)
    whole = value == int(value) and int(value) in INTEGERS
    rule = f"an integer has up to 64 bits, this {int(value).bit_length() + 1:,}; write it as a decimal, such as 1.0e30"
    _check(whole or isinstance(value, float), at, rule)
    return kind, int(value) if whole else value


def _check_depth(depth: int, at: str) -> None:
    rule = f"this is level {depth} of $and, $or and $not, the limit is {MAX_DEPTH}; write it flatter"
    _check(depth <= MAX_DEPTH, at, rule)


def _check_field(field: str, at: str) -> None:
    _check_unicode(field, at)
    rule = f"a field has {len(field):,} characters, the limit is {MAX_FIELD}; store it by a shorter name"
    _check(len(field) <= MAX_FIELD, at, rule)
    _check(all(field.split(".")), at, "a field is names with single dots between; store it by a name that is not empty")


def _check_unicode(text: str, at: str) -> None:
    whole = text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
    _check(whole, at, "half of a surrogate pair cannot be stored; send valid Unicode")


def _check(right: object, at: str, rule: str, *seen: Any) -> None:
    if right:
        return
    for value in seen:
        size = f"{type(value).__name__} of {len(value):,}" if isinstance(value, list | Mapping) else None
        rule += f"; this is {size or _cut(json.dumps(value, ensure_ascii=False, default=str))}"
    raise InvalidQuery(f"{at}: {rule}")


def _cut(text: str) -> str:
    """Up to 64 characters of what the caller wrote, fit to print."""
    return (text if len(text) <= 64 else text[:63] + "…").encode(errors="replace").decode()
