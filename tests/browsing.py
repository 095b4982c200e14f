"""A tab of a browser, and waiting for what happens in it, for the tests of the page."""

from __future__ import annotations

import time
from typing import Any

DESKTOP = {"width": 1280, "height": 900}


class tab:
    """A fresh tab on the service at `address` that adds its complaints to `faults`."""

    def __init__(self, browser: Any, address: str, faults: list[str], **options: Any) -> None:
        self._context = browser.new_context(**{"base_url": address, "viewport": DESKTOP, **options})
        self._address, self._faults = address, faults

    def __enter__(self) -> Any:
        page = self._context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda line: self._note(line.type in ("error", "warning"), line.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))
        page.on("request", lambda request: self._note(not request.url.startswith(self._ours), request.url))
        return page

    @property
    def _ours(self) -> tuple[str, ...]:
        return (f"{self._address}/", "data:", "blob:")

    def _note(self, wrong: bool, text: str) -> None:
        if wrong:
            self._faults.append(text)

    def __exit__(self, *_: object) -> None:
        self._context.close()


def until(page: Any, expression: str, timeout_s: float = 30) -> None:
    """Wait until a JavaScript expression is true; playwright's own way is refused by the page's policy."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(f"Boolean({expression})"):
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {expression}"
        time.sleep(0.05)


def settled(page: Any, first: str = "main .part .item") -> None:
    """Wait until `first` is there, nothing is on its way, and every card shows its item."""
    page.wait_for_selector(first)
    until(page, "!document.querySelector('[aria-busy]') && !document.querySelector('.shown:empty')")
