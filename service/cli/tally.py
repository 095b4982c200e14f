"""What became of the items of an ingest: counted, shown, and said where it is cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .base import CommandError, say
from .places import Reply
from .progress import bar

if TYPE_CHECKING:
    from models.data import Dataset

_STORED = ("created", "updated", "unchanged")


class Tally:
    """The counts of one ingest. `done` is how many items have been dealt with."""

    def __init__(self, total: int, show: Callable[[float, str], None], *, skip_bad: bool, screened: bool) -> None:
        self.total, self.done = total, 0
        self.counts = dict.fromkeys(_STORED, 0) | ({"duplicates": 0} if screened else {})
        self._show, self._skip_bad = show, skip_bad
        self._refused: tuple[str, str] | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing was refused that ends the ingest."""
        return self._refused is None

    @property
    def stored(self) -> int:
        return sum(self.counts[name] for name in _STORED)

    def take(self, ids: Sequence[str], reply: Reply | None, unread: Iterable[tuple[str, str]], done: int) -> None:
        """Count the reply to a batch of items, None where none could be sent, and what could not be.

        unread: ids, and why they were not sent. done: items of the data set that this is about.
        """
        faults = dict(unread)
        if reply is not None:
            for name in _STORED:
                self.counts[name] += reply[name]
            if "duplicates" in self.counts:
                self.counts["duplicates"] += reply["duplicates_total"]
            faults |= {ids[fault["position"]]: fault["detail"] for fault in reply.get("errors") or ()}
        for id, why in faults.items():
            if self._skip_bad:
                say(f"left out {id}: {why}")
            else:
                self._refused = self._refused or (id, why)
        if self._refused is None:
            self.done += done
            self._show(self.done, "")

    def check(self) -> None:
        """Raise `CommandError` naming the first item that could not be stored, unless such are left out."""
        if self._refused is not None:
            id, why = self._refused
            raise CommandError(
                f"{id}: {why}. Mend it and run again, or pass --skip-bad; {self.stored:,} others are stored"
            )


@contextmanager
def counting(data: Dataset, collection: str, *, skip_bad: bool, screened: bool) -> Iterator[Tally]:
    """A tally under a progress bar; where Ctrl-C ends the block, how far it came is said."""
    done = 0
    try:
        with bar(f"ingesting into {collection}", len(data), "items") as show:
            tally = Tally(len(data), show, skip_bad=skip_bad, screened=screened)
            try:
                yield tally
            finally:
                done = tally.done
    except KeyboardInterrupt:
        say(f"{done:,} of {len(data):,} items are stored; run the same command again to go on from there")
        raise
