"""/interpolate, /score, latents of /encode and single bits of /decode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, png

from models.data import Dataset
from models.images import decode_image


def post(client: TestClient, route: str, model: str = "digits-vae", **body: Any) -> Any:
    return client.post(route, json={"model": model, **body})


@pytest.fixture
def two(datasets: dict[str, Dataset]) -> tuple[str, str]:
    """A digit and another."""
    items = datasets["digits"].items
    return png(items[0]), png(items[1])


# -- interpolate -----------------------------------------------------------------------------------------------


def test_the_way_from_one_item_to_another(shared_client: TestClient, two: tuple[str, str]) -> None:
    a, b = ({"image": image} for image in two)
    way = post(shared_client, "/interpolate", a=a, b=b, steps=5).json()["items"]
    assert len(way) == 5
    back = post(shared_client, "/interpolate", a=b, b=a, steps=2).json()["items"]
    still = post(shared_client, "/interpolate", a=a, b=a, steps=3).json()["items"]
    assert way[0] == back[1] == still[0] == still[1] == still[2]
    assert way[-1] == back[0]
    assert way[0] != way[-1]
    for item in way:
        again = post(shared_client, "/encode", inputs=[{"image": item["image"]}]).json()["codes"]
        assert again == [item["code"]]


def test_interpolation_takes_codes_stored_items_and_gives_sheets(
    shared_client: TestClient, two: tuple[str, str]
) -> None:
    body = {"a": {"code": "0123456789abcdef"}, "b": {"id": "digit-0000"}, "collection": "digits"}
    assert len(post(shared_client, "/interpolate", **body).json()["items"]) == 8
    sheet = shared_client.post(
        "/interpolate", json={"model": "digits-vae", **body, "steps": 4}, headers={"accept": "image/png"}
    )
    assert decode_image(sheet.content).shape == (2 * 68 + 4, 2 * 68 + 4, 1)


@pytest.mark.parametrize(
    ("change", "status", "slug"),
    [
        ({"model": "vectors-itq"}, 409, "capability-missing"),
        ({"steps": 1}, 422, "invalid-request"),
        ({"steps": 257}, 422, "invalid-request"),
        ({"a": {"text": "t"}}, 422, "invalid-input"),
        ({"a": {"id": "digit-0000"}}, 422, "invalid-request"),
        ({"a": {"code": "00"}}, 422, None),
        ({"b": {}}, 422, "invalid-request"),
    ],
    ids=str,
)
def test_interpolations_that_are_refused(
    shared_client: TestClient, two: tuple[str, str], change: dict[str, Any], status: int, slug: str | None
) -> None:
    body = {"a": {"image": two[0]}, "b": {"image": two[1]}, **change}
    problem = assert_problem(post(shared_client, "/interpolate", **body), status, slug)
    if slug == "capability-missing":
        assert "vae" in problem["detail"], "the families that could are named"


# -- encode: latents -------------------------------------------------------------------------------------------


def test_latents_are_given_when_asked_for(shared_client: TestClient, two: tuple[str, str]) -> None:
    inputs = [{"image": image} for image in two]
    assert "latents" not in post(shared_client, "/encode", inputs=inputs).json()
    reply = post(shared_client, "/encode", inputs=inputs, latents=True).json()
    assert np.array(reply["latents"]).shape == (2, 16)
    logits = np.array(post(shared_client, "/encode", "digits-hash", inputs=inputs, latents=True).json()["latents"])
    codes = post(shared_client, "/encode", "digits-hash", inputs=inputs).json()["codes"]
    assert [np.packbits(row > 0).tobytes().hex() for row in logits] == codes


# -- decode: single bits ---------------------------------------------------------------------------------------


def test_single_bits_are_walked_through_the_decoder(shared_client: TestClient) -> None:
    code = "0123456789abcdef"
    plain = post(shared_client, "/decode", codes=[code]).json()["items"]
    assert len(plain) == 1
    assert plain[0]["code"] == code
    assert "flipped" not in plain[0]
    walked = post(shared_client, "/decode", codes=[code, "ff" * 8], flip=[0, 63]).json()["items"]
    assert [item.get("flipped") for item in walked] == [None, 0, 63] * 2
    assert [item["code"] for item in walked[:3]] == [code, "8123456789abcdef", "0123456789abcdee"]
    assert walked[0] == plain[0]
    assert walked[1]["image"] == post(shared_client, "/decode", codes=["8123456789abcdef"]).json()["items"][0]["image"]
    every = post(shared_client, "/decode", codes=[code], flip="all").json()["items"]
    assert [item.get("flipped") for item in every] == [None, *range(64)]
    assert len({item["image"] for item in every}) > 8, "bits mean something to the decoder"


@pytest.mark.parametrize("flip", [[64], [-1], [0, 0.5], "some", [True]], ids=str)
def test_flips_that_are_refused(shared_client: TestClient, flip: Any) -> None:
    assert_problem(post(shared_client, "/decode", codes=["00" * 8], flip=flip), 422, "invalid-request")


def test_flips_count_as_items(shared_client: TestClient) -> None:
    assert_problem(post(shared_client, "/decode", codes=["00" * 8] * 200, flip="all"), 413, "too-large")


# -- score -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["digits-vae", "digits-denoise"])
def test_ordinary_items_score_above_strange_ones(
    shared_client: TestClient, datasets: dict[str, Dataset], model: str
) -> None:
    items = datasets["digits"].items[:40]
    noise = (np.random.default_rng(0).integers(0, 2, items.shape) * 255).astype(np.uint8)
    inputs = [{"image": png(item)} for item in (*items, *noise)]
    reply = post(shared_client, "/score", model, inputs=inputs).json()
    ordinary, strange = np.split(np.array(reply["scores"]), 2)
    assert (ordinary[:, None] > strange[None, :]).mean() > 0.95
    assert reply["measure"]
    assert "log_ratios" not in reply
    alone = [post(shared_client, "/score", model, inputs=[given]).json()["scores"][0] for given in inputs[:3]]
    assert alone == pytest.approx(reply["scores"][:3], rel=1e-4)


def test_how_much_likelier_one_item_is_than_another(shared_client: TestClient, two: tuple[str, str]) -> None:
    a, b = ({"image": image} for image in two)
    there = post(shared_client, "/score", "digits-denoise", inputs=[b, a], relative_to=a).json()["log_ratios"]
    back = post(shared_client, "/score", "digits-denoise", inputs=[a], relative_to=b).json()["log_ratios"]
    assert there[0] == pytest.approx(-back[0], rel=1e-3)
    assert there[1] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("model", "change", "status", "slug"),
    [
        ("vectors-itq", {"inputs": [{"vector": [0.5] * 24}]}, 409, "capability-missing"),
        ("digits-hash", {}, 409, "capability-missing"),
        ("digits-vae", {"relative_to": {"code": "00" * 8}}, 409, "capability-missing"),
        ("digits-denoise", {"inputs": [{"text": "t"}]}, 422, "invalid-request"),
        ("digits-denoise", {"inputs": []}, 422, "invalid-request"),
        ("nobody", {}, 404, "unknown-model"),
    ],
    ids=str,
)
def test_scores_that_are_refused(
    shared_client: TestClient, two: tuple[str, str], model: str, change: dict[str, Any], status: int, slug: str
) -> None:
    body = {"inputs": [{"image": two[0]}], **change}
    assert_problem(post(shared_client, "/score", model, **body), status, slug)
