"""Items that are no pictures: vectors and sounds are damaged, masked, repaired and listened to; codes are searched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browsing import settled, tab
from support import server, sounds, vectors

from models.data import Dataset
from service.cli.ingest import ingest_dataset
from service.engine import Engine
from service.settings import Settings
from service.training import Training, train

FAMILY = "denoising-autoencoder"
PARTS: tuple[tuple[str, Dataset, dict[str, Any]], ...] = (
    ("numbers", vectors(), {"epochs": 3, "hidden": 32}),
    ("sounds", sounds(40), {"epochs": 1, "channels": 4}),
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a model that repairs, and a collection, of each of these kinds."""
    root = tmp_path_factory.mktemp("kinds") / "data"
    with Engine(Settings(data_dir=root)) as engine:
        for name, data, params in PARTS:
            draft = engine.registry.draft(name)
            for _ in train(Training(name, FAMILY, 32, params), data, draft):
                pass
            engine.registry.add(name, draft)
            ingest_dataset(engine, data, name, name)
    with server(root) as (address, _):
        yield address


@pytest.fixture
def view(browser: Any, kinds: str, faults: list[str]) -> Iterator[Any]:
    with tab(browser, kinds, faults) as found:
        yield found
    assert not faults


def repaired(view: Any, action: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    with view.expect_response(lambda reply: reply.url.endswith("/denoise")) as waiting:
        action()
    settled(view)
    assert waiting.value.status == 200, waiting.value.text()
    return waiting.value.request.post_data_json, waiting.value.json()


def opened(view: Any, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The part Repair with `model`, whose first reply it gives."""
    found = repaired(view, lambda: view.goto("/#/repair"))
    return found if found[0]["model"] == f"{model}:1" else repaired(view, lambda: choose(view, model))


def choose(view: Any, model: str) -> None:
    view.get_by_label("Model", exact=True).select_option(f"{model}:1")


def test_a_vector_is_made_noisy_and_filled_in(view: Any) -> None:
    opened(view, "numbers")
    clean, _ = repaired(view, lambda: view.get_by_role("button", name="Start over").click())
    noisy, _ = repaired(view, lambda: view.get_by_role("button", name="Add noise").click())
    away = np.subtract(noisy["input"]["vector"], clean["input"]["vector"])
    assert 0.1 < away.std() / np.std(clean["input"]["vector"]) < 0.6
    missing = view.get_by_label("Missing places")
    missing.fill("0-3, 7")
    asked, reply = repaired(view, lambda: missing.press("Tab"))
    assert np.flatnonzero(asked["mask"]).tolist() == [0, 1, 2, 3, 7]
    known = np.array(asked["mask"]) == 0
    np.testing.assert_allclose(
        np.array(reply["output"]["vector"])[known], np.array(asked["input"]["vector"])[known], rtol=1e-3
    )
    assert view.locator(".repaired .curve").count() == 2
    missing.fill("30")
    missing.press("Tab")
    assert "names no places from 0 to 23" in view.locator(".editor .fault").inner_text()


def test_a_part_of_a_sound_is_filled_in_and_can_be_heard(view: Any) -> None:
    opened(view, "sounds")
    view.get_by_label("missing from, in seconds").fill("0.05")
    to = view.get_by_label("missing to, in seconds")
    to.fill("0.1")
    asked, reply = repaired(view, lambda: to.press("Tab"))
    assert np.flatnonzero(asked["mask"]).tolist() == list(range(200, 400)), "4,000 samples a second"
    assert len(asked["mask"]) == 512
    assert reply["output"]["audio"]
    assert view.get_by_role("heading", name="Filled in").is_visible()
    curve = view.locator(".repaired .sound").first.locator("rect")
    assert curve.count() == 48
    assert max(float(bar.get_attribute("height")) for bar in curve.all()) == pytest.approx(20)
    play = view.get_by_label("Play the model’s repair")
    play.click()
    assert not view.locator(".problem").count()


def test_sounds_are_searched_by_a_button_of_their_own(view: Any) -> None:
    view.goto("/#/search?collection=sounds")
    settled(view)
    with view.expect_response(lambda reply: reply.url.endswith("/search")) as waiting:
        view.get_by_role("button", name="Search with this one").nth(3).click()
    found = waiting.value.json()
    assert found["hits"][0]["distance"] == 0
    settled(view)
    view.locator("summary", has_text="The request").click()
    shown = view.locator("pre").inner_text()
    assert json.loads(shown.partition("\n")[2])["query"] == waiting.value.request.post_data_json["query"]


def test_the_first_of_several_kinds_is_shown_where_there_are_no_digits(view: Any) -> None:
    view.goto("/")
    settled(view)
    assert view.get_by_label("Search in").input_value() == "numbers"
    assert view.locator(".answer .hit .curve").count() == 12
