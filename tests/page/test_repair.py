"""Repair, as a person does it: damage an item, see it mended, and what each of the two finds."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from browsing import settled
from PIL import Image


def repaired(page: Any, action: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is asked of /denoise, and answered, by what `action` leads to."""
    with page.expect_response(lambda reply: reply.url.endswith("/denoise")) as waiting:
        action()
    page.wait_for_selector(".found .hit .item")
    settled(page)
    return waiting.value.request.post_data_json, waiting.value.json()


def opened(page: Any, model: str = "digits-denoise") -> tuple[dict[str, Any], dict[str, Any]]:
    found = repaired(page, lambda: page.goto("/#/repair"))
    if model != "digits-denoise":
        found = repaired(page, lambda: page.get_by_label("Model", exact=True).select_option(f"{model}:1"))
    return found


def picture(base: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(base))).convert("L")).astype(int)


def stroke(page: Any, *points: tuple[float, float]) -> None:
    box = page.locator(".pad").bounding_box()
    page.mouse.move(box["x"] + points[0][0] * box["width"], box["y"] + points[0][1] * box["height"])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=10)
    page.mouse.up()


def test_it_opens_with_a_masked_item_filled_in(page: Any) -> None:
    asked, reply = opened(page)
    assert page.get_by_role("heading", name="Filled in").is_visible()
    mask = np.array(asked["mask"])
    assert mask.shape == (8, 8)
    assert 0 < mask.sum() < 64
    given, made = picture(asked["input"]["image"]), picture(reply["output"]["image"])
    assert (given[mask == 1] == 0).all(), "what is missing is not sent"
    assert np.abs(given - made)[mask == 0].max() <= 1, "what is known stays"
    assert made[mask == 1].max() > 0, "what is missing is filled"
    assert page.locator(".found .hits").count() == 2, "a search with either"
    shown = page.locator(".repaired img").first.get_attribute("src")
    assert shown == f"data:image/png;base64,{reply['output']['image']}"


def test_noise_is_taken_away(page: Any) -> None:
    opened(page)
    asked, _ = repaired(page, lambda: page.get_by_role("button", name="Start over").click())
    assert "mask" not in asked
    clean = picture(asked["input"]["image"])
    asked, reply = repaired(page, lambda: page.get_by_role("button", name="Add noise").click())
    noisy = picture(asked["input"]["image"])
    assert 20 < np.abs(noisy - clean).mean() < 90
    assert page.get_by_role("heading", name="Denoised").is_visible()
    assert np.abs(picture(reply["output"]["image"]) - clean).mean() < np.abs(noisy - clean).mean()
    assert reply["error_after"] < reply["error_before"]
    assert f"{reply['error_before']:.4f}".rstrip("0") in page.locator(".compared .hint").inner_text()


@pytest.mark.parametrize("model", ["digits-denoise", "digits-vae"])
def test_drawing_over_and_masking(page: Any, model: str) -> None:
    opened(page, model)
    before, _ = repaired(page, lambda: page.get_by_role("button", name="Start over").click())
    page.locator(".pad").scroll_into_view_if_needed()
    asked, _ = repaired(page, lambda: stroke(page, (0.06, 0.06), (0.06, 0.9)))
    drawn = picture(asked["input"]["image"])
    assert (drawn[:7, 0] == 255).all(), "a light line down the first column"
    assert (drawn[:, 2:] == picture(before["input"]["image"])[:, 2:]).all()
    page.get_by_label("mask: missing").check()
    asked, reply = repaired(page, lambda: stroke(page, (0.06, 0.06), (0.06, 0.95)))
    mask = np.array(asked["mask"])
    assert mask[:, 0].all()
    assert not mask[:, 1:].any()
    assert picture(reply["output"]["image"])[:7, 0].mean() < 128, "the line is gone"


def test_the_search_of_the_repaired_one_is_that_of_the_api(page: Any, address: str) -> None:
    _, reply = opened(page)
    shown = [card.get_attribute("data-id") for card in page.locator(".found .hits").nth(1).locator(".hit").all()]
    assert shown == [hit["id"] for hit in reply["hits"]]
    asked = {"collection": "digits", "query": reply["output"], "k": 6}
    assert shown == [hit["id"] for hit in page.request.post(f"{address}/search", data=asked).json()["hits"]]


def test_a_picture_of_ones_own(page: Any) -> None:
    opened(page)
    grey = Image.fromarray(np.full((20, 30), 120, np.uint8))
    file = io.BytesIO()
    grey.save(file, "PNG")
    own = {"name": "grey.png", "mimeType": "image/png", "buffer": file.getvalue()}
    asked, reply = repaired(page, lambda: page.locator("input[type=file]").set_input_files(own))
    assert np.array(asked["mask"]).shape == (20, 30)
    assert "output" in reply
