"""What all parts share: the way from part to part, keys, problems, accessibility, and that every screen holds it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from browsing import DESKTOP, settled, tab, until
from support import server

from service.keys import KeyFile

PARTS = ("search", "repair", "create", "collections", "models")
VIEWS = {
    **dict.fromkeys(("search", "repair", "create", "collections"), ".item"),
    "collections?view=health": ".plot svg",
    **dict.fromkeys((f"collections?view={view}" for view in ("duplicates", "calibration", "snapshots")), "form"),
    **dict.fromkeys((f"models?view={view}" for view in ("train", "change")), "form"),
    **dict.fromkeys(("models", "models?view=families"), "table"),
    "models?view=jobs": ".empty",
}
"""Everything that can be opened, and what is there when it is."""
SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": DESKTOP},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
}


_EMPTY = (
    ("search", "no collection yet"),
    ("repair", "No model here"),
    ("create", "No model here"),
    ("collections", "no collection yet"),
    ("models", "no model yet"),
)


def test_from_part_to_part_and_back(page: Any) -> None:
    page.goto("/")
    settled(page)
    for part in PARTS:
        page.locator(f"nav a[href='#/{part}']").click()
        page.wait_for_selector(f".part-{part} .lead")
        assert page.locator("nav a[aria-current=page]").inner_text() == page.locator("h1").inner_text()
        assert page.title() == f"{page.locator('h1').inner_text()} · Hammingbird"
    page.go_back()
    page.wait_for_selector(f".part-{PARTS[-2]} .lead")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_no_serious_fault(
    browser: Any, address: str, faults: list[str], axe: str, view: str, scheme: str
) -> None:
    with tab(browser, address, faults, color_scheme=scheme) as page:
        page.goto(f"/#/{view}")
        settled(page, f"main .part {VIEWS[view]}")
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        page.evaluate(axe)
        found = page.evaluate("axe.run().then(({violations, passes}) => ({violations, passes: passes.length}))")
    assert found["passes"] > 20
    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"][:5]], one["nodes"][0]["failureSummary"])
        for one in found["violations"] if one["impact"] in ("serious", "critical")
    ]  # fmt: skip
    assert not serious
    assert not faults


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("view", VIEWS)
def test_every_screen_holds_every_view(
    browser: Any, address: str, faults: list[str], view: str, screen: str, tmp_path: Path
) -> None:
    """Nothing is wider than the screen; the picture is kept in pytest's folder to be looked at."""
    with tab(browser, address, faults, **SCREENS[screen]) as page:
        page.goto(f"/#/{view}")
        settled(page, f"main .part {VIEWS[view]}")
        wide = page.evaluate(
            "[...document.querySelectorAll('main *')]"
            ".filter((one) => one.getBoundingClientRect().right > innerWidth + 1)"
            ".filter((one) => !one.parentElement.closest('.table-place, .tab-list'))"  # which scroll by themselves
            ".map((one) => one.outerHTML.slice(0, 120))"
        )
        assert not wide
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        name = view.replace("?view=", "-")
        page.screenshot(path=tmp_path / f"{name}-{screen}.png", full_page=True)
    assert not faults


def test_the_focus_can_be_seen_and_reaches_everything(page: Any) -> None:
    page.goto("/")
    settled(page)
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "(() => { const one = document.activeElement, style = getComputedStyle(one);"
                " return [one.id || one.className || one.tagName, parseFloat(style.outlineWidth), style.outlineStyle];"
                "})()"
            )
        )
    assert all(width >= 2 and style != "none" for _, width, style in seen), seen
    names = {name for name, _, _ in seen}
    assert {"skip", "key", "choose", "pad"} <= names


def test_a_key_is_asked_for_and_used(browser: Any, demo_data: Path, faults: list[str], tmp_path: Path) -> None:
    root = Path(shutil.copytree(demo_data, tmp_path / "data"))
    _, text = KeyFile(root).create("reader", "read")
    with server(root) as (address, _), tab(browser, address, faults) as page:
        page.goto("/")
        dialog = page.locator("#key-dialog")
        dialog.wait_for()
        assert "this needs an API key" in dialog.inner_text()
        page.keyboard.press("Escape")
        alert = page.locator(".problem")
        alert.wait_for()
        assert "A key is needed" in alert.inner_text()
        alert.get_by_role("button", name="Enter a key").click()
        page.get_by_label("Key", exact=True).fill("hb_wrong")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('key-why').textContent.includes('not known here')")
        page.get_by_label("Key", exact=True).fill(text)
        page.get_by_role("button", name="Use this key").click()
        settled(page)
        assert page.locator(".answer .hit").count() == 12
        assert page.locator("#key").inner_text() == "Key ✓"
        assert page.evaluate("localStorage.length") == 0
        assert text not in page.content()
        page.reload()
        settled(page)
        assert not dialog.is_visible(), "it is kept in this tab"
        page.locator("#key").click()
        page.get_by_role("button", name="Forget it").click()
        assert page.locator("#key").inner_text() == "Key"
    assert all(fault.startswith("Failed to load resource") for fault in faults), faults


def test_a_service_that_has_stopped(browser: Any, demo_data: Path, faults: list[str], tmp_path: Path) -> None:
    root = Path(shutil.copytree(demo_data, tmp_path / "data"))
    with tab(browser, "http://127.0.0.1:1", []) as page:
        with server(root) as (address, _):
            page.goto(f"{address}/")
            settled(page)
        page.locator(".strip button").nth(3).click()
        alert = page.locator(".answer .problem")
        alert.wait_for()
        assert "does not answer" in alert.inner_text()
        assert alert.get_by_role("button", name="Try again").is_visible()


def test_a_service_with_nothing_in_it(browser: Any, faults: list[str], tmp_path: Path) -> None:
    with server(tmp_path / "data") as (address, _), tab(browser, address, faults) as page:
        for part, words in _EMPTY:
            page.goto(f"{address}/#/{part}")
            page.wait_for_selector(f".part-{part} .empty")
            assert words in page.locator("main").inner_text()
    assert not faults
