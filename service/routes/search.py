"""/search and /search/batch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from .. import search as searching
from ..dependencies import EngineDep
from ..examples import DIGIT, QUESTION
from ..schemas import SearchBatchReply, SearchBatchRequest, SearchReply, SearchRequest

router = APIRouter(tags=["search"])

_EXAMPLES = {
    "by image": {"value": {"collection": "digits", "query": {"image": DIGIT}, "k": 5}},
    "by text": {"value": {"collection": "python-docs", "query": {"text": QUESTION}, "k": 5}},
    "everything within a radius": {
        "value": {"collection": "digits", "query": {"id": "digit-0000"}, "radius": 6, "include": ["payload", "code"]}
    },
}


@router.post("/search")
def search(body: Annotated[SearchRequest, Body(openapi_examples=_EXAMPLES)], engine: EngineDep) -> SearchReply:
    """Exact search: the `k` nearest, everything within `radius` (inclusive), or at most `k` of those."""
    return searching.search(engine, body)


@router.post("/search/batch")
def search_batch(
    body: Annotated[
        SearchBatchRequest,
        Body(examples=[{"searches": [{"collection": "digits", "query": {"id": "digit-0000"}, "k": 3}]}]),
    ],
    engine: EngineDep,
) -> SearchBatchReply:
    """Several searches in one request, answered in their order."""
    return SearchBatchReply(results=searching.search_batch(engine, body.searches))
