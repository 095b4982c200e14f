"""/ingest: what a 2xx means, all or nothing, files, and what is refused."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, png

from service.app import create_app
from service.settings import Settings

RNG = np.random.default_rng(5)
DIGIT = png(RNG.integers(0, 255, (8, 8, 1)).astype(np.uint8))
PHOTO = png(RNG.integers(0, 255, (60, 40, 3)).astype(np.uint8))

CUT = base64.b64encode(base64.b64decode(PHOTO)[:2000]).decode()


def count(client: TestClient, collection: str = "digits") -> int:
    return int(client.get(f"/collections/{collection}").json()["items"])


def ingest(client: TestClient, *items: dict[str, Any], collection: str = "digits", **rest: Any) -> Any:
    return client.post("/ingest", json={"collection": collection, "items": list(items), **rest})


def test_created_updated_and_unchanged(client: TestClient) -> None:
    before = count(client)
    first = ingest(client, {"id": "a", "image": DIGIT, "payload": {"label": 7}}, {"id": "b", "image": PHOTO})
    body = first.json()
    assert (body["created"], body["updated"], body["unchanged"]) == (2, 0, 0)
    assert body["ids"] == ["a", "b"]
    assert body["model"]["name"] == "digits-hash"
    assert body["took_ms"] > 0
    again = ingest(client, {"id": "a", "image": DIGIT, "payload": {"label": 7}}, {"id": "b", "image": DIGIT}).json()
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 1, 1)
    assert count(client) == before + 2
    found = client.post("/search", json={"collection": "digits", "query": {"image": DIGIT}, "k": 2}).json()
    assert [(hit["id"], hit["distance"]) for hit in found["hits"]] == [("a", 0), ("b", 0)]


def test_ids_are_made_in_order_and_any_string_will_do(client: TestClient) -> None:
    made = ingest(client, {"image": DIGIT}, {"image": DIGIT}).json()["ids"]
    assert made == sorted(made)
    odd = ["a/b?c#d", " ", "日本語", "‮rtl", "..", "é" * 256, "%2e%2e"]
    assert ingest(client, *({"id": id, "image": DIGIT} for id in odd)).json()["ids"] == odd
    listed = client.get("/collections/digits/items", params={"limit": 1000}).json()
    assert set(odd) <= {item["id"] for item in listed["items"]}


def test_the_same_picture_has_one_code_in_whatever_form(client: TestClient) -> None:
    """reliability.md M3"""
    from io import BytesIO

    from PIL import Image

    array = RNG.integers(0, 255, (8, 8)).astype(np.uint8)
    forms = []
    for options in ({"format": "PNG"}, {"format": "PNG", "compress_level": 0}, {"format": "WEBP", "lossless": True}):
        out = BytesIO()
        Image.fromarray(array).save(out, **options)
        forms.append(base64.b64encode(out.getvalue()).decode())
    codes = client.post("/encode", json={"model": "digits-hash", "inputs": [{"image": form} for form in forms]}).json()
    assert len(set(codes["codes"])) == 1


def test_one_bad_item_refuses_the_batch_and_names_it(client: TestClient) -> None:
    before = count(client)
    bad = {"id": "bad", "image": base64.b64encode(b"GIF89a").decode()}
    body = assert_problem(ingest(client, {"id": "good", "image": DIGIT}, bad), 422, "invalid-request")
    assert body["errors"] == [{"pointer": "/items/1", "detail": "the bytes are not a PNG, JPEG or WebP image"}]
    assert "Nothing was stored" in body["detail"]
    assert count(client) == before
    assert_problem(client.get("/collections/digits/items/good"), 404, "unknown-item")


def test_on_error_skip_stores_the_good_ones(client: TestClient) -> None:
    before = count(client)
    items = [
        {"id": "g1", "image": DIGIT},
        {"id": "b1", "image": "not base64"},
        {"id": "g2", "code": "00" * 8},
        {"id": "b2", "code": "00" * 4},
    ]
    body = client.post("/ingest?on_error=skip", json={"collection": "digits", "items": items}).json()
    assert body["ids"] == ["g1", "g2"]
    assert [(fault["position"], fault["id"]) for fault in body["errors"]] == [(1, "b1"), (3, "b2")]
    assert count(client) == before + 2


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"id": "x"}, "exactly one of"),
        ({"id": "x", "image": DIGIT, "text": "t"}, "exactly one of"),
        ({"id": "x", "text": "t"}, "takes image input; got text"),
        ({"id": "x", "vector": [1.0]}, "takes image input; got vector"),
        ({"id": "x", "image": CUT}, "broken"),
        ({"id": "x", "image": ""}, "not a PNG"),
        ({"id": "x", "code": "zz" * 8}, "hexadecimal"),
        ({"id": "x" * 513, "image": DIGIT}, "512 bytes"),
        ({"id": "a\0b", "image": DIGIT}, "NUL"),
        ({"id": "x", "image": DIGIT, "payload": {"a": "x" * 70_000}}, "max_payload_bytes"),
        ({"id": "x", "image": DIGIT, "extra": 1}, "xtra"),
        ({"id": 7, "image": DIGIT}, "string"),
        ({"id": "x", "image": DIGIT, "payload": [1]}, "object"),
    ],
)
def test_items_that_are_refused(client: TestClient, item: dict[str, Any], why: str) -> None:
    before = count(client)
    body = assert_problem(ingest(client, {"id": "good", "image": DIGIT}, item), 422)
    assert why in str(body)
    assert count(client) == before


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"vector": [1.0] * 23}, "24 numbers; got 23"),
        ({"vector": [1e300] * 24}, "finite"),
        ({"vector_b64": base64.b64encode(b"\0" * 95).decode()}, "4 bytes"),
        ({"vector_b64": base64.b64encode(np.full(24, np.nan, "<f4").tobytes()).decode()}, "finite"),
        ({"vector": []}, "at least 1"),
    ],
)
def test_vectors_that_are_refused(client: TestClient, item: dict[str, Any], why: str) -> None:
    body = assert_problem(ingest(client, item, collection="vectors"), 422)
    assert why in str(body)


@pytest.mark.parametrize("text", ["", "   ", "x" * 200_001])
def test_texts_that_are_refused(client: TestClient, text: str) -> None:
    assert_problem(ingest(client, {"text": text}, collection="python-docs"), 422)


@pytest.mark.parametrize("text", ["zzzz unknown words only", "😀", "مرحبا שלום", "a" * 200_000, "\u202e\u200b."])
def test_odd_texts_have_a_code(client: TestClient, text: str) -> None:
    """reliability.md M5"""
    assert ingest(client, {"id": "odd", "text": text}, collection="python-docs").status_code == 200
    assert client.get("/collections/python-docs/items/odd").json()["input"] == {"text": text}


def test_vectors_come_as_numbers_or_as_base64(client: TestClient) -> None:
    vector = RNG.normal(size=24).astype("<f4")
    ingest(client, {"id": "n", "vector": vector.tolist()}, collection="vectors")
    ingest(client, {"id": "b", "vector_b64": base64.b64encode(vector.tobytes()).decode()}, collection="vectors")
    a, b = (client.get(f"/collections/vectors/items/{id}").json() for id in "nb")
    assert a["code"] == b["code"]
    assert a["input"] == b["input"] == {"vector": vector.tolist()}


def test_a_collection_is_made_by_its_first_ingest(client: TestClient) -> None:
    assert_problem(ingest(client, {"image": DIGIT}, collection="new"), 404, "unknown-collection")
    assert_problem(ingest(client, {"image": DIGIT}, collection="new", model="nobody"), 404, "unknown-model")
    assert_problem(ingest(client, {"image": "bad"}, collection="new", model="digits-hash"), 422)
    assert_problem(client.get("/collections/new"), 404, "unknown-collection")
    assert ingest(client, {"image": DIGIT}, collection="new", model="digits-hash").status_code == 200
    assert client.get("/collections/new").json()["model"]["name"] == "digits-hash"


def test_a_model_that_did_not_fill_the_collection_is_refused(client: TestClient) -> None:
    """reliability.md S3: both have 64 bits"""
    before = count(client)
    response = ingest(client, {"image": DIGIT}, model="digits-vae")
    assert "was filled by digits-hash:1" in assert_problem(response, 409, "model-mismatch")["detail"]
    assert ingest(client, {"id": "x", "image": DIGIT}, model="digits-hash:1").status_code == 200
    assert count(client) == before + 1


def test_ready_made_codes_need_no_model(client: TestClient) -> None:
    assert client.post("/collections", json={"name": "codes", "bits": 256}).status_code == 201
    body = ingest(client, {"id": "a", "code": "0f" * 32}, collection="codes").json()
    assert (body["created"], body["model"]) == (1, None)
    assert_problem(ingest(client, {"image": DIGIT}, collection="codes"), 422)
    assert_problem(ingest(client, {"code": "0f" * 31}, collection="codes"), 422)
    found = client.post("/search", json={"collection": "codes", "query": {"code": "0e" * 32}}).json()
    assert [(hit["id"], hit["distance"]) for hit in found["hits"]] == [("a", 32)]
    assert_problem(client.post("/search", json={"collection": "codes", "query": {"image": DIGIT}}), 422)


def test_inputs_are_kept_unless_told_otherwise(client: TestClient) -> None:
    ingest(client, {"id": "kept", "image": PHOTO})
    assert client.get("/collections/digits/items/kept").json()["input"] == {"image": PHOTO}
    client.post("/collections", json={"name": "forgetful", "model": "digits-hash", "keep_inputs": False})
    ingest(client, {"id": "lost", "image": PHOTO}, collection="forgetful")
    assert client.get("/collections/forgetful/items/lost").json()["input"] is None


def test_files(client: TestClient) -> None:
    files = [("files", (name, base64.b64decode(DIGIT), "image/png")) for name in ("one.png", "../../etc/passwd")]
    body = client.post("/ingest", data={"collection": "digits"}, files=files).json()
    assert body["ids"] == ["one.png", "../../etc/passwd"]
    assert client.get("/collections/digits/items/one.png").status_code == 200
    text = [("files", ("note.txt", b"open a file", "text/plain"))]
    assert client.post("/ingest", data={"collection": "python-docs"}, files=text).json()["created"] == 1


@pytest.mark.parametrize(
    ("data", "files", "status"),
    [
        ({}, [("files", ("a", b"x", "image/png"))], 422),
        ({"collection": "digits"}, [("other", ("a", b"x", "image/png"))], 422),
        ({"collection": "digits"}, [("files", ("a", b"", "image/png"))], 422),
        ({"collection": "nobody"}, [("files", ("a", base64.b64decode(DIGIT), "image/png"))], 404),
        ({"collection": "python-docs"}, [("files", ("a", b"\xff\xfe\xff", "text/plain"))], 422),
        ({f"f{number}": "x" for number in range(20)} | {"collection": "digits"}, [("files", ("a", b"x"))], 400),
    ],
)
def test_forms_that_are_refused(client: TestClient, data: Any, files: Any, status: int) -> None:
    """reliability.md H7"""
    before = count(client)
    assert_problem(client.post("/ingest", data=data, files=files), status)
    assert count(client) == before


def test_a_form_without_a_boundary_is_refused(client: TestClient) -> None:
    response = client.post("/ingest", content=b"x", headers={"content-type": "multipart/form-data"})
    assert_problem(response, 400)


def test_first_ingests_at_once_make_one_collection(client: TestClient) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def first(number: int) -> int:
        item = {"id": f"n{number}", "image": DIGIT}
        return int(ingest(client, item, collection="new", model="digits-hash").status_code)

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(first, range(12))) == {200}
    assert count(client, "new") == 12


def test_a_collection_made_for_items_that_cannot_be_stored_goes_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.collection import EmbeddedCollection
    from index.errors import StoreFull

    def full(*arguments: Any, **options: Any) -> None:
        raise StoreFull("full")

    with monkeypatch.context() as broken:
        broken.setattr(EmbeddedCollection, "put", full)
        assert_problem(ingest(client, {"image": DIGIT}, collection="new", model="digits-hash"), 507, "disk-full")
    assert_problem(client.get("/collections/new"), 404, "unknown-collection")


def test_the_pixels_of_a_request_have_a_limit(data_dir: Path) -> None:
    with TestClient(create_app(Settings(data_dir=data_dir, max_request_pixels=5000))) as client:
        assert ingest(client, *[{"image": PHOTO}] * 2).status_code == 200
        body = assert_problem(ingest(client, *[{"image": PHOTO}] * 3), 422)
        assert "max_request_pixels" in body["detail"]


def test_many_bad_vectors_are_all_named(client: TestClient) -> None:
    items = [{"id": f"b{place}", "vector": [1e300 if place % 3 else 0.5] * 24} for place in range(300)]
    reply = client.post("/ingest?on_error=skip", json={"collection": "vectors", "items": items}).json()
    assert reply["created"] == 100
    assert len(reply["errors"]) == 200


def test_a_retry_with_the_same_key_does_nothing_twice(client: TestClient) -> None:
    """reliability.md C10, C11"""
    before = count(client)
    body = {"collection": "digits", "items": [{"image": DIGIT}, {"image": PHOTO}]}
    key = {"idempotency-key": "k-1"}
    first = client.post("/ingest", json=body, headers=key)
    again = client.post("/ingest", json=body, headers=key)
    assert first.json() == again.json()
    assert count(client) == before + 2
    assert_problem(client.post("/ingest", json={**body, "items": [{"image": DIGIT}]}, headers=key), 409, "key-reused")
    assert_problem(client.post("/ingest?on_error=skip", json=body, headers=key), 409, "key-reused")
    assert count(client) == before + 2
    assert client.post("/ingest", json=body, headers={"idempotency-key": "k-2"}).json()["created"] == 2
    nothing_new = {"collection": "digits", "items": [{"id": "digit-0000", "code": "00" * 8}]}
    for _ in range(2):
        assert client.post("/ingest", json=nothing_new, headers={"idempotency-key": "k-3"}).json()["updated"] == 1
    files = [("files", ("one.png", base64.b64decode(DIGIT), "image/png"))]
    for _ in range(2):
        reply = client.post("/ingest", data={"collection": "digits"}, files=files, headers={"idempotency-key": "k-4"})
        assert reply.json()["created"] == 1
    assert_problem(client.post("/ingest", json=body, headers={"idempotency-key": "x" * 256}), 422)


def test_retries_at_once_have_one_effect(client: TestClient) -> None:
    from concurrent.futures import ThreadPoolExecutor

    body = {"collection": "new", "model": "digits-hash", "items": [{"image": DIGIT}]}

    def send(_: int) -> str:
        return str(client.post("/ingest", json=body, headers={"idempotency-key": "k"}).json()["ids"])

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(send, range(12)))) == 1
    assert count(client, "new") == 1


def test_limits_are_told(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir, max_items=2, max_image_pixels=1000, max_body_bytes=20_000)
    with TestClient(create_app(settings)) as client:
        body = assert_problem(ingest(client, *[{"image": DIGIT}] * 3), 413, "too-large")
        assert "max_items" in body["detail"]
        body = assert_problem(ingest(client, {"image": PHOTO}), 422)
        assert "60" in body["detail"]
        assert "1,000" in body["detail"]
        body = assert_problem(client.post("/ingest", content=b" " * 20_001), 413, "too-large")
        assert "20,000 bytes" in body["detail"]

        def chunks() -> Any:
            for _ in range(30):
                yield b" " * 1000

        response = client.post("/ingest", content=chunks(), headers={"content-type": "application/json"})
        assert_problem(response, 413, "too-large")
