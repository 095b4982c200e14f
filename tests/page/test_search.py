"""Search, as a person does it: choose, draw, drop, paste, write; move the radius; filter."""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import Any

import pytest
from browsing import settled, until

from service.examples import DIGIT

FIRST_PAINT_BYTES = 200_000
SEVEN = [[(0.2, 0.12), (0.8, 0.12), (0.42, 0.9)]]
ZERO = [
    [(0.5, 0.08), (0.28, 0.2), (0.22, 0.5), (0.3, 0.8), (0.5, 0.92), (0.7, 0.8), (0.78, 0.5), (0.72, 0.2), (0.5, 0.08)]
]
ONE = [[(0.5, 0.05), (0.5, 0.95)]]


def hits(page: Any) -> list[tuple[str, int]]:
    """Id and distance of every hit that is shown."""
    settled(page)
    cards = page.locator(".answer .hit").all()
    return [(card.get_attribute("data-id"), int(card.get_attribute("data-distance"))) for card in cards]


def labels(page: Any) -> Counter[str]:
    settled(page)
    return Counter(re.findall(r"label (\S+)", " ".join(page.locator(".answer .payload").all_inner_texts())))


def searched(page: Any, action: Any) -> dict[str, Any]:
    """The reply to the search that `action` leads to."""
    with page.expect_response(lambda reply: reply.url.endswith("/search")) as waiting:
        action()
    settled(page)
    found: dict[str, Any] = waiting.value.json()
    return found


def draw(page: Any, strokes: list[list[tuple[float, float]]]) -> None:
    pad = page.locator(".pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=8)
        page.mouse.up()


def held(page: Any) -> int:
    """How many items lie within the radius, as the page says."""
    until(page, "/^[\\d,]+ item/.test(document.querySelector('.held').textContent)")
    return int(re.match(r"[\d,]+", page.locator(".held").inner_text())[0].replace(",", ""))  # type: ignore[index]


def test_the_first_screen_has_an_answer(page: Any) -> None:
    page.goto("/")
    found = hits(page)
    assert len(found) == 12
    assert found[0][1] == 0
    assert [distance for _, distance in found] == sorted(distance for _, distance in found)
    assert page.locator("#part-title").inner_text() == "Search"
    assert page.locator(".asked .bits path").count() == 2, "ones and zeros"
    assert "candidates" in page.locator(".plan").inner_text()
    assert "ms in all" in page.locator(".plan").inner_text()
    sizes = page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".filter((one) => one.name.startsWith('http')).map((one) => one.transferSize)"
    )
    assert len(sizes) > 15
    assert sum(sizes) < FIRST_PAINT_BYTES


@pytest.mark.parametrize(("strokes", "label"), [(SEVEN, "7"), (ZERO, "0"), (ONE, "1")], ids=["seven", "zero", "one"])
def test_a_digit_that_is_drawn_finds_its_kind(page: Any, strokes: Any, label: str) -> None:
    page.goto("/")
    settled(page)
    reply = searched(page, lambda: draw(page, strokes))
    kinds = Counter(hit["payload"]["label"] for hit in reply["hits"])
    assert kinds.most_common(1)[0][0] == label, kinds
    assert kinds[label] >= 7
    assert labels(page) == kinds, "what is shown is what was found"
    assert page.locator(".asked img").get_attribute("src").startswith("data:image/png")
    assert not page.locator(".strip [aria-pressed=true]").count()


def test_drawing_by_keys_alone(page: Any) -> None:
    page.goto("/")
    settled(page)
    page.locator(".pad").focus()
    for key in [*["ArrowUp"] * 12, " ", *["ArrowDown"] * 25]:
        page.keyboard.press(key)
    reply = searched(page, lambda: page.keyboard.press(" "))
    assert Counter(hit["payload"]["label"] for hit in reply["hits"]).most_common(1)[0][0] == "1"


def test_the_radius_holds_more_the_larger_it_is(page: Any, address: str) -> None:
    page.goto("/")
    settled(page)
    slider = page.locator("#radius")
    seen = []
    for radius in (0, 4, 12, 20, 64):
        reply = searched(page, lambda radius=radius: set_to(slider, radius))
        seen.append(held(page))
        assert all(distance <= radius for _, distance in hits(page))
        body = {"collection": "digits", "query": {"code": reply["code"]}, "radius": radius, "count_only": True}
        assert page.request.post(f"{address}/search", data=body).json()["total"] == seen[-1]
    assert seen == sorted(seen)
    assert seen[0] < seen[2] < seen[-1] == 1797
    assert page.locator(".bars .in").count() == 65
    searched(page, page.get_by_role("button", name="just the nearest").click)
    assert len(hits(page)) == 12


def set_to(slider: Any, value: int) -> None:
    slider.evaluate(
        "(element, value) => { element.value = value;"
        " for (const kind of ['input', 'change']) element.dispatchEvent(new Event(kind)); }",
        value,
    )


def test_the_slider_by_keys(page: Any) -> None:
    page.goto("/")
    settled(page)
    before = held(page)
    slider = page.get_by_label("Radius")
    slider.focus()
    searched(page, lambda: page.keyboard.press("PageUp"))
    assert held(page) > before
    assert str(f"{held(page):,}") in slider.get_attribute("aria-valuetext")


def test_a_picture_from_a_file_and_one_that_is_pasted(page: Any) -> None:
    page.goto("/")
    settled(page)
    file = {"name": "seven.png", "mimeType": "image/png", "buffer": base64.b64decode(DIGIT)}
    reply = searched(page, lambda: page.locator("input[type=file]").set_input_files(file))
    assert (reply["hits"][0]["id"], reply["hits"][0]["distance"]) == ("digit-0007", 0)
    page.get_by_role("button", name="Draw instead").click()
    page.locator(".pad").wait_for()
    for kind in ("paste", "drop"):
        reply = searched(page, lambda kind=kind: hand_over(page, kind))
        assert reply["hits"][0]["distance"] == 0


def hand_over(page: Any, kind: str) -> None:
    """Paste or drop the picture of a seven."""
    page.evaluate(
        """async ([kind, data]) => {
          const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
          const files = new DataTransfer();
          files.items.add(new File([bytes], 'seven.png', { type: 'image/png' }));
          const event = kind === 'paste' ? new ClipboardEvent('paste', { clipboardData: files, bubbles: true })
            : new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true });
          document.querySelector('.give').dispatchEvent(event);
        }""",
        [kind, DIGIT],
    )


def test_a_text(page: Any) -> None:
    page.goto("/#/search?collection=python-docs")
    settled(page)
    page.get_by_label("A text").fill("open a file and read lines")
    reply = searched(page, lambda: page.get_by_role("button", name="Search", exact=True).click())
    assert len(reply["hits"]) == 12
    assert page.locator(".answer .hit .snippet").count() == 12
    assert page.locator(".asked .snippet").inner_text() == "open a file and read lines"


def test_a_vector_and_one_that_is_none(page: Any, faults: list[str]) -> None:
    page.goto("/#/search?collection=vectors")
    settled(page)
    area = page.get_by_label("A vector")
    area.fill(", ".join(["0.5"] * 24))
    reply = searched(page, lambda: area.press("Enter"))
    assert len(reply["hits"]) == 12
    assert page.locator(".answer .hit .curve").count() == 12
    area.fill("0.5, half, 1")
    area.press("Enter")
    assert 'number 2, "half", is none' in page.locator(".give .fault").inner_text()
    assert not faults
    area.fill("1, 2, 3")
    area.press("Enter")
    alert = page.locator(".answer .problem")
    alert.wait_for()
    assert "24" in alert.inner_text(), "the limit"
    assert faults.pop().startswith("Failed to load resource"), "the console of Chromium tells every 422"


def test_a_filter_narrows_hits_and_counts(page: Any) -> None:
    page.goto("/")
    settled(page)
    page.locator("summary", has_text="Filter").click()
    page.get_by_role("button", name="+ condition").click()
    value = page.get_by_label("Value")
    value.fill("3")
    reply = searched(page, lambda: value.press("Tab"))
    assert {hit["payload"]["label"] for hit in reply["hits"]} == {"3"}
    assert set(labels(page)) == {"3"}
    searched(page, lambda: set_to(page.locator("#radius"), 64))
    assert held(page) == 183, "threes among the digits"
    page.get_by_label("Comparison").select_option("$in")
    value.fill("3, 8")
    reply = searched(page, lambda: value.press("Tab"))
    assert {hit["payload"]["label"] for hit in reply["hits"]} <= {"3", "8"}
    searched(page, lambda: page.get_by_label("Remove the condition").click())
    assert held(page) == 1797


def test_a_hit_becomes_the_example(page: Any) -> None:
    page.goto("/")
    last, _ = hits(page)[-1]
    reply = searched(page, lambda: page.locator(".answer .hit button").last.click())
    assert reply["hits"][0]["distance"] == 0
    assert last in {hit["id"] for hit in reply["hits"]}
    searched(page, lambda: page.get_by_role("button", name="More").click())
    assert len(hits(page)) == 36
    searched(page, lambda: page.get_by_label("Among the hits").select_option("exact", force=True))
    assert hits(page)[0][0] == last, "by the true distance, it is the nearest to itself"
