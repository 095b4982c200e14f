"""Ctrl-C ends a command between two steps, never within one that is to be whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .base import TERMINATED


@contextmanager
def whole() -> Iterator[None]:
    """The block is finished although Ctrl-C is pressed, and `KeyboardInterrupt` comes after it; a second one cuts it.

    To be used around what takes a second or so. Where this is not the main thread, which alone hears signals, it
    changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def wait(sig: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def end_cleanly_when_told() -> None:
    """Let SIGTERM end a command as an exception does, so that what it had begun is cleaned up; exit code 143."""

    def end(sig: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
