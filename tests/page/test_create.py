"""Create, as a person does it: sample, walk, flip bits."""

from __future__ import annotations

from typing import Any

from browsing import settled


def answered(page: Any, route: str, action: Any) -> dict[str, Any]:
    """The reply to the request to `route` that `action` leads to."""
    with page.expect_response(lambda reply: reply.url.endswith(route)) as waiting:
        action()
    found: dict[str, Any] = waiting.value.json()
    settled(page)
    return found


def section(page: Any, name: str) -> Any:
    return page.locator(".creation", has=page.get_by_role("heading", name=name, exact=True))


def pictures(place: Any) -> list[str]:
    return [image.get_attribute("src") for image in place.locator(".samples > figure > img").all()]


def test_samples_are_those_of_their_seed(page: Any) -> None:
    answered(page, "/generate", lambda: page.goto("/#/create"))
    place = section(page, "Sample")
    first = pictures(place)
    assert len(first) == len(set(first)) == 12
    assert place.locator(".samples .hit").count() == 12, "what is stored nearest to each"
    reply = answered(page, "/generate", lambda: place.get_by_role("button", name="Another seed").click())
    assert reply["seed"] == 8
    assert place.get_by_label("Seed").input_value() == "8"
    assert not set(first) & set(pictures(place))
    place.get_by_label("Seed").fill("7")
    answered(page, "/generate", lambda: page.keyboard.press("Tab"))
    assert pictures(place) == first
    answered(page, "/generate", lambda: place.get_by_label("Model", exact=True).select_option("digits-denoise:1"))
    assert not set(first) & set(pictures(place))


def test_only_models_that_can_are_offered(page: Any, address: str) -> None:
    answered(page, "/generate", lambda: page.goto("/#/create"))
    models = page.request.get(f"{address}/models").json()["models"]
    for name, capability in (("Sample", "sample"), ("Walk", "interpolate")):
        offered = {
            option.get_attribute("value")
            for option in section(page, name).get_by_label("Model", exact=True).locator("option").all()
        }
        assert offered == {f"{one['name']}:{one['version']}" for one in models if capability in one["capabilities"]}
        assert offered


def test_a_walk_from_one_item_to_another(page: Any) -> None:
    answered(page, "/interpolate", lambda: page.goto("/#/create"))
    place = section(page, "Walk")
    steps = pictures(place)
    assert len(steps) == 8
    assert len(set(steps)) == 8
    answered(page, "/interpolate", lambda: place.get_by_role("group", name="To").locator("button").nth(5).click())
    after = pictures(place)
    assert after[0] == steps[0]
    assert after[-1] != steps[-1]
    slider = place.get_by_label("Steps")
    slider.focus()
    answered(page, "/interpolate", lambda: page.keyboard.press("End"))
    assert len(pictures(place)) == 16


def test_a_bit_that_is_flipped_changes_the_item_and_its_neighbours(page: Any) -> None:
    answered(page, "/decode", lambda: page.goto("/#/create"))
    place = section(page, "Flip bits")
    bits = place.locator(".bit")
    assert bits.count() == 64
    code = place.locator(".flipped > code").inner_text()
    same, changed = (image.get_attribute("src") for image in place.locator(".figures img").all())
    assert same == changed
    distances = [card.get_attribute("data-distance") for card in place.locator(".hit").all()]
    was = bits.nth(5).get_attribute("aria-pressed")
    reply = answered(page, "/decode", lambda: bits.nth(5).click())
    assert bits.nth(5).get_attribute("aria-pressed") != was
    assert int(code, 16) ^ int(reply["items"][1]["code"], 16) == 1 << (63 - 5)
    same, changed = (image.get_attribute("src") for image in place.locator(".figures img").all())
    assert changed == f"data:image/png;base64,{reply['items'][1]['image']}"
    assert same != changed
    assert [card.get_attribute("data-distance") for card in place.locator(".hit").all()] != distances
    assert "1 bit flipped: 5" in place.locator(".flipped").inner_text()


def test_bits_by_keys(page: Any) -> None:
    answered(page, "/decode", lambda: page.goto("/#/create"))
    place = section(page, "Flip bits")
    place.locator(".bit").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    answered(page, "/decode", lambda: page.keyboard.press("Enter"))
    assert "1 bit flipped: 18" in place.locator(".flipped").inner_text()
    assert page.evaluate("document.activeElement.title") == "bit 18", "the focus stays where it was"
    answered(page, "/decode", lambda: page.keyboard.press("Enter"))
    assert "no bit flipped" in place.locator(".flipped").inner_text()


def test_many_flips_bring_other_items_near(page: Any) -> None:
    answered(page, "/decode", lambda: page.goto("/#/create"))
    place = section(page, "Flip bits")
    for bit in range(0, 24, 2):
        answered(page, "/decode", place.locator(".bit").nth(bit).click)
    assert place.locator(".hit.new").count() > 0
    answered(page, "/decode", lambda: place.get_by_role("button", name="Undo all").click())
    assert place.locator(".hit.new").count() == 0
