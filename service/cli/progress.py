"""How far long work is: a bar with rate and time left on a terminal, plain lines elsewhere, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .base import errors, say

if TYPE_CHECKING:
    from models.train import Progress as TrainingProgress
    from models.width import Width

_MEGA = 1e6
_TELLING_S = 0.5
"""A rate of a shorter time says nothing."""


@contextmanager
def bar(what: str, total: float, unit: str | None = None) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on a terminal, a plain line every tenth elsewhere; call it with (done, note).

    unit: what is counted, "bytes" in megabytes; without one neither counts nor rates are shown.
    """
    if not errors.is_terminal:
        yield _Lines(what, total, unit)
        return
    counted: list[ProgressColumn] = [] if unit is None else [_Rate(unit)]
    if unit not in (None, "bytes"):
        counted.insert(0, MofNCompleteColumn())
    shown = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*shown, *counted, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=errors) as rows:
        task = rows.add_task(what, total=total, note="")
        yield lambda done, note: rows.update(task, completed=done, note=note)


class _Rate(ProgressColumn):
    """How fast it goes."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _rate(speed, self._unit))


class _Lines:
    """A plain line for every tenth that is done."""

    def __init__(self, what: str, total: float, unit: str | None) -> None:
        self._what, self._total, self._unit = what, max(total, 1), unit
        self._started = time.monotonic()
        self._shown = -1

    def __call__(self, done: float, note: str) -> None:
        tenth = min(10, int(10 * done / self._total))
        if tenth <= self._shown:
            return
        self._shown = tenth
        took = time.monotonic() - self._started
        parts = [f"{self._what} {10 * tenth}%"]
        if done and took > _TELLING_S:
            rate = done / took
            if self._unit is not None:
                parts.append(_rate(rate, self._unit))
            if tenth < 10:
                parts.append(f"{(self._total - done) / rate:.0f} s left")
        say(", ".join([*parts, note] if note else parts))


def _rate(speed: float, unit: str) -> str:
    if unit == "bytes":
        return f"{speed / _MEGA:,.1f} MB/s"
    return f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.1f} {unit}/s"


def follow(what: str, training: Iterator[TrainingProgress | Width]) -> None:
    """Run a training to its end under a progress bar."""
    steps = _told(training)
    first = next(steps, None)
    if first is None:  # fitted in closed form
        say(f"{what}: fitted in closed form")
        return
    with bar(what, first.steps, "steps") as show:
        show(first.step, _note(first))
        step = first
        for step in steps:
            show(step.step, _note(step))
        show(step.steps, f"{_note(step)}, best epoch {step.best_epoch}")


def _told(training: Iterator[TrainingProgress | Width]) -> Iterator[TrainingProgress]:
    """The steps of a training; where it chooses a width, which and why is said at once."""
    from models.width import Width

    for step in training:
        if isinstance(step, Width):
            say(step.why)
        else:
            yield step


def _note(progress: TrainingProgress) -> str:
    losses = ", ".join(f"{name} {value:.2f}" for name, value in progress.losses.items())
    retrieval = "" if progress.retrieval is None else f", found {progress.retrieval:.3f}"
    return f"epoch {progress.epoch}: {losses}{retrieval}, {progress.items_per_s:,.0f} items/s"
