"""Pages of the documentation that are written from the code: tools/reference-pages writes them, a test compares."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic_core import PydanticUndefined

from models.base import Model
from models.capabilities import CAPABILITIES, capabilities

from .errors import TABLE
from .scopes import NEEDED, PUBLIC

BEGIN, END = "<!-- from here written by tools/reference-pages -->", "<!-- to here -->"
_KEPT = {
    "retrieval": "the epoch whose codes find most of the nearest held-out items; the last one where the recipe for a "
    "kind of input has no use for that",
    "loss": "the epoch of the least loss on held-out items",
    "last": "the last epoch",
}
_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
_ROUTES = """# Routes

Every route of the service, what a key must be allowed for it (`docs/keys.md`), and its name in a client that is made of
the OpenAPI document. `/docs` of a running service has the fields of each request and reply, with examples, and tries
them; `/openapi.json` is the same for programs. This page is written by `tools/reference-pages`.
"""
_ERRORS = """
## Errors

Every error is an RFC 9457 problem, `application/problem+json`, on every route: `type`, `title`, `status`, `detail`
(what was wrong, the limit, the value seen, the way out) and, where fields are at fault, `errors` with a JSON pointer
each. Nothing that was sent comes back in it. `type` is `urn:hammingbird:problem:` and one of these. With 429 and 503
comes `retry-after`, where it is worth another try. Beside them an address or a method that there is not is a 404 or 405
of the type `not-found` or `method-not-allowed`, what a key lacks a 401 `unauthorized` or a 403 `forbidden`, a body that
does not come in time a 408 `body-timeout`, a page of another site a 403 `cross-site`, a host name that is not one of
this service a 400 `unknown-host`, and a defect of the service a 500 `internal-error`.

| status | type | title |
|---|---|---|
"""


def routes_page(app: FastAPI) -> str:
    """docs/routes.md of the routes of `app`."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            line = f"{method.upper()} {path}"
            needs = "none" if line in PUBLIC else f"`{_scope(line)}`"
            what = first_paragraph(operation["description"])
            groups[operation["tags"][0]].append(f"| `{line}` | {needs} | `{operation['operationId']}` | {what} |")
    out = [_ROUTES]
    for name, rows in groups.items():
        out += [f"\n## {name.capitalize()}\n\n| route | scope | name | what it does |\n|---|---|---|---|\n"]
        out += [f"{row}\n" for row in rows]
    rest = sorted(
        PUBLIC - {f"{method.upper()} {path}" for path, ways in app.openapi()["paths"].items() for method in ways}
    )
    out.append(f"\nFor people, and without a key: {_names(rest)}.\n")
    errors = dict.fromkeys((int(status), slug, title) for _, status, slug, title in TABLE)
    return "".join([*out, _ERRORS, *(f"| {status} | `{slug}` | {title} |\n" for status, slug, title in sorted(errors))])


def _scope(line: str) -> str:
    """What `line` needs; the table of scopes names converters, the document does not."""
    return {re.sub(r":\w+}", "}", known): scope for known, scope in NEEDED.items()}[line]


def first_paragraph(text: str) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(text.split("\n\n")[0].split())


def family_facts(family: type[Model]) -> str:
    """What the page of a family says of its class: what it is, what it can do, its parameters."""
    able = capabilities(family)
    can = ["encode", *(name for name in CAPABILITIES if name in able)]
    cannot = [name for name in CAPABILITIES if name not in able]
    out = [f"**Can** {_names(can)}" + (f"; cannot {_names(cannot)}." if cannot else ", all there is.")]
    if not family.roles:
        out.append("**Training** is closed form: no epochs, the same for any seed but where it draws axes.")
    else:
        steps = f"steps {_names(family.roles)} in turn and " if len(family.roles) > 1 else ""
        out.append(f"**Training** {steps}keeps {_KEPT[family.chosen_by]}.")
    fields = family.Params.model_json_schema().get("properties", {})
    if not fields:
        out.append("**Parameters**: none of its own.")
        return "\n\n".join(out)
    rows = "\n".join(_row(name, spec, family) for name, spec in fields.items())
    out.append(f"| parameter | default | allowed | what it is |\n|---|---|---|---|\n{rows}")
    return "\n\n".join(out)


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _row(name: str, spec: Mapping[str, Any], family: type[Model]) -> str:
    default = family.Params.model_fields[name].get_default(call_default_factory=True)
    assert default is not PydanticUndefined, name
    shown = "by the recipe" if default is None else f"`{default if isinstance(default, str) else json.dumps(default)}`"
    what = spec.get("description", "").replace("|", "\\|")
    return f"| `{name}` | {shown} | {_allowed(spec)} | {what} |"


def _allowed(spec: Mapping[str, Any]) -> str:
    """The values that a JSON schema admits, in words."""
    kinds = [kind for kind in spec.get("anyOf", [spec]) if kind.get("type") != "null"]
    return " or ".join(map(_kind, kinds))


def _kind(spec: Mapping[str, Any]) -> str:
    if "enum" in spec:
        return ", ".join(f"`{value}`" for value in spec["enum"])
    if spec.get("type") == "array":
        return f"{spec.get('minItems', 0)} to {spec.get('maxItems', 'any number of')} of: {_kind(spec['items'])}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    said = words[spec["type"]]
    for key, word in (
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "to"),
        ("exclusiveMaximum", "below"),
    ):
        if key in spec:
            said += f" {word} {spec[key]:g}"
    return said
