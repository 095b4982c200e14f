"""Ingest through services by several senders, or at several addresses.

The senders are threads: a body takes 0.3 ms of the processor for a photograph of 27 KB, a replica ten times as long to
decode, encode and store it, and to wait for that takes no processor at all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .base import CommandError, say
from .batches import Batch, batches
from .places import KEY_VARIABLE
from .replicas import Ended, Replicas
from .tally import Tally, counting

if TYPE_CHECKING:
    from models.data import Dataset

_POLL_S = 0.2


def ingest_by_senders(
    addresses: Sequence[str],
    data: Dataset,
    collection: str,
    model: str | None,
    senders: int,
    *,
    skip_bad: bool = False,
    duplicates: tuple[str, int] | None = None,
) -> tuple[dict[str, int], Mapping[str, int]]:
    """What `ingest_through` does, with so many batches under way at a time; also how many items each address took.

    Ids are unique in a data set, so the order in which batches are stored changes nothing; but for `duplicates`, which
    take one sender. Raises `CommandError`; what was stored until then stays.
    """
    with (
        Replicas(addresses, os.environ.get(KEY_VARIABLE)) as replicas,
        counting(data, collection, skip_bad=skip_bad, screened=duplicates is not None) as tally,
    ):
        sending = _Sending(replicas, tally, data, {"collection": collection, "model": model}, duplicates)
        # Alone until something is stored: that makes the collection, and is what every replica must then find.
        while not tally.stored and sending.send_next():
            tally.check()
        sending.send_all(senders)
        tally.check()
        return tally.counts, replicas.items


class _Sending:
    """The batches of one ingest on their way."""

    def __init__(
        self,
        replicas: Replicas,
        tally: Tally,
        data: Dataset,
        target: Mapping[str, str | None],
        duplicates: tuple[str, int] | None,
    ) -> None:
        self._replicas, self._tally, self._total = replicas, tally, len(data)
        self._target, self._duplicates = target, duplicates
        self._batches = enumerate(batches(data))
        self._reached = 0
        self._making, self._counting = threading.Lock(), threading.Lock()
        self._failed: list[Exception] = []

    def send_next(self) -> bool:
        """Send the next batch, if there is one, and count what became of it. Raises `CommandError`, `Ended`."""
        with self._making:
            number, batch = next(self._batches, (0, None))
            if batch is None:
                return False
            size, self._reached = batch.end - self._reached, batch.end
        self._send(number, batch, size)
        return True

    def _send(self, number: int, batch: Batch, size: int) -> None:
        reply = None
        if batch.items:
            reply = self._replicas.ingest(number, {**self._target, "items": batch.items}, self._duplicates)
        with self._counting:
            self._tally.take([item["id"] for item in batch.items], reply, batch.faults, size)

    def send_all(self, senders: int) -> None:
        """Send the rest. Raises `CommandError` once every sender has ended."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(senders)]
        for thread in threads:
            thread.start()
        try:
            _join(threads)
        except KeyboardInterrupt:
            self._replicas.stop.set()
            say("what was begun is finished; a second Ctrl-C cuts it off")
            _join(threads)
            raise
        if self._failed:
            raise CommandError(
                f"{self._failed[0]}; {self._tally.stored:,} of {self._total:,} items are stored, and to run the same "
                "command again is safe"
            ) from None

    def _work(self) -> None:
        try:
            while self._tally.sound and self.send_next():
                pass
        except Ended:
            return
        except Exception as error:  # a thread's own end would be silent
            self._failed.append(error)
            self._replicas.stop.set()


def _join(threads: Sequence[threading.Thread]) -> None:
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(_POLL_S)
