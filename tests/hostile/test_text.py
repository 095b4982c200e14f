"""Text that breaks what is careless with it: 422, or stored and given back byte for byte. (reliability.md H2)"""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import pytest
from bodies import bodies, fields, put, target
from support import assert_problem
from wire import Served

ZERO = "00" * 8
WHOLE = {
    "nul-inside": "a\0b",
    "bom": "\ufeffa",
    "bom-alone": "\ufeff",
    "rtl": "\u202egnp.exe\u202c",
    "zero-width": "a\u200b\u200c\u200d\u2060b",
    "variation": "a\ufe0f",
    "decomposed": "e\u0301",
    "composed": "\u00e9",
    "emoji": "👩\u200d👩\u200d👧\u200d👦🏳\ufe0f\u200d🌈",
    "last": "\U0010ffff",
    "not-a-character": "\ufffe\uffff",
    "replacement": "\ufffd",
    "controls": "\x01\x1b[31m\x7f\x85\u2028\u2029",
    "quotes": "'\";--\\/<script>{{7*7}}${x}%00%0a",
    "lines": "a\r\nx-injected: 1\r\n\r\nb",
    "space": " a ",
    "wide-space": "\u3000",
    "look-alike": "аdmin",  # the first letter is Cyrillic
    "sharp-s": "ß ẞ ſ ſt",
    "turkish": "İıIi",
}
HALF = ['"\\ud800"', '"\\udfff"', '"a\\ud83db"', '"\\ude00\\ud83d"']
BAD_BYTES = [b"\xff", b"\xfe\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc3", b"\x80", b"\xe2\x28\xa1"]
LONG = "é" * 500_000  # a megabyte


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE.keys())
def test_what_is_stored_comes_back_byte_for_byte(served: Served, text: str) -> None:
    """H2: as id, in payload names and values, and as text; by JSON, stream and form. NUL alone is refused as an id."""
    payload = {f"n{text}": text, "list": [text, {"inner": text}]}
    item = {"id": f"odd-{text}", "code": ZERO, "payload": payload}
    where = f"/collections/digits/items/{quoted(item['id'])}"
    line = json.dumps(item).encode() + b"\n"  # escapes; the JSON body has the characters themselves
    for send in (
        lambda: served.post("/ingest", {"collection": "digits", "items": [item]}),
        lambda: served.send("POST", "/ingest?collection=digits", line, "application/x-ndjson"),
    ):
        reply = send()
        if "\0" in text:
            assert "NUL" in assert_problem(reply, 422)["detail"]
            assert served.get(where).status_code in (404, 422)
            continue
        assert reply.json()["ids"] == [item["id"]]
        stored = served.get(where).json()
        assert (stored["id"], stored["payload"]) == (item["id"], payload)
        hits = served.post("/search", {"collection": "digits", "query": {"id": item["id"]}, "k": 300}).json()["hits"]
        assert payload in [hit["payload"] for hit in hits if hit["id"] == item["id"]]
        assert served.send("DELETE", where).json() == {"deleted": 1}
        assert_problem(served.get(where), 404)
    kept = {"id": "odd-payload", "code": ZERO, "payload": payload}
    assert served.post("/ingest", {"collection": "digits", "items": [kept]}).status_code == 200
    assert served.get("/collections/digits/items/odd-payload").json()["payload"] == payload


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE.keys())
def test_a_text_is_kept_as_it_came(served: Served, text: str) -> None:
    """H2"""
    item = {"id": "odd-text", "text": f"open a file {text}"}
    assert served.post("/ingest", {"collection": "python-docs", "items": [item]}).status_code == 200
    assert served.get("/collections/python-docs/items/odd-text").json()["input"] == {"text": item["text"]}


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE.keys())
def test_a_filter_finds_what_is_stored_and_nothing_that_looks_like_it(served: Served, text: str) -> None:
    """H2: no normal form is made of anything, no two texts are one."""
    items = [{"id": f"f-{place}", "code": ZERO, "payload": {"odd": one}} for place, one in enumerate(WHOLE.values())]
    served.post("/ingest", {"collection": "digits", "items": items})
    body = {"collection": "digits", "query": {"code": ZERO}, "radius": 64, "filter": {"odd": text}}
    hits = served.post("/search", body).json()["hits"]
    assert [hit["id"] for hit in hits] == [f"f-{list(WHOLE.values()).index(text)}"]


def test_every_odd_text_in_every_field(served: Served) -> None:
    """H2: an answer, or a problem that does not repeat it; never a 5xx, and no header that the text has made."""
    document = served.get("/openapi.json").json()
    tried = 0
    for method, route, body in bodies(document):
        if route == "/train":
            body = {**body, "data": {"dataset": "nobody"}}  # no job is wanted
        for at in fields(document, method, route, {"string"}):
            for literal in (*map(json.dumps, list(WHOLE.values())[::3]), *HALF[:2], f'"{LONG}"'):
                reply = served.send(method.upper(), target(route), put(body, at, literal))
                assert reply.status_code < 500, (route, at, literal[:50], reply.text)
                assert "x-injected" not in reply.headers
                if reply.status_code >= 400:
                    assert_problem(reply, reply.status_code)
                    assert len(reply.content) < 8_000, (route, at, literal[:50])
                elif literal in HALF:
                    raise AssertionError((route, at, literal))
                tried += 1
    assert tried > 250
    assert served.get("/readyz").status_code == 200


@pytest.mark.parametrize("bad", BAD_BYTES, ids=repr)
def test_bytes_that_are_not_utf8(served: Served, bad: bytes) -> None:
    """H2: in every body, in a stream, in a form, in the address."""
    document = served.get("/openapi.json").json()
    for method, route, body in bodies(document):
        content = json.dumps({**body, "--bad--": 1}).encode().replace(b"--bad--", bad)
        assert_problem(served.send(method.upper(), target(route), content), 422)
    line = b'{"id": "' + bad + b'", "code": "0000000000000000"}'
    assert_problem(served.send("POST", "/ingest?collection=digits", line, "application/x-ndjson"), 422)
    parts = [("collection", b"digits", None), ("files", b"x", b"a" + bad)]
    assert served.send("POST", "/ingest", form(parts), FORM).status_code in (400, 422)
    text = [("collection", b"python-docs", None), ("files", b"open a file " + bad, b"t.txt")]
    assert "UTF-8" in assert_problem(served.send("POST", "/ingest", form(text), FORM), 422)["detail"]
    reply = served.get(f"/collections/digits/items/{''.join(f'%{byte:02x}' for byte in bad)}")
    assert reply.status_code in (404, 422)
    assert_problem(reply, reply.status_code)


FORM = "multipart/form-data; boundary=--x"


def form(parts: list[tuple[str, bytes, bytes | None]]) -> bytes:
    out = b""
    for name, data, file in parts:
        filename = b"" if file is None else b'; filename="' + file + b'"'
        out += b'----x\r\ncontent-disposition: form-data; name="' + name.encode() + b'"' + filename + b"\r\n\r\n"
        out += data + b"\r\n"
    return out + b"----x--\r\n"


def test_a_mark_before_the_body_is_refused(served: Served) -> None:
    """H2: a byte order mark, and the encodings that begin with one."""
    good: dict[str, Any] = {"collection": "digits", "query": {"code": ZERO}}
    text = json.dumps(good)
    for body in (text.encode("utf-8-sig"), text.encode("utf-16"), text.encode("utf-32"), text.encode("utf-16-le")):
        assert_problem(served.send("POST", "/search", body), 422)
        assert_problem(served.send("POST", "/ingest", body), 422)


def test_a_megabyte_where_a_word_is_meant(served: Served) -> None:
    """H2: an id and a payload have limits that are told, a text another, and none is given back."""
    items = [
        {"id": LONG, "code": ZERO},
        {"id": "x", "code": ZERO, "payload": {"a": LONG}},
        {"id": "x", "code": ZERO, "payload": {LONG: 1}},
        {"id": "x", "code": LONG},
        {"id": "x", "image": LONG},
    ]
    for item in items:
        reply = served.post("/ingest", {"collection": "digits", "items": [item]})
        problem = assert_problem(reply, 422)
        assert (
            "limit" in problem["detail"]
            or "bytes" in problem["detail"]
            or "base64" in problem["detail"]
            or ("digits" in problem["detail"])
        )
        assert len(reply.content) < 2_000
    reply = served.post("/search", {"collection": "python-docs", "query": {"text": LONG}})
    assert "max_text_chars" in assert_problem(reply, 413)["detail"]
    assert_problem(served.get(f"/collections/digits/items/{'x' * 60_000}"), 404)
