"""FastAPI with a short way to the routes where every microsecond counts.

FastAPI and Starlette put half a dozen layers around every request, for tracing, for errors nobody knew, for context
managers of dependencies. Raw routes need none of them but the tracing; they have the service's own layers, in the same
order as all other routes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection

from fastapi import FastAPI
from opentelemetry import trace
from starlette.types import ASGIApp, Receive, Scope, Send


class Application(FastAPI):
    """The application; `shorten` gives it its short way."""

    _short: ASGIApp | None = None
    _paths: Collection[str] = frozenset()

    def shorten(self, app: ASGIApp, paths: Collection[str]) -> None:
        """Let `app` answer POSTs to `paths`, unless requests are traced, which FastAPI does. Call it at the start."""
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody has set one up
            self._short, self._paths = app, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            self._short is not None
            and scope["type"] == "http"
            and scope["path"] in self._paths
            and scope["method"] == "POST"
        ):
            scope["app"] = self
            await self._short(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
