"""What the tests of Collections and Models share: the API behind the page, and waiting for what a person waits for."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from browsing import until


def api(address: str, path: str, body: Any = None, method: str | None = None) -> Any:
    """The reply of the service to a request of our own, beside the page."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            text = reply.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{error.code}: {error.read().decode()}") from None
    return json.loads(text) if text else None


def settle(page: Any) -> None:
    """Wait until nothing is on its way."""
    page.wait_for_load_state("networkidle")
    until(page, "!document.querySelector('[aria-busy]')")


def facts(page: Any, scope: str = "main") -> dict[str, str]:
    """The facts that are shown side by side."""
    return dict(
        page.evaluate(
            "(scope) => [...document.querySelectorAll(`${scope} .facts > div`)].map((one) =>"
            " [one.querySelector('dt').innerText, one.querySelector('dd').innerText])",
            scope,
        )
    )


def numbers(figure: Any) -> list[list[str]]:
    """The rows of the table behind a plot."""
    figure.locator("summary").click()
    rows = figure.locator("tbody tr")
    rows.first.wait_for()
    found: list[list[str]] = rows.evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    return found


def job_ended(page: Any, state: str, timeout_s: float = 300) -> None:
    """Wait for the job that is shown to end so."""
    page.locator(f".job[data-state='{state}']").wait_for(timeout=timeout_s * 1000)
