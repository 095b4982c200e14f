"""`/docs`: the API's description, drawn by Swagger UI from files of a package in place of a CDN's.

It goes out under the same policy as the explorer page, so it cannot ask anybody else for anything.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from ..pages import HEADERS
from .page import the_page

router = APIRouter(include_in_schema=False)

_PACKAGE = "fastapi_offline"
"""Has Swagger UI's files (Apache 2.0) among its own; nothing else of it is used."""


@dataclass(frozen=True)
class _Asset:
    content: bytes
    packed: bytes
    etag: str


@cache
def _asset(name: str) -> _Asset:
    """A file of Swagger UI, read and packed when it is first asked for: 1.7 MB become 0.5 MB."""
    content = (files(_PACKAGE) / "static" / name).read_bytes()
    return _Asset(content, gzip.compress(content), f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def _reply(request: Request, name: str, media_type: str) -> Response:
    asset = _asset(name)
    headers = {**HEADERS, "etag": asset.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.packed, media_type=media_type, headers={**headers, "content-encoding": "gzip"})
    return Response(asset.content, media_type=media_type, headers=headers)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs() -> Response:
    """The description as a page on which each operation can be tried."""
    found = the_page().files["docs.html"]
    return Response(found.content, media_type=found.type, headers={**HEADERS, "cache-control": "no-cache"})


@router.api_route("/docs/swagger-ui-bundle.js", methods=["GET", "HEAD"])
def script(request: Request) -> Response:
    """Swagger UI."""
    return _reply(request, "swagger-ui-bundle.js", "text/javascript; charset=utf-8")


@router.api_route("/docs/swagger-ui.css", methods=["GET", "HEAD"])
def style(request: Request) -> Response:
    """How it looks."""
    return _reply(request, "swagger-ui.css", "text/css; charset=utf-8")
