"""A store and its snapshot, kept in step; and the upkeep of both.

A write commits to the store before the next snapshot is published and before it is answered. A reader gets a read
transaction together with the snapshot of the same sequence number, so ids, payloads and distances agree, and never
waits for a writer. In the background what was written is merged into a new base, and a copy of the codes is saved
beside the store for the next start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from . import sidecar
from .bits import Codes
from .commit import GroupCommit
from .errors import StoreUnavailable
from .glance import Glance, connect_impatiently
from .multihash import INLINE_BYTES, MultiHashIndex
from .reader import Reader
from .snapshot import MERGE_AT, MERGE_SHARE, Snapshot
from .store import Store
from .successor import Successor
from .transaction import Change, Transaction

T = TypeVar("T")

COPY_FROM = 20_000
"""Items from which a copy of the codes is worth a file: fewer are read from the store in a tenth of a second."""
QUIET_S = 2.0
"""A merge that can wait does so until nothing was written for so long."""
_PUBLISH_TIMEOUT_S = 10
"""A snapshot follows its commit within milliseconds; waiting this long means its writer died."""

_SOON_DONE = 1_000
"""Changes that a new generation is brought up to date with in a millisecond or two."""

log = logging.getLogger("hammingbird.index")


class Live:
    """The live state of one collection. Safe to use from many threads."""

    def __init__(
        self,
        store: Store,
        bits: int,
        *,
        merge_at: int = MERGE_AT,
        copy_from: int = COPY_FROM,
        inline_bytes: int = INLINE_BYTES,
        quiet_s: float = QUIET_S,
        observe: Callable[[float, int], None] | None = None,
    ) -> None:
        """Load the state of `store`. Raises `StoreDamaged` where it is not what was written."""
        self._store = store
        self._merge_at, self._copy_from, self._inline_bytes = merge_at, copy_from, inline_bytes
        self._quiet_s = quiet_s
        self._published = threading.Condition()
        self._merging = threading.Lock()
        self._upkeep: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False
        self._copies = True  # whether copies of the codes are made
        self._uncopied = 0  # items written or removed that the copy beside the store does not know
        self._successor: Successor | None = None  # what a flip is about to publish
        self.snapshot = self._load(bits)
        self.glance = Glance(partial(connect_impatiently, store.path))
        self._commits = GroupCommit(store, self._publish, observe)

    def _load(self, bits: int) -> Snapshot:
        with self._store.reader() as reader:
            copy = sidecar.load(self._folder, reader, bits)
            if copy is None:
                with suppress(OSError):  # what cannot be used does no harm
                    sidecar.discard(self._folder)
            self._store.records_removed = copy is not None
            keys, codes = (copy.keys, copy.codes) if copy else reader.codes(bits)
            self._uncopied = copy.behind if copy else len(keys)
            return Snapshot.of(
                reader.sequence, bits, keys, codes, generation=reader.generation, inline_bytes=self._inline_bytes
            )

    # -- reading -------------------------------------------------------------------------------------------

    @contextmanager
    def state(self) -> Iterator[tuple[Reader, Snapshot]]:
        """A read transaction and the snapshot of the very same state."""
        while True:
            with self._store.reader() as reader:
                snapshot = self.snapshot
                if snapshot.sequence < reader.sequence:
                    snapshot = self._arrived(reader.sequence)
                if snapshot.sequence == reader.sequence:
                    yield reader, snapshot
                    return
            # A write came between the two: look again.

    def _arrived(self, sequence: int) -> Snapshot:
        """The first snapshot seen that is of `sequence` or later."""
        with self._published:
            if not self._published.wait_for(lambda: self.snapshot.sequence >= sequence, _PUBLISH_TIMEOUT_S):
                raise StoreUnavailable(f"collection {self._folder.name!r}: a write did not finish; restart the service")
            return self.snapshot

    # -- writing -------------------------------------------------------------------------------------------

    def commit(self, step: Callable[[Transaction], T]) -> T:
        """The result of `step`, when what it did is on disk and the next search finds it (see `commit`)."""
        return self._commits.run(step)

    def _publish(self, change: Change) -> None:
        with self._published:
            if self._successor is None:
                self.snapshot = self.snapshot.after(change)
            else:
                self.snapshot = self._successor.published(change.sequence)
            self._published.notify_all()
        self._uncopied += len(change.added) + len(change.removed)
        if self.snapshot.changed > self._merge_at:
            self._call_upkeep()

    # -- upkeep --------------------------------------------------------------------------------------------

    def _due(self) -> bool:
        """Whether a merge cannot wait for a quiet moment."""
        snapshot = self.snapshot
        return snapshot.changed > max(self._merge_at, len(snapshot.base) // MERGE_SHARE)

    def _call_upkeep(self) -> None:
        """Have a merge made, now or in a quiet moment. The caller holds the writers' lock."""
        if self._closed:
            return
        if self._due():
            self._wake.set()
        if self._upkeep is None:
            upkeep = threading.Thread(target=self._keep_up, name=f"upkeep-{self._folder.name}", daemon=True)
            try:
                upkeep.start()
            except RuntimeError as error:
                # The write stands and searches find it; the next one tries again.
                log.warning("collection %s: no thread for a merge: %s", self._folder.name, error)
            else:
                self._upkeep = upkeep

    def _keep_up(self) -> None:
        while True:
            seen = self.snapshot.sequence
            self._wake.wait(self._quiet_s)
            self._wake.clear()
            if not self._closed and (self._due() or self.snapshot.sequence == seen):
                try:
                    self.merge()
                except Exception:
                    # The store is untouched and searches go on as they are; the next merge tries again.
                    log.exception("collection %s: the merge failed", self._folder.name)
            with self._commits.writing:
                if self._closed or self.snapshot.changed <= self._merge_at:
                    self._upkeep = None
                    return

    def merge(self) -> None:
        """Make a new base of everything, beside searches and writes, and save a copy of it for the next start."""
        with self._merging:
            with self._commits.writing:
                # From here on what is removed is noted, so the copy that is about to be made can be brought up to date.
                keeps_copy = len(self.snapshot) >= self._copy_from
                self._store.records_removed = self._store.records_removed or keeps_copy
                earlier, uncopied = self.snapshot, self._uncopied
            keys, codes = earlier.contents()
            base = MultiHashIndex.build(earlier.bits, keys, codes, inline_bytes=self._inline_bytes)
            with self._commits.writing:
                self._replace(earlier, base)
            if self._copies:
                self._copy(earlier.sequence, keys, codes, uncopied if keeps_copy else None)

    def _copy(self, sequence: int, keys: NDArray[np.int64], codes: Codes, uncopied: int | None) -> None:
        """Save a copy of the codes as they were at `sequence`, which makes up for `uncopied`; None: do without one."""
        saved = uncopied is not None and self._save(sequence, keys, codes)
        with self._commits.writing:
            if saved:
                self._uncopied -= uncopied or 0
                self._commits.run_holding(lambda transaction: transaction.forget_removed(sequence))
            elif self._store.records_removed and uncopied is None:
                self._drop_copy()

    def _replace(self, earlier: Snapshot, base: MultiHashIndex) -> None:
        """Put what is there now on a new base made of `earlier`. The caller holds the writers' lock."""
        with self._published:
            self.snapshot = self.snapshot.rebased(earlier, base)

    def _save(self, sequence: int, keys: NDArray[np.int64], codes: Codes) -> bool:
        """Save a copy of the codes; says whether that worked."""
        try:
            sidecar.save(self._folder, sidecar.Copy(sequence, int(keys[-1]) if len(keys) else 0, keys, codes))
        except OSError as error:
            # The start will be slower, no more: a copy that is old or missing is made up for from the store.
            log.warning("collection %s: the copy of the codes was not saved: %s", self._folder.name, error)
            return False
        return True

    def _drop_copy(self) -> None:
        """Do without a copy of the codes, and without notes of what is removed. The caller holds the writers' lock."""
        self._store.records_removed = False
        self._uncopied = len(self.snapshot)
        self._commits.run_holding(lambda transaction: transaction.forget_removed(transaction.sequence))
        sidecar.discard(self._folder)

    # -- another generation --------------------------------------------------------------------------------

    @contextmanager
    def successor(self, generation: int, bits: int) -> Iterator[tuple[Reader, Snapshot, Successor]]:
        """A state as `state` gives it, and what would serve in its place, of codes `bits` wide.

        Made beside searches and writes. Raises `NoSuchGeneration` where an item has no code in that generation yet.
        """
        with self.state() as (reader, snapshot):
            yield reader, snapshot, Successor(reader, generation, bits, self._inline_bytes)

    def flip(self, successor: Successor) -> float:
        """Let `successor` serve; returns the seconds for which writers waited. A search sees the one or the other.

        It is brought up to date beside the writers, until little is left to be done while they wait.
        """
        with self._merging:
            earlier: Snapshot | None = None
            while earlier is None or successor.behind > _SOON_DONE:
                with self.state() as (reader, snapshot):
                    successor.catch_up(reader, snapshot, earlier)
                    earlier = snapshot
            with self._commits.writing:
                started = time.perf_counter()
                with self.state() as (reader, snapshot):
                    successor.catch_up(reader, snapshot, earlier)
                self._successor = successor
                try:
                    self._commits.run_holding(lambda transaction: transaction.flip(successor.generation))
                finally:
                    self._successor = None
                snapshot = self.snapshot
                keeps_copy = self._copies and len(snapshot) >= self._copy_from
                self._store.records_removed, self._uncopied = keeps_copy, len(snapshot)
                # The copy of the other codes; where it stays, it is seen to be of other contents.
                with suppress(OSError):
                    sidecar.discard(self._folder)
                waited = time.perf_counter() - started
            if keeps_copy:
                self._copy(snapshot.sequence, *snapshot.contents(), len(snapshot))
            return waited

    # -- the files -----------------------------------------------------------------------------------------

    def compact(self) -> None:
        """Leave nothing on disk of what was deleted: the store rewritten, and a copy of what is left. Writers wait."""
        with self._merging, self._commits.writing:
            earlier = self.snapshot
            keys, codes = earlier.contents()
            self._replace(earlier, MultiHashIndex.build(earlier.bits, keys, codes, inline_bytes=self._inline_bytes))
            self._drop_copy()
            self._store.compact()
            if len(keys) >= self._copy_from and self._save(self.snapshot.sequence, keys, codes):
                self._store.records_removed, self._uncopied = True, 0

    @property
    def path(self) -> Path:
        """Of the store."""
        return self._store.path

    @property
    def _folder(self) -> Path:
        return self._store.path.parent

    def move(self, folder: Path) -> None:
        """Rename the folder of the store to `folder`, and go on there."""
        with self._merging:  # which saves a copy in the folder
            self._store.move(folder)

    def bytes_on_disk(self) -> int:
        """Size of the store, its log and the copy."""
        size = 0
        with suppress(FileNotFoundError):  # the folder, where the collection has just been deleted
            for path in self._folder.iterdir():
                with suppress(FileNotFoundError):  # a draft that has just got its name
                    size += path.stat().st_size
        return size

    def close(self, *, keep_copy: bool = True) -> None:
        """Finish what runs. keep_copy: leave a new copy of the codes where the last one has become old."""
        with self._commits.writing:
            self._closed, self._copies = True, keep_copy
        self._wake.set()
        upkeep = self._upkeep
        if upkeep is not None:
            upkeep.join()
        with self._merging, self._commits.writing:
            try:
                snapshot = self.snapshot
                if keep_copy and self._uncopied > self._copy_from and len(snapshot) >= self._copy_from:
                    self._save(snapshot.sequence, *snapshot.contents())
            finally:
                self._copies = False
                self.glance.close()
                self._store.close()
