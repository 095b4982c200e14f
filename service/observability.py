"""Request ids, JSON log lines and Prometheus metrics, labelled by route template."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .engine import Engine
from .errors import internal_error, short
from .gate import KEY
from .keys import PATTERN
from .limits import STREAMED, media_type
from .tracing import TRACED, mark_span

request_id: ContextVar[str] = ContextVar("request_id", default="-")
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})
_EVENTS = "/jobs/{id}/events"
_LINES_WAIT_S = 0.1
_QUICK = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_UNTOLD = frozenset({"/livez", "/readyz", "/metrics"})

log = logging.getLogger("service.access")


class JsonLines(logging.Formatter):
    """One JSON object a line, with the members of a record's `fields`. Nothing that looks like a key gets into it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": request_id.get(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return PATTERN.sub("hb_...", json.dumps(line, ensure_ascii=False))


class Lines(logging.StreamHandler[TextIO]):
    """Writes records at once; the lines of requests answered in good time a tenth of a second later, together."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._later: list[str] = []

    def soon(self, line: str) -> None:
        """Write `line` before long. To be called on an event loop."""
        self._later.append(line)
        if len(self._later) == 1:
            asyncio.get_running_loop().call_later(_LINES_WAIT_S, self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        self._write_waiting()
        super().emit(record)

    def flush(self) -> None:
        with self.lock or nullcontext():
            self._write_waiting()
            super().flush()

    def _write_waiting(self) -> None:
        if lines := self._later:
            self._later = []
            with suppress(OSError, ValueError):  # nobody reads, or the stream is closed: as with any other line
                self.stream.write("".join(lines))


def configure_logging(level: str) -> None:
    """Send every log line of the process to standard error as JSON."""
    handler = Lines(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True


class Metrics:
    """The service's Prometheus metrics, in a registry of their own."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hammingbird_requests_total", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "hammingbird_request_seconds",
            "Time from request to reply.",
            ["route", "method"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._queue = Histogram(
            "hammingbird_queue_seconds",
            "Time that a request waited for its items to be encoded.",
            ["model"],
            buckets=_QUICK,
            registry=self.registry,
        )
        self._encode = Histogram(
            "hammingbird_encode_seconds", "Time to encode a batch.", ["model"], buckets=_QUICK, registry=self.registry
        )
        self._batch = Histogram(
            "hammingbird_encode_batch_items",
            "Items encoded together.",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self._search = Histogram(
            "hammingbird_search_seconds",
            "Time of a search, when its query had a code.",
            ["collection"],
            buckets=_QUICK,
            registry=self.registry,
        )
        self._searched: dict[str, Histogram] = {}
        self._encoded: dict[str, tuple[Histogram, Histogram, Histogram]] = {}
        self._items = Gauge("hammingbird_items", "Stored items.", ["collection"], registry=self.registry)
        self._models = Gauge("hammingbird_models", "Model versions in the registry.", registry=self.registry)
        self.in_flight = 0
        running = Gauge("hammingbird_requests_in_flight", "Requests not answered yet.", registry=self.registry)
        running.set_function(lambda: self.in_flight)
        self._engine = engine
        engine.encoders.timings = self
        self._counted: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request. Few are the first of their kind, so a dictionary finds what to count it in."""
        kind = route, method, status
        found = self._counted.get(kind)
        if found is None:
            found = self.requests.labels(route, method, str(status)), self.seconds.labels(route, method)
            self._counted[kind] = found
        found[0].inc()
        found[1].observe(seconds)

    def encoded(self, name: str, items: int, queued: Sequence[float], took: float) -> None:
        """Note a batch: see `batching.Timings`."""
        found = self._encoded.get(name)
        if found is None:
            alive = {entry.reference for entry in self._engine.registry.list()}
            for gone in [known for known in self._encoded if known not in alive]:  # else they would gather for ever
                if self._encoded.pop(gone, None) is not None:
                    for histogram in (self._queue, self._encode, self._batch):
                        histogram.remove(gone)
            found = self._queue.labels(name), self._encode.labels(name), self._batch.labels(name)
            self._encoded[name] = found
        waits, encode, batch = found
        for wait in queued:
            waits.observe(wait)
        encode.observe(took)
        batch.observe(items)

    def searched(self, collection: str, seconds: float) -> None:
        """Note a search of a collection that there is."""
        found = self._searched.get(collection)
        if found is None:
            alive = self._engine.catalogue.met()
            for name in [name for name in self._searched if name not in alive]:  # else they would gather for ever
                if self._searched.pop(name, None) is not None:
                    self._search.remove(name)
            found = self._searched[collection] = self._search.labels(collection)
        found.observe(seconds)

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        self._items.clear()
        for name, items in self._engine.catalogue.each(len, reachable=True).items():
            self._items.labels(name).set(items)
        self._models.set(len(self._engine.registry.list()))


class Observe:
    """ASGI middleware: gives every reply its `x-request-id`, counts it, and logs it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, slow_ms: float) -> None:
        """slow_ms: a request that takes so long is logged as a warning."""
        self._app = app
        self._metrics = metrics
        self._slow_ms = slow_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
        if not (given and _GIVEN_ID.fullmatch(given)):
            given = os.urandom(16).hex().encode()
        id = given.decode()
        token = request_id.set(id)
        started = time.perf_counter()
        status: int | None = None
        self._metrics.in_flight += 1
        trace_id = mark_span(scope, id) if TRACED in scope else None

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                message["headers"].append((b"x-request-id", given))
            await send(message)

        try:
            await self._app(scope, receive, marked)
        except Exception as error:  # the outermost handler: what nothing else knew is a defect, and is answered too
            log.exception("unexpected %s", type(error).__name__)
            if status is None:
                await internal_error()(scope, receive, marked)
        finally:
            self._metrics.in_flight -= 1
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"  # a client may invent any number
            self._metrics.answered(route, method, status or 499, seconds)
            if route not in _UNTOLD:
                self._tell(scope, method, route, status or 499, seconds * 1000, trace_id)
            request_id.reset(token)

    def _tell(self, scope: Scope, method: str, route: str, status: int, ms: float, trace_id: str | None) -> None:
        level = logging.WARNING if ms >= self._slow_ms and not _lasts(scope, route) else logging.INFO
        if not log.isEnabledFor(level):
            return
        handlers = logging.root.handlers
        if level == logging.INFO and len(handlers) == 1 and isinstance(handlers[0], Lines) and _is_plain(scope):
            handlers[0].soon(_plain_line(method, route, status, ms))
            return
        fields = {"method": method, "route": route, "status": status, "ms": round(ms, 1)}
        if trace_id is not None:
            fields["trace_id"] = trace_id
        if key := scope.get(KEY):
            fields |= {"key": key.name, "key_id": key.id}
        if collection := scope.get("path_params", {}).get("collection"):
            fields["collection"] = short(collection)
        log.log(level, "%s %s %d %.1f ms", method, route, status, ms, extra={"fields": fields})


def _is_plain(scope: Scope) -> bool:
    """Whether the line of a request says nothing that came from outside but its id, and that no key."""
    return KEY not in scope and "collection" not in scope.get("path_params", ()) and "hb_" not in request_id.get()


def _plain_line(method: str, route: str, status: int, ms: float) -> str:
    """The line of a request, as `JsonLines` writes it, in a tenth of the time: no part of it needs quoting."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return (
        f'{{"time": "{now}", "level": "info", "logger": "service.access", "request_id": "{request_id.get()}", '
        f'"message": "{method} {route} {status} {ms:.1f} ms", "method": "{method}", "route": "{route}", '
        f'"status": {status}, "ms": {ms:.1f}}}\n'
    )


def _lasts(scope: Scope, route: str) -> bool:
    """Whether the client decides how long the request goes on."""
    return route == _EVENTS or (route == "/ingest" and media_type(Headers(scope=scope)) == STREAMED)
