"""`/docs` in a browser: drawn, and usable, without a request to anywhere else (which the fixture `page` watches)."""

from __future__ import annotations

from typing import Any

from service.openapi import IDS


def test_every_operation_is_described_and_can_be_tried(page: Any) -> None:
    page.goto("/docs")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() == len(IDS)
    block = page.locator(".opblock", has=page.locator("[data-path='/readyz']"))
    block.locator(".opblock-summary-control").click()
    block.locator("button.execute").click()
    block.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    assert '"status": "ok"' in block.locator(".live-responses-table").inner_text()
