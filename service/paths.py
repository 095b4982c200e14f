"""A part of a path that may hold anything: `{id:text}` in a route."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor


class _Text(Convertor[str]):
    """The rest of the path, line breaks too; Starlette's own `path` ends at the first."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("text", _Text())
