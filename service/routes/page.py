"""`/`, the explorer page, and its files."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, HTTPException, Request, Response

from ..pages import HEADERS, Page

router = APIRouter(include_in_schema=False)


@cache
def the_page() -> Page:
    """The files, read once."""
    return Page()


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """The page itself: asked for every time, and answered with 304 while it is the same."""
    page = the_page()
    headers = {**HEADERS, "etag": f'"{page.version}"', "cache-control": "no-cache"}
    if page.version in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    found = page.files["index.html"]
    return Response(found.content, media_type=found.type, headers=headers)


@router.api_route("/page/{version}/{path:path}", methods=["GET", "HEAD"])
async def file(version: str, path: str) -> Response:
    """A file of the page, as it is for ever at this address."""
    page = the_page()
    found = page.files.get(path) if version == page.version else None
    if found is None:
        raise HTTPException(404)
    headers = {**HEADERS, "cache-control": "public, max-age=31536000, immutable"}
    return Response(found.content, media_type=found.type, headers=headers)
