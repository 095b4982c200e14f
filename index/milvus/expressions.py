"""A filter as an expression of Milvus: what must hold of every item that matches, and whether that is enough.

Milvus compares JSON in ways of its own, and its releases differ. So only what is known to be safe is left to it: a
condition it cannot express is left out, which lets more items through, and whoever asked then checks those by
`Condition.matches`, the definition. An item is never lost by an expression.

A field that holds a list matches where one element does. Equality has an expression for that; for orders, every item
with a list in that field is let through (`rows.LISTS` names such fields).
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ..filters import Condition, Group, In, Leaf, Range
from .rows import LISTS

_NAME = re.compile(r"[A-Za-z0-9_ -]{1,100}")
_TEXT = re.compile(r"[A-Za-z0-9_ .,:;/@+#()=-]{0,200}")
"""Strings that need no escape, in whatever way a parser reads those."""
_EXACT_WHOLE = 2**53
_MOST_VALUES = 1_000
_SLACK = 1e-12


class Expression(NamedTuple):
    """text: holds for every item that is meant, None where nothing is known to. exact: and for no other."""

    text: str | None
    exact: bool


EVERYTHING = Expression(None, True)


def expression_of(condition: Condition | None) -> Expression:
    """What Milvus is asked for a filter."""
    if condition is None:
        return EVERYTHING
    if isinstance(condition, Group):
        return _group(condition)
    if isinstance(condition, In):
        return _in(condition)
    if isinstance(condition, Range):
        return _range(condition)
    return Expression(None, False)


def both(left: str | None, right: str | None) -> str:
    """The expression that both hold; "" for everything."""
    return " and ".join(f"({part})" for part in (left, right) if part)


def _group(group: Group) -> Expression:
    parts = [expression_of(part) for part in group.parts]
    exact = all(part.exact for part in parts)
    if group.operator == "$and":
        texts = [part.text for part in parts if part.text is not None]
        return Expression(" and ".join(f"({text})" for text in texts) or None, exact)
    if group.operator == "$or" and parts and all(part.text is not None for part in parts):
        return Expression(" or ".join(f"({part.text})" for part in parts), exact)
    return Expression(None, False)


def _in(leaf: In) -> Expression:
    place = _place(leaf)
    values = [value for _, value in leaf.values]
    if place is None or len(values) > _MOST_VALUES or not values:
        return Expression(None, False)
    parts, exact = [], True
    for kind, value in sorted(leaf.values):
        if kind == "string" and _TEXT.fullmatch(value):
            parts += [f'{place} == "{value}"', f'json_contains({place}, "{value}")']
        elif kind == "boolean":
            parts += [f"{place} == {json.dumps(value)}", f"json_contains({place}, {json.dumps(value)})"]
        elif kind == "number":
            parts.append(_near(place, value))
            parts.append(_has_list(leaf))
            exact = False
        else:
            return Expression(None, False)
    return Expression(" or ".join(dict.fromkeys(parts)), exact)


def _near(place: str, value: Any) -> str:
    """All numbers that equal `value`, and perhaps a few beside it."""
    if isinstance(value, int) and abs(value) <= _EXACT_WHOLE:
        return f"{place} == {value}"
    below, above = _below(value), _above(value)
    return f"({place} >= {below} and {place} <= {above})"


def _range(leaf: Range) -> Expression:
    place = _place(leaf)
    if place is None:
        return Expression(None, False)
    arms = []
    for order, bound in leaf.bounds:
        side = "<=" if order.startswith("$lt") else ">="
        if isinstance(bound, str):
            if not _TEXT.fullmatch(bound):
                continue
            arms.append(f'{place} {side} "{bound}"')
        else:
            arms.append(f"{place} {side} {_above(bound) if side == '<=' else _below(bound)}")
    if not arms:
        return Expression(None, False)
    return Expression(f"({' and '.join(arms)}) or {_has_list(leaf)}", False)


def _has_list(leaf: Leaf) -> str:
    return f'json_contains(payload["{LISTS}"], "{leaf.field}")'


def _below(value: Any) -> str:
    return repr(_float(value) - abs(_float(value)) * _SLACK - 1e-300)


def _above(value: Any) -> str:
    return repr(_float(value) + abs(_float(value)) * _SLACK + 1e-300)


def _float(value: Any) -> float:
    try:
        return max(min(float(value), 1.7e308), -1.7e308)
    except OverflowError:
        return 1.7e308 if value > 0 else -1.7e308


def _place(leaf: Leaf) -> str | None:
    """Where the field stands in the JSON; None where its name needs an escape."""
    names = leaf.field.split(".")
    if not all(_NAME.fullmatch(name) for name in names):
        return None
    return "payload" + "".join(f'["{name}"]' for name in names)
