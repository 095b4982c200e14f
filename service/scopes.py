"""What a key must be allowed for each route: the one place where that is said.

`create_app` refuses a route that has no line here, so none can be forgotten. Scopes are steps: who may write may read,
who may administer may do both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""From the least to the most."""

PUBLIC = frozenset(
    {
        "GET /",
        "GET /docs",
        "GET /docs/swagger-ui-bundle.js",
        "GET /docs/swagger-ui.css",
        "GET /livez",
        "GET /openapi.json",
        "GET /page/{version}/{path:path}",
        "GET /readyz",
    }
)
"""Need no key: what an orchestrator asks, and what describes the program rather than what is stored in it."""

NEEDED: Mapping[str, Scope] = {
    "GET /collections": "read",
    "GET /collections/{collection}": "read",
    "GET /collections/{collection}/calibration": "read",
    "GET /collections/{collection}/health": "read",
    "GET /collections/{collection}/items": "read",
    "GET /collections/{collection}/items/{id:text}": "read",
    "GET /collections/{collection}/snapshots": "read",
    "GET /families": "read",
    "GET /jobs": "read",
    "GET /jobs/{id}": "read",
    "GET /jobs/{id}/events": "read",
    "GET /jobs/{id}/groups": "read",
    "GET /metrics": "read",
    "GET /models": "read",
    "GET /models/{reference}": "read",
    "POST /decode": "read",
    "POST /denoise": "read",
    "POST /encode": "read",
    "POST /generate": "read",
    "POST /interpolate": "read",
    "POST /score": "read",
    "POST /search": "read",
    "POST /search/batch": "read",
    # What changes items. An ingest that names a model may also make the collection that it fills.
    "DELETE /collections/{collection}/items/{id:text}": "write",
    "POST /collections/{collection}/delete": "write",
    "POST /ingest": "write",
    # What makes, changes, ends or carries away collections, models and jobs, or keeps the machine busy for long.
    "DELETE /collections/{collection}": "admin",
    "DELETE /collections/{collection}/snapshots/{name}": "admin",
    "DELETE /jobs/{id}": "admin",
    "DELETE /models/{reference}": "admin",
    "GET /collections/{collection}/snapshots/{name}": "admin",
    "POST /collections": "admin",
    "DELETE /collections/{collection}/standby": "admin",
    "POST /collections/{collection}/calibrate": "admin",
    "POST /collections/{collection}/compact": "admin",
    "POST /collections/{collection}/flip": "admin",
    "POST /collections/{collection}/reencode": "admin",
    "POST /collections/{collection}/rollback": "admin",
    "POST /collections/{collection}/duplicates": "admin",
    "POST /collections/{collection}/indexes": "admin",
    "POST /collections/{collection}/restore": "admin",
    "POST /collections/{collection}/snapshots": "admin",
    "POST /snapshots/restore": "admin",
    "POST /train": "admin",
    "PUT /models/{name}/aliases/{alias}": "admin",
}


def covers(held: Scope, needed: Scope) -> bool:
    """Whether a key of scope `held` may do what needs `needed`."""
    return SCOPES.index(held) >= SCOPES.index(needed)


class Scopes:
    """Finds the scope that a request needs, by method and path, as the router finds its route."""

    def __init__(self) -> None:
        from starlette.routing import compile_path  # here, so that the names of scopes cost nothing

        from . import paths as _paths  # noqa: F401  knows {id:text}

        lines: dict[str, Scope | None] = {**dict.fromkeys(PUBLIC, None), **NEEDED}
        self._fixed = {_split(line): scope for line, scope in lines.items() if "{" not in line}
        # The router takes "/train" and a line break for "/train": lines without a parameter are among the patterns too.
        self._patterns = [
            (method, compile_path(path)[0], scope)
            for (method, path), scope in ((_split(line), scope) for line, scope in lines.items())
            if scope is not None or "{" in path
        ]

    def needed(self, method: str, path: str) -> Scope | None:
        """The scope for `method path`; None where no key is needed. What is no route needs any key."""
        method = "GET" if method == "HEAD" else method
        try:
            return self._fixed[method, path]
        except KeyError:
            found = [scope for verb, pattern, scope in self._patterns if verb == method and pattern.match(path)]
            needed = [scope for scope in found if scope is not None]
            return None if found and not needed else max(needed, key=SCOPES.index, default=SCOPES[0])


def _split(line: str) -> tuple[str, str]:
    method, _, path = line.partition(" ")
    return method, path
