"""Answering searches: the query's code, then the collection's exact answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

from index import Codes, Collection, Hit, Logits, to_hex
from index.errors import HammingIndexError
from models.errors import ModelsError

from . import schemas
from .engine import Engine
from .errors import InvalidRequest, ServiceError, TooLarge, pointer
from .schemas import ModelInfo, SearchOptions, SearchReply, SearchRequest
from .twofold import again

DEFAULT_K = 10


def search(engine: Engine, request: SearchRequest) -> SearchReply:
    """The exact answer to `request`."""
    started = time.perf_counter()
    collection = engine.catalogue.get(request.collection)

    def answered() -> SearchReply:
        code, logits, fingerprint = engine.code_of(request.query, collection, soft=request.rerank == "soft")
        return by_code(engine, collection, code, request, started, time.perf_counter(), logits, fingerprint)

    return again(answered)


def search_batch(engine: Engine, requests: Sequence[SearchRequest]) -> list[SearchReply]:
    """The answers to `requests`, in their order."""
    if len(requests) > engine.settings.max_searches:
        raise TooLarge(
            f"{len(requests)} searches in one batch, the limit is {engine.settings.max_searches} (max_searches); "
            "send them in parts"
        )
    replies: list[SearchReply] = []
    hits = 0
    for place, request in enumerate(requests):
        try:
            replies.append(search(engine, request))
        except (ServiceError, HammingIndexError, ModelsError) as error:
            error.args = (f"search {place}: {error}",)
            if isinstance(error, ServiceError):
                error.errors = [(pointer("searches", place) + at, detail) for at, detail in error.errors]
            raise
        hits += len(replies[-1].hits)
        if hits > engine.settings.max_batch_hits:
            raise TooLarge(
                f"after {len(replies)} of {len(requests)} searches there are {hits:,} hits, the limit is "
                f"{engine.settings.max_batch_hits:,} (max_batch_hits); send fewer searches, or lower limit"
            )
    return replies


def by_code(
    engine: Engine,
    collection: Collection,
    code: Codes,
    options: SearchOptions,
    started: float,
    encoded: float,
    logits: Logits | None = None,
    fingerprint: str | None = None,
) -> SearchReply:
    """The exact answer for a code; `started` and `encoded` are times of `perf_counter`.

    logits: of the query, needed for a soft rerank. fingerprint: of the model that made the code; raises
    `GenerationChanged` where another serves by now.
    """
    _check(engine, options)
    if options.rerank == "soft" and logits is None:
        raise InvalidRequest(
            "a soft rerank needs the query's logits, which a code has not; search with the item itself, or rerank none",
            [(pointer("rerank"), "needs an input that the model encodes")],
        )
    k = DEFAULT_K if options.k is None and options.radius is None else options.k
    page = collection.search(
        code,
        fingerprint=fingerprint,
        k=k,
        radius=options.radius,
        limit=options.limit,
        cursor=options.cursor,
        filter=options.filter,
        logits=logits if options.rerank == "soft" else None,
        payloads="payload" in options.include,
        codes="code" in options.include,
        count_only=options.count_only,
    )
    ended = time.perf_counter()
    key = page.model
    return SearchReply(
        collection=collection.name,
        model=ModelInfo(name=key.name, version=key.version, fingerprint=key.fingerprint) if key else None,
        code=to_hex(code),
        hits=[hit_reply(hit) for hit in page.hits],
        total=page.total,
        complete=page.complete,
        cursor=page.cursor,
        plan=schemas.Plan(method=page.plan.method, candidates=page.plan.candidates),
        took_ms=schemas.Timing(
            encode=round((encoded - started) * 1000, 3),
            search=round((ended - encoded) * 1000, 3),
            total=round((ended - started) * 1000, 3),
        ),
    )


def hit_reply(hit: Hit) -> schemas.Hit:
    """A hit as the API shows it."""
    payload = dict(hit.payload) if hit.payload is not None else None
    code = hit.code.hex() if hit.code is not None else None
    return schemas.Hit(id=hit.id, distance=hit.distance, score=hit.score, payload=payload, code=code)


def _check(engine: Engine, options: SearchOptions) -> None:
    for name, limit in (("k", engine.settings.max_k), ("limit", engine.settings.max_limit)):
        value = getattr(options, name)
        if value is not None and value > limit:
            way_out = "search by radius and follow the cursor" if name == "k" else "follow the cursor"
            raise InvalidRequest(
                f"{name} is at most {limit} (max_{name}); got {value}. For more, {way_out}",
                [(pointer(name), f"at most {limit}")],
            )
