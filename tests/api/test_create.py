"""/generate, /denoise, /encode, /decode."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, png

from models.data import Dataset
from models.images import decode_image


def picture(output: dict[str, Any]) -> np.ndarray[Any, Any]:
    assert set(output) >= {"image"}
    return decode_image(base64.b64decode(output["image"]))


# -- generate ----------------------------------------------------------------------------------------------------


def generate(client: TestClient, **body: Any) -> Any:
    return client.post("/generate", json={"model": "digits-vae", **body})


def test_generated_items_follow_the_seed_and_carry_their_code(shared_client: TestClient) -> None:
    reply = generate(shared_client, n=4, seed=7).json()
    assert reply["seed"] == 7
    assert len(reply["items"]) == 4
    assert reply == generate(shared_client, n=4, seed=7).json()
    assert reply != generate(shared_client, n=4, seed=8).json()
    for item in reply["items"]:
        assert set(item) == {"image", "code"}
        assert picture(item).shape == (8, 8, 1)
        encoded = shared_client.post("/encode", json={"model": "digits-vae", "inputs": [{"image": item["image"]}]})
        assert encoded.json()["codes"] == [item["code"]]


def test_generated_items_come_with_their_nearest_by_the_collections_own_model(shared_client: TestClient) -> None:
    item = generate(shared_client, n=1, collection="digits").json()["items"][0]
    found = shared_client.post("/search", json={"collection": "digits", "query": {"image": item["image"]}, "k": 3})
    assert item["nearest"] == found.json()["hits"]
    assert_problem(generate(shared_client, collection="python-docs"), 422)
    assert_problem(generate(shared_client, collection="nobody"), 404, "unknown-collection")


def test_generated_near_something(shared_client: TestClient, datasets: dict[str, Dataset]) -> None:
    image = png(datasets["digits"].items[0])
    for near in ({"image": image}, {"code": "0123456789abcdef"}, {"id": datasets["digits"].ids[0]}):
        reply = generate(shared_client, n=2, near=near, collection="digits").json()
        assert len(reply["items"]) == 2
    by_image = generate(shared_client, n=2, near={"image": image}).json()["items"]
    by_id = generate(shared_client, n=2, near={"id": datasets["digits"].ids[0]}, collection="digits").json()["items"]
    assert [item["image"] for item in by_image] == [item["image"] for item in by_id]
    assert_problem(generate(shared_client, near={"id": "digit-0000"}), 422)
    still = generate(shared_client, n=2, temperature=0, near={"image": image}).json()["items"]
    assert still[0] == still[1]


def test_a_contact_sheet(shared_client: TestClient) -> None:
    response = shared_client.post(
        "/generate", json={"model": "digits-vae", "n": 16, "seed": 7}, headers={"accept": "image/png"}
    )
    assert response.headers["content-type"] == "image/png"
    assert decode_image(response.content).shape == (4 * 68 + 4, 4 * 68 + 4, 1)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/png", "image/png"),
        ("image/png, application/json;q=0.5", "image/png"),
        ("application/json, image/png;q=0.1", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_the_better_rated_form_is_sent(shared_client: TestClient, accept: str, kind: str) -> None:
    response = shared_client.post("/generate", json={"model": "digits-vae"}, headers={"accept": accept})
    assert response.headers["content-type"] == kind


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"model": "digits-hash"}, 409, "capability-missing"),
        ({"model": "nobody"}, 404, "unknown-model"),
        ({"model": "digits-vae:9"}, 404, "unknown-model"),
        ({"n": 0}, 422, "invalid-request"),
        ({"n": 257}, 413, "too-large"),
        ({"temperature": -1}, 422, "invalid-request"),
        ({"near": {"text": "t"}}, 422, "invalid-input"),
        ({"seed": -1}, 422, "invalid-request"),
        ({"seed": 2**63}, 422, "invalid-request"),
    ],
    ids=str,
)
def test_generations_that_are_refused(shared_client: TestClient, body: Any, status: int, slug: str) -> None:
    problem = assert_problem(generate(shared_client, **body), status, slug)
    if slug == "capability-missing":
        assert "vae" in problem["detail"]


# -- denoise -----------------------------------------------------------------------------------------------------


def denoise(client: TestClient, **body: Any) -> Any:
    return client.post("/denoise", json={"model": "digits-denoise", **body})


def test_a_denoised_item_surprises_the_model_less(shared_client: TestClient, datasets: dict[str, Dataset]) -> None:
    rng = np.random.default_rng(0)
    noisy = (datasets["digits"].items[5] + rng.normal(0, 60, (8, 8, 1))).clip(0, 255).astype(np.uint8)
    reply = denoise(shared_client, input={"image": png(noisy)}, search={"collection": "digits", "k": 4}).json()
    assert picture(reply["output"]).shape == (8, 8, 1)
    assert reply["error_after"] < reply["error_before"]
    assert len(reply["hits"]) == 4
    again = shared_client.post(
        "/search", json={"collection": "digits", "query": {"image": reply["output"]["image"]}, "k": 4}
    )
    assert again.json()["hits"] == reply["hits"]
    assert "hits" not in denoise(shared_client, input={"image": png(noisy)}).json()


@pytest.mark.parametrize("model", ["digits-denoise", "digits-vae"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("form", ["list", "png"])
def test_inpainting_leaves_the_known_part_alone(
    shared_client: TestClient, datasets: dict[str, Dataset], model: str, steps: int, form: str
) -> None:
    original = datasets["digits"].items[9]
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 3:7] = 1
    spoiled = np.where(mask[:, :, None] == 1, 0, original).astype(np.uint8)
    given = mask.tolist() if form == "list" else png((mask * 255)[:, :, None])
    body = denoise(shared_client, model=model, input={"image": png(spoiled)}, mask=given, steps=steps).json()
    filled = picture(body["output"])
    assert np.array_equal(filled[mask == 0], original[mask == 0])
    assert not np.array_equal(filled[mask == 1], spoiled[mask == 1])


def test_inpainting_a_vector_leaves_the_known_part_alone(client: TestClient, datasets: dict[str, Dataset]) -> None:
    engine = client.app.state.engine  # type: ignore[attr-defined]
    from service.training import Training, train

    draft = engine.registry.draft("vectors-denoise")
    for _ in train(
        Training("vectors-denoise", "denoising-autoencoder", 32, {"epochs": 3, "hidden": 32}),
        datasets["vectors"],
        draft,
    ):
        pass
    engine.registry.add("vectors-denoise", draft)
    vector = datasets["vectors"].items[0]
    mask = [1] * 6 + [0] * 18
    reply = denoise(client, model="vectors-denoise", input={"vector": vector.tolist()}, mask=mask).json()
    out = np.array(reply["output"]["vector"], np.float32)
    assert np.allclose(out[6:], vector[6:], atol=1e-6)
    assert not np.allclose(out[:6], vector[:6], atol=1e-3)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"mask": [[0] * 8] * 7}, 422),
        ({"mask": [[2] * 8] * 8}, 422),
        ({"mask": [[0] * 8] * 7 + [[0]]}, 422),
        ({"mask": "not base64"}, 422),
        ({"mask": [["a"] * 8] * 8}, 422),
        ({"mask": [["1"] * 8] * 8}, 422),
        ({"mask": [[10**400] * 8] * 8}, 422),
        ({"model": "vectors-itq"}, 409),
        ({"steps": 0}, 422),
        ({"steps": 101}, 422),
        ({"input": {"id": "digit-0000"}}, 422),
        ({"input": {"text": "t"}}, 422),
        ({"search": {"collection": "nobody"}}, 404),
        ({"search": {"collection": "python-docs"}}, 422),
    ],
    ids=str,
)
def test_repairs_that_are_refused(
    shared_client: TestClient, datasets: dict[str, Dataset], body: dict[str, Any], status: int
) -> None:
    given = {"input": {"image": png(datasets["digits"].items[0])}, **body}
    assert_problem(denoise(shared_client, **given), status)


# -- encode and decode ---------------------------------------------------------------------------------------------


def test_a_code_decodes_into_its_kind_of_item(shared_client: TestClient, datasets: dict[str, Dataset]) -> None:
    image = png(datasets["digits"].items[3])
    code = shared_client.post("/encode", json={"model": "digits-hash", "inputs": [{"image": image}]}).json()["codes"][0]
    items = shared_client.post("/decode", json={"model": "digits-hash", "codes": [code, "ff" * 8]}).json()["items"]
    assert picture(items[0]).shape == (8, 8, 1)
    text = shared_client.post("/decode", json={"model": "docs-hash", "codes": ["a5" * 16]}).json()["items"][0]
    assert len(text["text"].split()) == 12
    vector = shared_client.post("/decode", json={"model": "vectors-itq", "codes": ["a5" * 4]}).json()["items"][0]
    assert len(vector["vector"]) == 24


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        ("/decode", {"model": "digits-hash", "codes": ["00"]}, 422),
        ("/decode", {"model": "digits-hash", "codes": []}, 422),
        ("/decode", {"model": "nobody", "codes": ["00"]}, 404),
        ("/encode", {"model": "digits-hash", "inputs": []}, 422),
        ("/encode", {"model": "digits-hash", "inputs": [{"id": "digit-0000"}]}, 422),
        ("/encode", {"model": "digits-hash", "inputs": [{"code": "00"}]}, 422),
        ("/encode", {"model": "vectors-itq", "inputs": [{"vector": [0.0] * 24}, {"vector": [1e300] * 24}]}, 422),
    ],
    ids=str,
)
def test_what_cannot_be_encoded_or_decoded(shared_client: TestClient, route: str, body: Any, status: int) -> None:
    problem = assert_problem(shared_client.post(route, json=body), status)
    if len(body.get("inputs", [])) == 2:
        assert problem["errors"][0]["pointer"] == "/inputs/1"
