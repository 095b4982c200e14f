"""Models, as a person looks after them: train with progress, promote, let a collection go over, go back."""

from __future__ import annotations

from typing import Any

from managing import api, facts, job_ended, settle


def fill(view: Any, **given: str) -> None:
    for label, value in given.items():
        control = view.get_by_label(label.replace("_", " "), exact=True)
        if control.evaluate("(one) => one.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(value)


def test_trained_promoted_let_serve_and_rolled_back(view: Any, own: str) -> None:
    view.goto("/#/models?view=train")
    settle(view)
    fill(view, Name="digits-hash", Learn_from="collection digits", Epochs="8", Seed="5")
    view.get_by_role("button", name="Train", exact=True).click()
    view.locator(".plots .plot-line, .plots .plot-dot").first.wait_for(timeout=300_000)
    assert "epoch" in view.locator(".job-line").inner_text()
    job_ended(view, "succeeded")
    view.get_by_role("heading", name="digits-hash:2 is there").wait_for()
    assert view.locator(".plots figure").nth(0).locator(".plot-line").count() >= 1
    assert view.locator(".plots figure").nth(1).locator(".plot-line, .plot-dot").count() >= 1

    view.get_by_role("button", name="Promote").click()
    view.locator(".outcome .done").wait_for()
    assert api(own, "/models/digits-hash@champion")["version"] == 2
    assert api(own, "/models/digits-hash")["version"] == 2

    view.get_by_role("link", name="Let a collection go over to it").click()
    view.get_by_role("button", name="Re-encode").wait_for()
    settle(view)
    assert facts(view)["Serves"] == "digits-hash:1"
    assert view.get_by_label("New model").input_value() == "digits-hash:2"
    view.get_by_role("button", name="Re-encode").click()
    job_ended(view, "succeeded")
    view.get_by_text("digits-hash:2 passed and serves").wait_for()
    settle(view)
    verdicts = view.locator(".report tbody td:last-child").all_inner_texts()
    assert len(verdicts) == 5
    assert set(verdicts) <= {"✓ passes", "not measured"}
    assert facts(view)["Serves"] == "digits-hash:2"
    assert api(own, "/collections/digits")["model"]["version"] == 2

    view.get_by_role("button", name="Roll back to digits-hash:1").click()
    view.get_by_role("button", name="Roll back to digits-hash:2").wait_for()
    assert facts(view)["Serves"] == "digits-hash:1"
    assert api(own, "/collections/digits")["model"]["version"] == 1


def test_the_gate_keeps_a_model_out_and_says_why(view: Any, own: str) -> None:
    serving = api(own, "/collections/digits")["model"]
    view.goto("/#/models?view=change&collection=digits&model=digits-vae:1")
    settle(view)
    view.locator("summary", has_text="The gate").click()
    view.get_by_label("least overlap").fill("1")
    view.get_by_role("button", name="Re-encode").click()
    job_ended(view, "failed")
    assert "is below min_overlap 1" in view.locator(".job .problem").inner_text()
    view.locator(".report .no-pass").first.wait_for()
    assert api(own, "/collections/digits")["model"] == serving


def test_a_training_is_cancelled_and_followed_after_a_reload(view: Any, own: str) -> None:
    view.goto("/#/models?view=train")
    settle(view)
    fill(view, Name="endless", Learn_from="dataset digits", Family="vae", Epochs="100000")
    view.get_by_role("button", name="Train", exact=True).click()
    view.locator(".job[data-state=running]").wait_for()
    view.reload()
    view.locator(".job", has_text="Training of endless").wait_for()
    view.get_by_role("button", name="Cancel").click()
    job_ended(view, "cancelled")
    view.get_by_role("tab", name="Jobs").click()
    row = view.locator("tbody tr", has_text="endless").first
    row.wait_for()
    assert "cancelled" in row.inner_text()
    assert not [one for one in api(own, "/models")["models"] if one["name"] == "endless"]


def test_a_model_in_use_is_not_deleted_and_the_page_says_why(view: Any, own: str, faults: list[str]) -> None:
    view.goto("/#/models?view=versions")
    row = view.locator("tbody tr", has=view.locator("th", has_text="docs-hash:1"))
    row.get_by_role("button", name="Delete…").click()
    view.get_by_role("button", name="Delete it").click()
    alert = view.locator(".problem")
    alert.wait_for()
    assert "python-docs" in alert.inner_text()
    assert api(own, "/models/docs-hash:1")["version"] == 1
    assert [fault for fault in faults if "409" not in fault] == []
    faults.clear()


def test_a_model_in_full_and_another_alias(view: Any, own: str) -> None:
    view.goto("/#/models?view=versions")
    row = view.locator("tbody tr", has=view.locator("th", has_text="vectors-itq:1"))
    row.get_by_role("button", name="Details").click()
    dialog = view.locator("dialog[open]")
    dialog.wait_for()
    model = api(own, "/models/vectors-itq:1")
    for word in (*model["capabilities"], model["fingerprint"], "32 bits"):
        assert word in dialog.inner_text()
    dialog.get_by_label("Another alias").fill("staging")
    dialog.get_by_role("button", name="Set").click()
    view.locator(".chip", has_text="@staging").wait_for()
    assert api(own, "/models/vectors-itq@staging")["version"] == 1


def test_families_are_those_of_the_service(view: Any, own: str) -> None:
    view.goto("/#/models?view=families")
    rows = view.locator("tbody tr")
    rows.first.wait_for()
    columns = [name for name in view.locator("thead th").all_inner_texts()[2:] if name != "learns from labels"]
    for row, family in zip(rows.all(), api(own, "/families")["families"], strict=True):
        cells = [cell.get_attribute("aria-label") for cell in row.locator("[role=img]").all()]
        assert row.locator("th").inner_text() == family["name"]
        able = [name for name, cell in zip(columns, cells, strict=False) if cell == "yes"]
        assert sorted(able) == sorted(family["capabilities"])
        assert (cells[-1] == "yes") is family["supervised"]
