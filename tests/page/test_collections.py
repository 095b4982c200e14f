"""Collections, as a person looks after one: its items, the health of its codes, duplicates, calibration, snapshots."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import until
from managing import api, facts, job_ended, numbers, settle

PAGE = 48
MANY = 3000


def shown(view: Any) -> list[str]:
    settle(view)
    return list(view.locator(".item-grid .item-id").all_inner_texts())


def test_items_page_by_page_and_one_by_its_id(view: Any, own: str) -> None:
    stored = [item["id"] for item in api(own, "/collections/digits/items?limit=96")["items"]]
    view.goto("/#/collections?name=digits&view=items")
    assert shown(view) == stored[:PAGE]
    assert view.evaluate("[...document.querySelectorAll('.item-grid img')].every((one) => one.naturalWidth > 0)")
    view.get_by_role("button", name="Next").click()
    until(view, f"document.querySelector('.item-id').innerText === {stored[PAGE]!r}")
    assert shown(view) == stored[PAGE:]
    view.get_by_role("button", name="Previous").click()
    until(view, f"document.querySelector('.item-id').innerText === {stored[0]!r}")
    view.get_by_label("Find an item").fill("digit-1234")
    view.keyboard.press("Enter")
    dialog = view.locator("dialog[open]")
    assert api(own, "/collections/digits/items/digit-1234")["code"] in dialog.inner_text()
    view.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_an_item_is_deleted_only_when_it_is_meant(view: Any, own: str) -> None:
    before = api(own, "/collections/digits")["items"]
    view.goto("/#/collections?name=digits&view=items")
    settle(view)
    view.locator(".item-card", has_text="digit-0003").click()
    view.get_by_role("button", name="Delete…").click()
    view.get_by_role("button", name="Keep").click()
    assert api(own, "/collections/digits")["items"] == before
    view.get_by_role("button", name="Delete…").click()
    view.get_by_role("button", name="Delete it").click()
    view.locator(".item-dialog").wait_for(state="detached")
    settle(view)
    assert "digit-0003" not in shown(view)
    assert api(own, "/collections/digits")["items"] == before - 1
    assert facts(view)["Items"] == f"{before - 1:,}"


def test_a_large_collection_is_never_loaded(view: Any, own: str) -> None:
    api(own, "/collections", {"name": "codes", "bits": 64})
    items = [{"id": f"item-{at:05}", "code": f"{at * 0x9E3779B97F4A7C15 % 2**64:016x}"} for at in range(MANY)]
    api(own, "/ingest", {"collection": "codes", "items": items})
    asked: list[str] = []
    view.on("request", lambda request: asked.append(request.url.removeprefix(own)))
    view.goto("/#/collections?name=codes&view=items")
    assert len(shown(view)) == PAGE
    assert [path for path in asked if path.startswith("/collections/codes/items")] == [
        "/collections/codes/items?limit=48&include=input"
    ]
    assert f"of {MANY:,} items" in view.locator(".where").inner_text()
    assert view.locator(".item-grid .bits").count() == PAGE
    view.get_by_role("button", name="Delete the collection…").click()
    sure = view.get_by_role("button", name="Delete it")
    assert sure.is_disabled()
    view.get_by_label("Type codes to confirm").fill("codes")
    sure.click()
    until(view, "!document.querySelector('dialog.ask') && !document.body.innerText.includes('item-00000')")
    assert "codes" not in [one["name"] for one in api(own, "/collections")["collections"]]


def test_the_health_of_codes_as_plots_with_the_numbers_of_the_api(view: Any, own: str) -> None:
    health = api(own, "/collections/digits/health")
    view.goto("/#/collections?name=digits&view=health")
    view.locator(".verdict").wait_for(timeout=60_000)
    view.locator(".panel").last.locator("svg").last.wait_for()
    headings = view.locator(".panel h3").all_inner_texts()
    assert headings == ["Bit balance", "Entropy", "Correlation", "Equal codes", "Occupancy", "Radius", "Drift"]
    for panel in view.locator(".panel").all():
        assert len(panel.locator("p").first.inner_text()) > 60, "each says what it means"
        assert panel.locator(".plot-bar, .plot-line").count() > 0, panel.inner_text()
    bars = (
        view.locator(".panel")
        .nth(0)
        .locator(".plot-bar")
        .evaluate_all("(bars) => bars.map((one) => Number(one.getAttribute('height')))")
    )
    ones = health["balance"]["ones"]
    assert len(bars) == len(ones) == 64
    scale = bars[0] / ones[0]
    assert bars == pytest.approx([share * scale for share in ones], abs=0.01)
    rows = numbers(view.locator(".panel").nth(5).locator("figure"))
    steps = health["radius"]["steps"]
    assert [int(row[0]) for row in rows] == [step["radius"] for step in steps]
    assert float(rows[4][1]) == pytest.approx(steps[4]["mean"], rel=0.01)
    text = view.locator("main").inner_text()
    for finding in health["findings"]:
        assert finding["detail"] in text
        assert finding["advice"] is None or finding["advice"] in text
    frame = view.locator(".panel").nth(5).locator(".plot-frame svg")
    frame.hover()
    assert view.locator(".panel").nth(5).locator(".plot-read").inner_text().startswith("radius ")


def test_duplicates_are_found_and_shown(view: Any, own: str, faults: list[str]) -> None:
    view.goto("/#/collections?name=digits&view=duplicates")
    view.get_by_label("Radius").fill("1")
    view.get_by_role("button", name="Find duplicates").click()
    job_ended(view, "succeeded")
    view.locator(".groups > li").first.wait_for()
    settle(view)
    (job, *_) = [one for one in api(own, "/jobs")["jobs"] if one["kind"] == "duplicates"]
    assert job["subject"] == {"collection": "digits"}
    told = facts(view, ".tab-panel")
    assert (told["Radius"], told["Groups"]) == ("1", f"{job['result']['groups_total']:,}")
    assert view.locator(".groups > li").count() == min(10, job["result"]["groups_total"])
    until(view, "[...document.querySelectorAll('.member-item')].every((one) => one.querySelector('img'))")
    last = view.locator(".groups > li").last
    ids = last.locator("figcaption").all_inner_texts()
    assert len(ids) >= 2
    last.get_by_role("button", name="Keep the first").click()
    view.get_by_role("button", name=f"Delete {len(ids) - 1} item").click()
    last.locator(".done").wait_for()
    assert last.locator("figcaption").all_inner_texts() == ids[:1]
    page = {one["id"] for one in api(own, "/collections/digits/items?limit=1000")["items"]}
    page |= {one["id"] for one in api(own, "/collections/digits/items?limit=1000&cursor=digit-0999")["items"]}
    assert ids[0] in page
    assert not page & set(ids[1:])
    view.reload()
    view.locator(".groups > li").first.wait_for()  # the newest result is there without a new search
    view.get_by_text("deleted since").nth(len(ids) - 2).wait_for()
    settle(view)
    missing = [fault for fault in faults if "404" in fault]
    assert len(missing) == len(ids) - 1, "the browser notes each of the items that are gone, and nothing else"
    faults[:] = [fault for fault in faults if fault not in missing]


def test_a_calibration_says_which_radius_is_precise_enough(view: Any, own: str) -> None:
    view.goto("/#/collections?name=digits&view=calibration")
    view.get_by_text("Not calibrated yet").wait_for()
    view.get_by_label("Queries").fill("400")
    view.get_by_role("button", name="Calibrate").click()
    job_ended(view, "succeeded")
    view.locator(".answer-line").wait_for()
    assert view.locator(".plot-line").count() >= 2
    target = view.get_by_label("Target precision")
    target.fill("0.8")
    search = {"collection": "digits", "query": {"id": "digit-0007"}, "target_precision": 0.8}
    radius = api(own, "/search", search)["radius"]
    assert view.locator(".answer-line").inner_text().startswith(f"Radius {radius} is the largest")
    assert view.locator(".plot-mark-name").text_content() == f"radius {radius}"
    assert api(own, "/collections/digits")["calibrated"] is True


def test_a_snapshot_brings_back_what_was_deleted(view: Any, own: str) -> None:
    before = api(own, "/collections/vectors")["items"]
    gone = api(own, "/collections/vectors/items?limit=1")["items"][0]["id"]
    view.goto("/#/collections?name=vectors&view=snapshots")
    view.get_by_label("Name").fill("before")
    view.get_by_role("button", name="Make a snapshot").click()
    view.locator("tbody tr", has_text="before").wait_for()
    api(own, f"/collections/vectors/items/{gone}", method="DELETE")
    view.get_by_role("button", name="Restore…").click()
    view.get_by_role("button", name="Restore it").click()
    view.locator(".done").wait_for()
    assert api(own, "/collections/vectors")["items"] == before
    assert api(own, f"/collections/vectors/items/{gone}")["id"] == gone


def test_tabs_by_the_keyboard(view: Any) -> None:
    view.goto("/#/collections?name=digits&view=items")
    settle(view)
    view.get_by_role("tab", name="Items").focus()
    for key, name in (
        ("ArrowLeft", "Snapshots"),
        ("Home", "Items"),
        ("End", "Snapshots"),
        ("ArrowLeft", "Calibration"),
    ):
        view.keyboard.press(key)
        chosen = view.locator("[role=tab][aria-selected=true]")
        assert chosen.inner_text() == name
        assert view.evaluate("document.activeElement.innerText") == name
        assert view.locator("[role=tab][tabindex='0']").count() == 1
    settle(view)
    assert view.evaluate("location.hash").endswith("view=calibration")
