"""/search and /search/batch."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body

from .. import search as searching
from ..examples import DIGIT, QUESTION
from ..rawroute import RawRoute
from ..schemas import SearchBatchReply, SearchBatchRequest, SearchReply, SearchRequest

_EXAMPLES = {
    "by image": {"value": {"collection": "digits", "query": {"image": DIGIT}, "k": 5}},
    "by text": {"value": {"collection": "python-docs", "query": {"text": QUESTION}, "k": 5}},
    "by text, true distances deciding": {
        "value": {
            "collection": "python-docs",
            "query": {"text": QUESTION},
            "k": 5,
            "rerank": "exact",
            "oversample": 10,
        }
    },
    "everything within a radius": {
        "value": {"collection": "digits", "query": {"id": "digit-0000"}, "radius": 6, "include": ["payload", "code"]}
    },
}


def _search(body: Annotated[SearchRequest, Body(openapi_examples=_EXAMPLES)]) -> SearchReply:
    """Exact search: the `k` nearest, everything within `radius` (inclusive), or at most `k` of those."""
    raise NotImplementedError


def _search_batch(
    body: Annotated[
        SearchBatchRequest,
        Body(examples=[{"searches": [{"collection": "digits", "query": {"id": "digit-0000"}, "k": 3}]}]),
    ],
) -> SearchBatchReply:
    """Several searches in one request, answered in their order."""
    raise NotImplementedError


def routes(**options: Any) -> list[RawRoute]:
    """The routes; options: what the application says of all of its routes."""
    return [
        RawRoute("/search", _search, searching.answer, name="search", tags=["search"], **options),
        RawRoute(
            "/search/batch", _search_batch, searching.answer_batch, name="search_batch", tags=["search"], **options
        ),
    ]
