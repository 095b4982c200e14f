"""/search without FastAPI's own handling: the same reply, the same document, the same problems, on the right thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.testclient import TestClient
from support import assert_problem, png

from index import EmbeddedCollection
from models.data import Dataset
from service import errors
from service.app import create_app
from service.schemas import SearchBatchReply, SearchReply, SearchRequest
from service.settings import Settings
from service.shapes import shape_of

SEED = 5
JSON = {"content-type": "application/json"}
IDS = ['"quoted"', "back\\slash", "\u0001\n\t", "\u2028 \U0001f600 \u05d0", "</script>", "plain"]
PAYLOADS: list[dict[str, Any] | None] = [
    None,
    {},
    {"text": '"\\\u0001\U0001f600', "deep": [{"a": [1, -0.0, 1e300, None, True]}]},
    {"big": 10**30, "\u00e9": "\u2029"},
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A collection of ids and payloads that are hard to write down."""
    items = [
        {"id": f"{id}{number}", "code": f"{number:02x}ff", "payload": payload}
        for number, (id, payload) in enumerate((id, payload) for id in IDS for payload in PAYLOADS)
    ]
    settings = Settings(data_dir=tmp_path_factory.mktemp("odd") / "data")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.post("/collections", json={"name": "odd", "bits": 16})
        assert client.post("/ingest", json={"collection": "odd", "items": items}).json()["created"] == len(items)
        yield client


@pytest.mark.parametrize(
    "options",
    [
        {"k": 24},
        {"k": 3, "include": []},
        {"radius": 16, "include": ["payload", "code"]},
        {"radius": 16, "limit": 5},
        {"k": 24, "include": ["code"]},
        {"radius": 4, "count_only": True},
        {"k": 24, "filter": {}},
    ],
    ids=str,
)
def test_the_reply_is_what_its_schema_says(odd: TestClient, options: dict[str, Any]) -> None:
    response = odd.post("/search", json={"collection": "odd", "query": {"code": "00ff"}, **options})
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    reply = SearchReply.model_validate_json(response.content, strict=True)
    assert json.loads(reply.model_dump_json()) == response.json(), "nothing more, nothing less"
    collection: EmbeddedCollection = odd.app.state.engine.catalogue.get("odd")  # type: ignore[attr-defined]
    shown = {name: value for name, value in options.items() if name not in ("include", "filter")}
    page = collection.search(np.array([0, 255], np.uint8), **shown)
    assert [(hit.id, hit.distance) for hit in reply.hits] == [(hit.id, hit.distance) for hit in page.hits]
    if "payload" in options.get("include", ["payload"]):
        assert [hit.payload for hit in reply.hits] == [hit.payload for hit in page.hits]
    assert (reply.total, reply.cursor, reply.complete) == (page.total, page.cursor, page.complete)


def test_a_reranked_and_an_encoded_reply_too(shared_client: TestClient) -> None:
    body = {"collection": "digits", "query": {"id": "digit-0000"}, "rerank": "soft", "k": 5}
    response = shared_client.post("/search", json=body)
    reply = SearchReply.model_validate_json(response.content, strict=True)
    assert all(hit.score is not None for hit in reply.hits)
    assert reply.model is not None
    batch = shared_client.post("/search/batch", json={"searches": [body, {**body, "rerank": "none"}]})
    found = SearchBatchReply.model_validate_json(batch.content, strict=True)
    assert [hit.id for hit in found.results[0].hits] == [hit.id for hit in reply.hits]
    assert json.loads(found.model_dump_json()) == batch.json()


BAD: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b'{"collection": 1, "query": {"code": "00ff"}}',
    b'{"collection": "odd", "query": {}}',
    b'{"collection": "odd", "query": {"code": null}}',
    b'{"collection": "odd", "query": {"code": "00ff", "id": "a"}}',
    b'{"collection": "odd", "query": {"code": "00ff", "x": 1}}',
    b'{"collection": "odd", "query": {"vector": []}}',
    b'{"collection": "odd", "query": {"vector": [1, "a", true]}}',
    b'{"collection": "odd", "query": {"vector": [NaN]}}',
    b'{"collection": "odd", "query": {"vector": [1e999]}}',
    b'{"collection": "odd", "query": {"code": "00ff"}, "k": 0, "radius": -1}',
    b'{"collection": "odd", "query": {"code": "00ff"}, "k": 1.0}',
    b'{"collection": "odd", "query": {"code": "00ff"}, "k": true}',
    b'{"collection": "odd", "query": {"code": "00ff"}, "limit": null}',
    b'{"collection": "odd", "query": {"code": "00ff"}, "include": ["vector", "code"]}',
    b'{"collection": "odd", "query": {"code": "00ff"}, "rerank": "hard", "more": 1}',
    b'{"collection": "odd", "query": {"id": ""}}',
]


@pytest.fixture(scope="module")
def plain() -> TestClient:
    """The route as FastAPI itself would answer it."""
    app = FastAPI()
    errors.install(app)

    @app.post("/search")
    def search(body: SearchRequest) -> dict[str, str]:
        return {}

    return TestClient(app)


@pytest.mark.parametrize("body", BAD, ids=lambda body: body.decode()[-40:])
def test_a_bad_body_is_refused_as_by_fastapi(odd: TestClient, plain: TestClient, body: bytes) -> None:
    """H1, H3, H8"""
    ours = assert_problem(odd.post("/search", content=body, headers=JSON), 422, "invalid-request")
    theirs = plain.post("/search", content=body, headers=JSON).json()
    hint = "; is the content type application/json?"  # which it is, here
    assert json.dumps(ours) == json.dumps(theirs).replace(hint, "")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.x+json", "APPLICATION/JSON"])
def test_every_way_to_say_json(odd: TestClient, kind: str) -> None:
    body = b'{"collection": "odd", "query": {"code": "00ff"}}'
    assert odd.post("/search", content=body, headers={"content-type": kind}).status_code == 200


@pytest.mark.parametrize("body", BAD, ids=lambda body: body.decode()[-40:])
def test_a_shape_refuses_what_its_schema_does(body: bytes) -> None:
    def verdict(validate: Any) -> bool:
        try:
            validate(body)
        except ValidationError:
            return False
        return True

    rule = b'"query": {}' in body or b'"code": null' in body or b'"id": "a"' in body  # exactly one: not in the shape
    assert verdict(shape_of(SearchRequest)) == (rule or verdict(SearchRequest.model_validate_json))


def test_a_short_search_runs_on_the_event_loop_and_a_long_one_does_not(
    odd: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: dict[str, int] = {}
    glance, search = EmbeddedCollection.glance, EmbeddedCollection.search

    def noted(name: str, method: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            ran[name] = threading.get_ident()
            return method(*args, **options)

        return call

    monkeypatch.setattr(EmbeddedCollection, "glance", noted("glance", glance))
    monkeypatch.setattr(EmbeddedCollection, "search", noted("search", search))
    body: dict[str, Any] = {"collection": "odd", "query": {"code": "00ff"}, "k": 3}
    assert odd.post("/search", json=body).status_code == 200
    assert list(ran) == ["glance"]
    loop = ran.pop("glance")
    assert odd.post("/search", json={**body, "filter": {}}).status_code == 200
    assert list(ran) == ["search"]
    assert ran["search"] != loop


def test_a_body_in_parts(odd: TestClient) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"collection": "odd", '
        yield b'"query": {"code": '
        yield b'"00ff"}}'

    response = odd.post("/search", content=parts(), headers=JSON)
    assert response.status_code == 200
    assert len(response.json()["hits"]) == 10


def test_a_search_under_a_path_of_a_proxy(data_dir: Path) -> None:
    with TestClient(create_app(Settings(data_dir=data_dir)), root_path="/api") as client:
        body = {"collection": "digits", "query": {"code": "00" * 8}}
        assert client.post("/api/search", json=body).status_code == 200
        assert client.post("/search", json=body).status_code == 200


def test_a_batch_is_answered_as_one_by_one(shared_client: TestClient, datasets: dict[str, Dataset]) -> None:
    """Inputs of several models, encoded together, beside codes, ids, reranked and filtered searches."""
    rng = np.random.default_rng(SEED)
    searches: list[dict[str, Any]] = []
    for place in rng.integers(0, 300, 12).tolist():
        image = png(datasets["digits"].items[place])
        vector, text = datasets["vectors"].items[place].tolist(), datasets["python-docs"].items[place]
        searches += [
            {"collection": "vectors", "query": {"vector": vector}, "k": 3},
            {"collection": "python-docs", "query": {"text": text}, "k": 4, "rerank": "soft"},
            {"collection": "python-docs", "query": {"text": text}, "radius": 30, "limit": 5},
            {
                "collection": "digits",
                "query": {"image": image},
                "filter": {"label": "3"},
            },
            {"collection": "digits", "query": {"id": "digit-0000"}, "k": 2, "include": ["code"]},
        ]
    together = shared_client.post("/search/batch", json={"searches": searches})
    assert together.status_code == 200, together.text
    for place, (one, found) in enumerate(zip(searches, together.json()["results"], strict=True)):
        alone = shared_client.post("/search", json=one).json()
        for reply in (alone, found):
            del reply["took_ms"]
        assert found == alone, (SEED, place)
    searches[1]["query"] = {"vector": [1.0]}
    assert (
        "search 1: " in assert_problem(shared_client.post("/search/batch", json={"searches": searches}), 422)["detail"]
    )
