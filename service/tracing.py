"""OpenTelemetry: one span a request, sent nowhere unless the environment names a collector.

FastAPI makes the spans. `pip install 'hammingbird[otel]'` brings what sends them, `OTEL_EXPORTER_OTLP_ENDPOINT` says
where to (OTLP over HTTP), and the other `OTEL_` variables mean what they always do. Metrics are Prometheus's, and
FastAPI's log signal, which would tell what was sent, stays off.
"""

from __future__ import annotations

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import Scope

from .keys import PATTERN

TRACED = "fastapi.telemetry"
"""In the scope of a request that has a span."""
_UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})


def telemetry() -> TelemetryConfig:
    """What FastAPI is to trace."""
    return {
        "metrics": False,
        "logs": False,
        "auto_configure": True,
        "exclude": lambda scope: scope["path"] in _UNTRACED,
    }


def mark_span(scope: Scope, request_id: str) -> str:
    """Name the request in its span, keep a key out of it that came in the URL; returns the id of its trace."""
    span = trace.get_current_span()
    span.set_attribute("hammingbird.request_id", PATTERN.sub("hb_...", request_id))
    for name, value in (("url.path", scope["path"]), ("url.query", scope["query_string"].decode("latin-1"))):
        if PATTERN.search(value):
            span.set_attribute(name, PATTERN.sub("hb_...", value))
    return f"{span.get_span_context().trace_id:032x}"
