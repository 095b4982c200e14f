"""A collection: items on disk, their codes in memory, exact search over both.

A write commits to the store before the next snapshot is published and before it returns, so what was
acknowledged is on disk and the next search finds it. A search works on one committed state: it opens a read
transaction and takes the snapshot with the same sequence number, so ids, payloads and distances agree.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .answer import Page, Plan, any_after, first_hits, make_cursor, open_cursor
from .bits import Codes, check_width, to_hex
from .errors import (
    InvalidCode,
    InvalidItem,
    InvalidQuery,
    KeyReused,
    ModelMismatch,
    StoreDamaged,
    StoreUnavailable,
    UnknownItem,
)
from .items import Item, check_id
from .snapshot import FOLD_AT, Snapshot
from .store import Answered, Reader, Store

_PUBLISH_TIMEOUT_S = 10
"""A snapshot follows its commit within milliseconds; waiting this long means its writer died."""


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The model that made a collection's codes: its place in the registry, and the fingerprint that counts."""

    name: str
    version: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class CollectionConfig:
    """What is fixed when a collection is created."""

    name: str
    bits: int
    model: ModelKey | None
    keep_inputs: bool
    created_at: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """How many of the distinct ids of a write were new, changed, or already stored just so."""

    created: int
    updated: int
    unchanged: int
    replay: str | None = None
    """The first reply, where a request with the same idempotency key was answered before; nothing was done now."""


@dataclass(frozen=True, slots=True)
class Request:
    """A write that may be sent twice: its idempotency key, a digest of what it asks for, and how to word the reply."""

    key: str
    digest: bytes
    reply: Callable[[PutResult], str]


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `check`."""

    items: int
    faults: Sequence[str] = field(default_factory=tuple)

    @property
    def sound(self) -> bool:
        return not self.faults


class Collection:
    """Exact Hamming search over durable items. Safe to use from many threads."""

    def __init__(self, path: Path, *, fold_at: int = FOLD_AT) -> None:
        """Open the collection stored at `path`. Raises `StoreDamaged` where the file fails its checks."""
        self._fold_at = fold_at
        self._store = Store(path)
        try:
            self.config, self._snapshot = self._load(path)
        except BaseException:
            self._store.close()
            raise
        self._write_lock = threading.Lock()
        self._published = threading.Condition()

    def _load(self, path: Path) -> tuple[CollectionConfig, Snapshot]:
        config = _config(self._store.meta())
        if path.parent.name != config.name:
            raise StoreDamaged(
                f"the folder {path.parent.name!r} holds the collection {config.name!r}; give it its name back"
            )
        with self._store.reader() as reader:
            return config, Snapshot.of(reader.sequence, config.bits, *reader.codes(config.bits))

    @classmethod
    def create(cls, path: Path, config: CollectionConfig) -> None:
        """Write the empty collection `config` at `path`."""
        check_width(config.bits)
        store = Store(path)
        try:
            store.set_meta(asdict(config))
        finally:
            store.close()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def bits(self) -> int:
        return self.config.bits

    def __len__(self) -> int:
        return len(self._snapshot)

    def close(self) -> None:
        with self._write_lock:
            self._store.close()

    # -- changes -------------------------------------------------------------------------------------------

    def put(
        self, items: Sequence[Item], *, fingerprint: str | None = None, request: Request | None = None
    ) -> PutResult:
        """Store `items`, all or none; an id already there is replaced, as is an earlier one in the same call.

        fingerprint: of the model that made the codes. request: makes the call safe to repeat. Raises `KeyReused`,
        `ModelMismatch`, `InvalidItem`, `InvalidCode`, `StoreFull`, `StoreUnavailable`; after any of them nothing of
        the call is stored.
        """
        self.check_fingerprint(fingerprint)
        for position, item in enumerate(items):
            self._check(item, position)
        latest = {item.id: item for item in items}
        with self._write_lock:
            if request is not None and (replay := self._replay(request.key, request.digest)) is not None:
                return PutResult(0, 0, 0, replay)
            known = self._store.known(latest)
            changed = [item for item in latest.values() if item.id not in known or known[item.id][1] != item.digest()]
            replaced = [known[item.id][0] for item in changed if item.id in known]
            result = PutResult(len(changed) - len(replaced), len(replaced), len(latest) - len(changed))
            answered = Answered(request.key, request.digest, request.reply(result)) if request else None
            if changed or answered:
                self._apply(changed, replaced, answered)
        return result

    def answered(self, key: str, digest: bytes) -> str | None:
        """The reply to the request with this idempotency key, where it was answered before. Raises `KeyReused`."""
        with self._write_lock:
            return self._replay(key, digest)

    def _replay(self, key: str, digest: bytes) -> str | None:
        known = self._store.answered(key)
        if known is None:
            return None
        if known[0] != digest:
            raise KeyReused(
                "this Idempotency-Key came with another request before; what that one did stands. "
                "Use a new key for a new request"
            )
        return known[1]

    def delete(self, ids: Iterable[str]) -> int:
        """Delete the items called `ids`; returns how many there were."""
        with self._write_lock:
            keys = [key for key, _ in self._store.known(ids).values()]
            if keys:
                self._apply([], keys)
        return len(keys)

    def check_fingerprint(self, fingerprint: str | None) -> None:
        """Raise `ModelMismatch` unless codes of this model belong here (None: ready-made codes)."""
        model = self.config.model
        if fingerprint is None or (model is not None and model.fingerprint == fingerprint):
            return
        if model is None:
            raise ModelMismatch(f"collection {self.name!r} takes ready-made codes only; it has no model")
        raise ModelMismatch(
            f"collection {self.name!r} was filled by {model.name}:{model.version} (fingerprint "
            f"{model.fingerprint[:12]}), this is fingerprint {fingerprint[:12]}; codes of two models cannot be "
            "compared, so use that model or a new collection"
        )

    def _check(self, item: Item, position: int) -> None:
        try:
            check_id(item.id)
        except InvalidItem as error:
            raise InvalidItem(f"item {position}: {error}", position=position) from None
        if len(item.code) * 8 != self.bits:
            raise InvalidCode(
                f"item {position} ({item.id!r}): collection {self.name!r} holds codes of {self.bits} bits, "
                f"this one has {len(item.code) * 8}",
                position=position,
            )

    def _apply(self, items: Sequence[Item], removed: Sequence[int], answered: Answered | None = None) -> None:
        change = self._store.write(items, removed, answered)
        codes = change.codes.reshape(-1, self.bits // 8)
        snapshot = self._snapshot.after(change.sequence, change.removed, change.added, codes, fold_at=self._fold_at)
        with self._published:
            self._snapshot = snapshot
            self._published.notify_all()

    # -- reading -------------------------------------------------------------------------------------------

    @contextmanager
    def _state(self) -> Iterator[tuple[Reader, Snapshot]]:
        """A read transaction and the snapshot of the very same state."""
        while True:
            with self._store.reader() as reader:
                with self._published:
                    arrived = self._published.wait_for(
                        lambda at=reader.sequence: self._snapshot.sequence >= at,  # type: ignore[misc]
                        _PUBLISH_TIMEOUT_S,
                    )
                    snapshot = self._snapshot
                if not arrived:
                    raise StoreUnavailable(f"collection {self.name!r}: a write did not finish; restart the service")
                if snapshot.sequence == reader.sequence:
                    yield reader, snapshot
                    return
            # A write came between the two: look again.

    def get(self, id: str) -> Item:
        """The item called `id`. Raises `UnknownItem`."""
        with self._store.reader() as reader:
            item = reader.get(id)
        if item is None:
            raise UnknownItem(f"collection {self.name!r} has no item {id[:64]!r}")
        return item

    def items(self, *, after: str | None = None, limit: int) -> list[Item]:
        """At most `limit` items in the order of their ids, from the first above `after`."""
        with self._store.reader() as reader:
            return list(reader.items(after=after, limit=limit))

    def scan(self, *, after: str | None = None) -> Iterator[Item]:
        """Every item of one committed state, in the order of ids, from the first above `after`."""
        with self._store.reader() as reader:
            yield from reader.items(after=after)

    def search(
        self,
        code: Codes,
        *,
        k: int | None = None,
        radius: int | None = None,
        limit: int = 1000,
        cursor: str | None = None,
        payloads: bool = True,
        codes: bool = False,
        count_only: bool = False,
    ) -> Page:
        """The `k` nearest items, everything within `radius` (inclusive), or at most `k` of those within it.

        code: `(bits / 8,)`. Ordered by distance, then id. A search by radius alone comes in pages of `limit`,
        each page exact for the state it was read from; `cursor` of one page asks for the next.
        Raises `InvalidCode`, `InvalidQuery`.
        """
        if code.shape != (self.bits // 8,):
            raise InvalidCode(
                f"collection {self.name!r} holds codes of {self.bits} bits; the query has {code.size * 8}"
            )
        if k is None and radius is None:
            raise InvalidQuery("a search needs k, radius, or both")
        if k is not None and k < 1:
            raise InvalidQuery(f"k is at least 1; got {k}")
        if radius is not None and not 0 <= radius <= self.bits:
            raise InvalidQuery(f"radius is 0 to {self.bits}, the width of the codes; got {radius}")
        if cursor is not None and k is not None:
            raise InvalidQuery("a cursor continues a search by radius alone; leave k out")
        search = f"{self.name} {to_hex(code)} {radius}"
        after = None if cursor is None else open_cursor(cursor, search)
        with self._state() as (reader, snapshot):
            plan = Plan("scan", len(snapshot))
            found = snapshot.within(code, radius) if radius is not None else snapshot.search(code, k or 1)
            total = len(found) if k is None else min(k, len(found))
            if count_only:
                return Page((), total, None, plan)
            hits = first_hits(reader, found, limit if k is None else k, after, payloads=payloads, codes=codes)
            more = k is None and bool(hits) and any_after(reader, found, hits[-1])
        return Page(hits, total, make_cursor(hits[-1], search) if more else None, plan)

    def check(self) -> Report:
        """Verify the store's own checksums and that memory holds exactly what the store does."""
        with self._state() as (reader, snapshot):
            faults = list(reader.faults())
            if not faults:
                keys, codes = reader.codes(self.bits)
                held_keys, held_codes = snapshot.contents()
                if not (np.array_equal(keys, held_keys) and np.array_equal(codes, held_codes)):
                    faults.append("the index in memory differs from the store; restart the service to rebuild it")
            return Report(len(snapshot), tuple(faults))


def _config(meta: Mapping[str, Any]) -> CollectionConfig:
    try:
        model = None if meta["model"] is None else ModelKey(**meta["model"])
        config = CollectionConfig(meta["name"], meta["bits"], model, meta["keep_inputs"], meta["created_at"])
        check_width(config.bits)
    except (KeyError, TypeError, InvalidCode) as error:
        raise StoreDamaged(f"the settings of the collection cannot be read ({error})") from None
    return config
