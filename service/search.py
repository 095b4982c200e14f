"""Answering searches: the query's code, then the collection's exact answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from index import Codes, Collection, Hit, Logits, from_hex, pack
from index.errors import GenerationChanged, HammingIndexError
from index.rescore import Rescore
from models.errors import ModelsError

from . import rescoring, schemas
from .answer import Answer
from .calibration import radius_for
from .codecs import decode
from .deadlines import in_thread
from .engine import Engine
from .errors import InvalidRequest, ServiceError, TooLarge, pointer
from .plain_json import check_repeats, members_of
from .rawroute import parsed
from .rescoring import DEFAULT_K
from .schemas import Input, SearchBatchRequest, SearchOptions, SearchRequest
from .shapes import shape_of
from .twofold import again


async def answer(state: Any, body: bytes) -> bytes:
    """The reply to a body of /search. What is short is answered at once, on the event loop; all else by a thread."""
    started = time.perf_counter()
    engine: Engine = state.engine
    limits = engine.settings
    if len(body) <= _LIGHT_BODY:
        found = _parsed(body)
    else:
        found = await in_thread(limits.request_timeout_s, limits.max_search_waiting, _parsed, body)
    collection = engine.catalogue.peek(found["collection"])
    query = None if collection is None else await _encoded(engine, collection, found)
    times = _Times(started, time.perf_counter())
    if query is not None and collection is not None:
        short = _glanced(engine, collection, found, query, times)
        if short is not None:
            return _told(state, short)
    request = SearchRequest.model_construct(**{**found, "query": Input.model_construct(**found["query"])})
    work = in_thread(limits.request_timeout_s, limits.max_search_waiting, _in_thread, engine, request, query, times)
    return _told(state, await work)


_LIGHT_BODY = 1 << 18
"""Bytes of a body that is parsed on the event loop: a millisecond or two."""


def _told(state: Any, answer: Answer) -> bytes:
    state.metrics.searched(answer.collection, answer.search_s)
    return answer.json().encode()


class _Query(NamedTuple):
    """A code to search for, and the fingerprint of the model that made it, None of a ready-made one."""

    code: Codes
    fingerprint: str | None


class _Times(NamedTuple):
    """When a request came and when its query had a code, by `perf_counter`."""

    started: float
    encoded: float


async def _encoded(engine: Engine, collection: Collection, found: Mapping[str, Any]) -> _Query | None:
    """The code of a query that is quickly decoded, by a model that is there; None for any other."""
    query = found["query"]
    if (text := query.get("code")) is not None:
        return _Query(from_hex(text, collection.bits), None)
    mark = collection.fingerprint
    model = None if mark is None else engine.registry.loaded(mark)
    if model is None or found.get("rerank", "none") != "none" or not any(len(query.get(kind) or ()) for kind in _LIGHT):
        return None
    if max(len(query.get(kind) or ()) for kind in _LIGHT) > _LIGHT_SIZE:
        return None
    value = Input.model_construct(**query)
    engine.recent.remember(collection, value)
    encoder, item = engine.encoders.of(model), decode(value, model.input, engine.settings)
    row = encoder.at_once(item) if encoder.quick else await encoder.logits(item)
    return _Query(pack(row[None])[0], mark)


_LIGHT = ("vector", "vector_b64", "text")
_LIGHT_SIZE = 65_536
"""Numbers or characters that are decoded on the event loop: a millisecond."""


def _in_thread(engine: Engine, request: SearchRequest, query: _Query | None, times: _Times) -> Answer:
    if query is not None:
        try:
            collection = engine.catalogue.get(request.collection)
            return by_code(engine, collection, query.code, request, *times, None, query.fingerprint)
        except GenerationChanged:
            pass
    return search(engine, request)


def _parsed(body: bytes) -> dict[str, Any]:
    """The members of a `SearchRequest` that were given. Raises `RequestValidationError`, `InvalidRequest`."""
    try:
        found = _shape(body)
    except ValidationError:
        found = {}
    two = found.get("radius") is not None and found.get("target_precision") is not None
    if not found or two or sum(value is not None for value in found["query"].values()) != 1:
        request = parsed(SearchRequest, body)  # which says what is wrong, or that nothing is
        return request.model_dump(exclude_unset=True)
    check_repeats(body, members_of(found))
    return found


_shape = shape_of(SearchRequest)
_PLAIN = frozenset({"collection", "query", "k", "radius", "limit", "include", "count_only"})


def _glanced(
    engine: Engine, collection: Collection, found: Mapping[str, Any], query: _Query, times: _Times
) -> Answer | None:
    """The answer to a search that is short; None for any other, and for one that is to be refused."""
    k, radius, limit = found.get("k"), found.get("radius"), found.get("limit", _LIMIT)
    if not found.keys() <= _PLAIN or (k or 0) > engine.settings.max_k or limit > engine.settings.max_limit:
        return None
    include = found.get("include", _INCLUDE)
    page = collection.glance(
        query.code,
        fingerprint=query.fingerprint,
        k=DEFAULT_K if k is None and radius is None else k,
        radius=radius,
        limit=limit,
        payloads="payload" in include,
        codes="code" in include,
        count_only=found.get("count_only", False),
    )
    if page is None:
        return None
    encode_s, search_s = times.encoded - times.started, time.perf_counter() - times.encoded
    return Answer(collection.name, query.code, page, encode_s, search_s)


_LIMIT: int = SearchOptions.model_fields["limit"].default
_INCLUDE: list[str] = SearchOptions.model_fields["include"].default


def search(engine: Engine, request: SearchRequest) -> Answer:
    """The exact answer to `request`."""
    started = time.perf_counter()
    collection = engine.catalogue.get(request.collection)

    def answered() -> Answer:
        code, logits, fingerprint = engine.code_of(request.query, collection, soft=request.rerank == "soft")
        exact = rescoring.by_input(engine, collection, request.query) if request.rerank == "exact" else None
        return by_code(engine, collection, code, request, started, time.perf_counter(), logits, fingerprint, exact)

    return again(answered)


async def answer_batch(state: Any, body: bytes) -> bytes:
    """The reply to a body of /search/batch."""
    engine: Engine = state.engine
    limits = engine.settings
    work = in_thread(limits.request_timeout_s, limits.max_search_waiting, _batch_in_thread, engine, body)
    answers = await work
    for found in answers:
        state.metrics.searched(found.collection, found.search_s)
    return f'{{"results":[{",".join(found.json() for found in answers)}]}}'.encode()


def _batch_in_thread(engine: Engine, body: bytes) -> list[Answer]:
    return search_batch(engine, parsed(SearchBatchRequest, body).searches)


def search_batch(engine: Engine, requests: Sequence[SearchRequest]) -> list[Answer]:
    """The answers to `requests`, in their order."""
    if len(requests) > engine.settings.max_searches:
        raise TooLarge(
            f"{len(requests)} searches in one batch, the limit is {engine.settings.max_searches} (max_searches); "
            "send them in parts"
        )
    rescoring.check_batch(engine, requests)
    replies: list[Answer] = []
    hits = 0
    encoded = _encoded_together(engine, requests)
    for place, request in enumerate(requests):
        now = time.perf_counter()
        try:
            replies.append(_in_thread(engine, request, encoded.get(place), _Times(now, now)))
        except (ServiceError, HammingIndexError, ModelsError) as error:
            error.args = (f"search {place}: {error}",)
            if isinstance(error, ServiceError):
                error.errors = [(pointer("searches", place) + at, detail) for at, detail in error.errors]
            raise
        hits += len(replies[-1].page.hits)
        if hits > engine.settings.max_batch_hits:
            raise TooLarge(
                f"after {len(replies)} of {len(requests)} searches there are {hits:,} hits, the limit is "
                f"{engine.settings.max_batch_hits:,} (max_batch_hits); send fewer searches, or lower limit"
            )
    return replies


def _encoded_together(engine: Engine, requests: Sequence[SearchRequest]) -> dict[int, _Query]:
    """The codes of the inputs that models encode, each model's together, by place.

    What is left out, for whatever reason, is answered alone, or refused, by the search itself.
    """
    places: dict[str, list[int]] = {}
    for place, request in enumerate(requests):
        if request.query.code is None and request.query.id is None and request.rerank == "none":
            places.setdefault(request.collection, []).append(place)
    found: dict[int, _Query] = {}
    for name, wanted in places.items():
        items: dict[int, Any] = {}
        try:
            collection = engine.catalogue.get(name)
            entry, model = engine.model_of(collection)
            for place in wanted:
                items[place] = decode(requests[place].query, model.input, engine.settings)
        except (ServiceError, HammingIndexError, ModelsError):
            continue
        rows = engine.encoders.of(model).each(list(items.values()))
        for place, row in zip(items, rows, strict=True):
            if not isinstance(row, Exception):
                engine.recent.remember(collection, requests[place].query)
                found[place] = _Query(pack(row[None])[0], entry.fingerprint)
    return found


def by_code(
    engine: Engine,
    collection: Collection,
    code: Codes,
    options: SearchOptions,
    started: float,
    encoded: float,
    logits: Logits | None = None,
    fingerprint: str | None = None,
    exact: Rescore | None = None,
) -> Answer:
    """The exact answer for a code; `started` and `encoded` are times of `perf_counter`.

    logits: of the query, needed for a soft rerank; exact: its input, for an exact one. fingerprint: of the model that
    made the code; raises `GenerationChanged` where another serves by now.
    """
    _check(engine, options)
    if options.rerank == "soft" and logits is None:
        raise InvalidRequest(
            "a soft rerank needs the query's logits, which a code has not; search with the item itself, or rerank none",
            [(pointer("rerank"), "needs an input that the model encodes")],
        )
    if options.rerank == "exact" and exact is None:
        raise rescoring.without_input("a code")
    radius = options.radius
    if options.target_precision is not None:
        radius, calibrated = radius_for(collection, options.target_precision)
        fingerprint = fingerprint or calibrated  # what was measured holds for the codes of this model alone
    k = DEFAULT_K if options.k is None and radius is None else options.k
    page = collection.search(
        code,
        fingerprint=fingerprint,
        k=k,
        radius=radius,
        limit=options.limit,
        cursor=options.cursor,
        filter=options.filter,
        logits=logits if options.rerank == "soft" else None,
        rescore=exact,
        oversample=options.oversample,
        payloads="payload" in options.include,
        codes="code" in options.include,
        count_only=options.count_only,
    )
    used = None if options.target_precision is None else radius
    return Answer(collection.name, code, page, encoded - started, time.perf_counter() - encoded, used)


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
    rescoring.check(engine, options)
