"""JSON made to be slow, or to be read in two ways. (reliability.md H3)"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bodies import bodies, fields, put, target
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from support import assert_problem

from service.errors import InvalidRequest, TooLarge
from service.plain_json import check_members, check_repeats, members_of, parse
from service.schemas import IngestRequest, SearchRequest

JSON = {"content-type": "application/json"}
MANY = "{" + ",".join(f'"k{number}":1' for number in range(10**6)) + "}"
DEEP_OBJECT = '{"a":' * 100_000 + "1" + "}" * 100_000
DEEP_LIST = "[" * 100_000 + "]" * 100_000
LONG = "9" * 5_000
CPU_S = 1.0
"""The row asks for 0.1 s; this much of the processor is only used where the time grows with what was sent."""


@pytest.fixture(scope="module")
def document(shared_client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = shared_client.get("/openapi.json").json()
    return found


def test_bodies_that_are_slow_to_read(shared_client: TestClient, document: dict[str, Any]) -> None:
    """H3: depth of 100,000, a million keys, an integer of 5,000 digits, as the whole body of every route."""
    for method, route, _ in bodies(document):
        for text in (MANY, DEEP_OBJECT, DEEP_LIST, LONG, f'{{"a": {LONG}}}', MANY.replace('":', '" :')):
            started = time.process_time()
            response = shared_client.request(method, target(route), content=text, headers=JSON)
            used = time.process_time() - started
            assert response.status_code in (413, 422), (route, text[:20], response.text)
            problem = assert_problem(response, response.status_code)
            assert used < CPU_S, (route, text[:20], used)
            assert len(response.content) < 2_000
            if text is MANY:
                assert ("max_ingest_members" if route == "/ingest" else "max_members") in problem["detail"]


def test_fields_that_are_slow_to_read(shared_client: TestClient, document: dict[str, Any]) -> None:
    """H3: the same inside every object that has no schema: payloads, filters, parameters."""
    tried = 0
    for method, route, body in bodies(document):
        for at in fields(document, method, route, {"object"}):
            if not at or at[-1] not in ("filter", "payload", "params"):
                continue
            for text in (MANY, DEEP_OBJECT, f'{{"a":{DEEP_LIST}}}', f'{{"a":{LONG}}}'):
                started = time.process_time()
                response = shared_client.request(method, target(route), content=put(body, at, text), headers=JSON)
                used = time.process_time() - started
                assert response.status_code in (413, 422), (route, at, text[:20], response.text)
                assert_problem(response, response.status_code)
                assert used < CPU_S, (route, at, text[:20], used)
                tried += 1
    assert tried > 15


@pytest.mark.parametrize(
    "filter",
    [
        '{"$or": [' + ",".join(f'{{"a{number}": 1}}' for number in range(40_000)) + "]}",
        "{" + ",".join(f'"k{number}":1' for number in range(40_000)) + "}",
        '{"a": {"$in": [' + ",".join(map(str, range(1_000_000))) + "]}}",
        '{"$and": [' + ",".join(['{"$or": [{"a": 1}, {"b": 2}]}'] * 10_000) + "]}",
        '{"$not": ' * 150 + "{}" + "}" * 150,
    ],
    ids=["or", "and", "in", "repeated", "deep"],
)
def test_filters_that_are_slow_to_understand(shared_client: TestClient, filter: str) -> None:
    """H3: they are weighed before anything is made of them."""
    started = time.process_time()
    body = f'{{"collection": "digits", "query": {{"id": "digit-0000"}}, "filter": {filter}}}'
    response = shared_client.post("/search", content=body, headers=JSON)
    assert_problem(response, 422)
    assert time.process_time() - started < CPU_S


def test_a_stream_line_that_is_slow_to_read(shared_client: TestClient) -> None:
    """H3"""
    for text in (MANY, DEEP_OBJECT, DEEP_LIST, LONG):
        for line in (text, f'{{"code": "0000000000000000", "payload": {text}}}'):
            started = time.process_time()
            response = shared_client.post(
                "/ingest?collection=digits", content=line, headers={"content-type": "application/x-ndjson"}
            )
            assert response.status_code in (413, 422), response.text
            assert_problem(response, response.status_code)
            assert time.process_time() - started < CPU_S


def repeated(value: Any) -> Iterator[str]:
    """`value` as JSON with each of its members in turn there twice."""
    if isinstance(value, dict):
        names, parts, ends = [f"{json.dumps(name)}:" for name in value], list(value.values()), "{}"
        members = [name + json.dumps(part) for name, part in zip(names, parts, strict=True)]
        yield from (f"{{{','.join([member, *members])}}}" for member in members)
    elif isinstance(value, list):
        names, parts, ends = [""] * len(value), value, "[]"
        members = [json.dumps(part) for part in parts]
    else:
        return
    for place, part in enumerate(parts):
        for inner in repeated(part):
            whole = [*members[:place], names[place] + inner, *members[place + 1 :]]
            yield ends[0] + ",".join(whole) + ends[1]


def test_every_name_that_comes_twice_is_refused(shared_client: TestClient, document: dict[str, Any]) -> None:
    """H3: in every object of every body; the first and the second may well be the same."""
    tried = 0
    for method, route, body in bodies(document):
        cases = list(repeated(body))
        assert cases, route
        for case in cases:
            response = shared_client.request(method, target(route), content=case, headers=JSON)
            problem = assert_problem(response, 422, "invalid-request")
            assert "more than once" in problem["detail"]
            tried += 1
    assert tried > 30


@pytest.mark.parametrize(
    "text",
    [
        '{"collection":"digits","query":{"id":"digit-0000"},"\\u006b":1,"k":2}',
        '{"collection":"digits","query":{"id":"digit-0000"},"filter":{"a":{"$gte":1,"$gte":2}}}',
        '{"collection":"digits","query":{"id":"digit-0000"},"filter":{"$or":[{"a":1,"a":2}]}}',
        '{"collection":"digits","collection" :"digits","query":{"id":"digit-0000"}}',
        '{"collection":"digits","query":{"id":"digit-0000","id":"digit-0000"}}',
    ],
)
def test_a_name_that_comes_twice_however_it_is_written(shared_client: TestClient, text: str) -> None:
    """H3"""
    assert_problem(shared_client.post("/search", content=text, headers=JSON), 422, "invalid-request")


def test_a_name_that_comes_twice_in_a_line(client: TestClient) -> None:
    """H3: of a stream too, in an item or in its payload, and what came before it is stored."""
    kind = {"content-type": "application/x-ndjson"}
    good = '{"id":"g","code":"0000000000000000"}\n'
    for bad in (
        '{"id":"a","id":"b","code":"0000000000000000"}\n',
        '{"id":"a","code":"0000000000000000","code":"0000000000000001"}\n',
        '{"id":"a","code":"0000000000000000","payload":{"x":1,"x":2}}\n',
    ):
        response = client.post("/ingest?collection=digits", content=good + bad, headers=kind)
        problem = assert_problem(response, 422, "invalid-request")
        assert problem["errors"][0]["pointer"] == "/1"
        assert "more than once" in problem["errors"][0]["detail"]
        assert client.get("/collections/digits/items/g").status_code == 200
        for id in "ab":
            assert_problem(client.get(f"/collections/digits/items/{id}"), 404)
        skipped = client.post("/ingest?collection=digits&on_error=skip", content=good + bad, headers=kind).json()
        assert [fault["position"] for fault in skipped["errors"]] == [1]


@pytest.mark.parametrize("literal", ["true", "false", "1.0", '"1"', "null", "[1]", "{}"])
def test_only_an_integer_is_an_integer(shared_client: TestClient, document: dict[str, Any], literal: str) -> None:
    """H3: `true` is no 1, in every integer field; null only where it may be left out."""
    tried = 0
    for method, route, body in bodies(document):
        for at in fields(document, method, route, {"integer"}):
            response = shared_client.request(method, target(route), content=put(body, at, literal), headers=JSON)
            if literal == "null" and response.status_code < 300:
                continue
            assert_problem(response, 422)
            tried += 1
    assert tried > 10


# -- the checks themselves -----------------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(alphabet='ab:"\\ ', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='ab:"\\ ', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain, st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :"), ("\n,", "\t: ")]))
def test_what_is_written_once_is_let_through(value: Any, separators: tuple[str, str]) -> None:
    """H3: whatever colons, quotes and backslashes there are in names and strings."""
    body = json.dumps(value, separators=separators).encode()
    assert parse(body, 1_000) == value


@given(st.data(), plain)
def test_what_is_written_twice_is_not(data: st.DataObject, value: Any) -> None:
    """H3"""
    cases = list(repeated({"outer": value, "list": [value]}))
    with pytest.raises(InvalidRequest, match="more than once"):
        parse(data.draw(st.sampled_from(cases)).encode(), 1_000)


@pytest.mark.parametrize("name", ["k", "k\\\\", '\\"', ":", '\\":', "é"])
@pytest.mark.parametrize("colon", [":", " :", "\n\t:"])
def test_names_are_counted_however_they_are_written(name: str, colon: str) -> None:
    """H3"""
    many = ("{" + ",".join(f'"{name}{number}{name}"{colon}1' for number in range(101)) + "}").encode()
    with pytest.raises(TooLarge, match="max_members"):
        check_members(many, 100, "max_members")
    check_members(many, 101, "max_members")
    text = json.dumps({"text": '"a": ' * 10_000 + ":" * 10_000}).encode()
    check_members(text, 1, "max_members")


def test_members_of_parsed_bodies_are_counted() -> None:
    """H3: so that a body that repeats nothing is not read twice."""
    search = {"collection": "c", "query": {"code": "00"}, "k": 1, "filter": {"$or": [{"a": 1}, {"b": {"$in": [1, 2]}}]}}
    items = {
        "collection": "c",
        "items": [{"id": "a", "vector": [1.0, 2.0]}, {"code": "00", "payload": {"a": {"b": 1}}}],
    }
    for kind, body in ((SearchRequest, search), (IngestRequest, items)):
        text = json.dumps(body).encode()
        assert members_of(kind.model_validate_json(text)) == text.count(b":")  # type: ignore[attr-defined]
        check_repeats(text, text.count(b":"))
