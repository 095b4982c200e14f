"""A collection: items on disk, their codes in memory, exact search over both.

What was acknowledged is on disk and the next search finds it; a search works on one committed state (see `live`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import filters
from .answer import Page
from .belonging import went_over
from .bits import Codes, check_width
from .copying import MAX_FIELDS, copy_store
from .errors import (
    InvalidCode,
    InvalidQuery,
    StoreDamaged,
    UnknownItem,
)
from .generations import Generations, drop_unfinished
from .items import Item
from .live import Live
from .pairs import AllPairs
from .query import Query, answer
from .records import CollectionConfig, ModelKey, PutResult, Report, Request, Screen, config_of
from .rerank import Logits
from .rescore import Rescore
from .screen import Sighting, screened
from .selection import Selections
from .snapshot import Snapshot
from .steps import check_item, check_items, put_all, put_items, told_before
from .store import Store
from .transaction import Answered, Transaction


class EmbeddedCollection:
    """A `Collection` in a file of its own. Safe to use from many threads."""

    backend = "embedded"

    def __init__(self, path: Path, **tuning: Any) -> None:
        """Open the collection stored at `path`. Raises `StoreDamaged` where the file fails its checks.

        tuning: of the upkeep, see `Live`.
        """
        store = Store(path)
        try:
            with store.reader() as reader:
                serving = reader.serving()
            self._meta = store.meta()
            self._config = config_of(self._meta, serving)
            if path.parent.name != self.name:
                raise StoreDamaged(
                    f"the folder {path.parent.name!r} holds the collection {self.name!r}; give it its name back"
                )
            drop_unfinished(store)
            self._live = Live(store, self._config.bits, **tuning)
            self.generations = Generations(self._live, self.name)
        except BaseException:
            store.close()
            raise
        self._selections = Selections()

    @classmethod
    def create(cls, path: Path, config: CollectionConfig) -> None:
        """Write the empty collection `config` at `path`."""
        check_width(config.bits)
        store = Store(path)
        try:
            described = asdict(config)
            del described["bits"], described["model"]  # they may change, and stand with the codes
            store.set_meta(described)
            store.set_first_generation(config.bits, config.model, config.created_at)
        finally:
            store.close()

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def bits(self) -> int:
        """Width of the codes that serve."""
        return self._live.snapshot.bits

    @property
    def config(self) -> CollectionConfig:
        """What the collection is, with the model whose codes serve now."""
        serving = self.generations.known(self._live.snapshot.generation)
        return replace(self._config, model=serving.model, bits=serving.bits)

    @property
    def fingerprint(self) -> str | None:
        """Of the model whose codes serve now."""
        return self.generations.known(self._live.snapshot.generation).fingerprint

    def __len__(self) -> int:
        return len(self._live.snapshot)

    @property
    def nbytes(self) -> int:
        """Memory that the index takes: codes, keys, buckets."""
        return self._live.snapshot.nbytes

    def close(self, *, keep_copy: bool = True) -> None:
        """Finish what runs. keep_copy: leave what makes the next start fast."""
        self._live.close(keep_copy=keep_copy)

    # -- changes -------------------------------------------------------------------------------------------

    def put(
        self,
        items: Sequence[Item],
        *,
        fingerprint: str | None = None,
        beside: Mapping[str, Sequence[bytes]] | None = None,
        request: Request | None = None,
        screen: Screen | None = None,
    ) -> PutResult:
        """Store `items`, all or none; an id already there is replaced, as is an earlier one in the same call.

        fingerprint: of the model that made the codes. beside: the codes of the same items by other models, needed
        while there are two (see `generations`). request: makes the call safe to repeat. screen: what becomes of
        duplicates. Raises `KeyReused`, `ModelMismatch`, `GenerationChanged`, `InputsMissing`, `InvalidItem`,
        `InvalidCode`, `InvalidQuery`, `StoreFull`, `StoreUnavailable`; after any of them nothing of it is stored.
        """
        expected = self._live.snapshot.generation
        check_items(self.name, self.generations.width_of, items, fingerprint, beside or {})
        codes: dict[str | None, Sequence[bytes]] = {fingerprint: [item.code for item in items]}
        codes.update(beside or {})
        sighting = None
        if screen is not None:
            with self._live.state() as (reader, snapshot):
                own = self.generations.chosen(snapshot.generation, codes)
                sighting = Sighting(reader, snapshot, items, own, screen)

        def step(transaction: Transaction) -> PutResult:
            if request is not None and (told := told_before(transaction, request.key, request.digest)) is not None:
                return PutResult(0, 0, 0, told)
            serving, other = self.generations.place(transaction, expected, codes)
            taken, near = (enumerate(items), ()) if sighting is None else screened(transaction, sighting)
            result = replace(put_items(transaction, taken, serving, other), duplicates=tuple(near))
            if request is not None:
                transaction.remember(Answered(request.key, request.digest, request.reply(result)))
            return result

        return self._live.commit(step)

    def put_codes(self, ids: Sequence[str], codes: Codes) -> PutResult:
        """Store items that are a code `(n, bits / 8)` and nothing else: as `put`, several times faster."""
        snapshot = self._live.snapshot
        bits, expected = snapshot.bits, snapshot.generation
        if codes.shape != (len(ids), bits // 8):
            raise InvalidCode(
                f"collection {self.name!r} holds codes of {bits} bits: {len(ids)} ids need an array "
                f"({len(ids)}, {bits // 8}); got {codes.shape}"
            )
        # Where all ids are plain and short they are right; only otherwise each is looked at.
        together = "".join(ids)
        if not (together.isascii() and "\0" not in together and all(ids) and max(map(len, ids), default=0) < 128):
            for position, id in enumerate(ids):
                check_item(self.name, id, bits, bits, position)
        rows: list[Any] = np.ascontiguousarray(codes).view(np.dtype((np.void, bits // 8))).ravel().tolist()
        latest = dict(zip(ids, rows, strict=True))

        def step(transaction: Transaction) -> PutResult:
            self.generations.place(transaction, expected, {None: rows})
            return put_all(
                transaction,
                latest,
                lambda new: transaction.insert_codes(new, list(map(latest.__getitem__, new))),
                lambda id: (b"", latest[id]),
            )

        return self._live.commit(step)

    def answered(self, key: str, digest: bytes) -> str | None:
        """The reply to the request with this idempotency key, where it was answered before. Raises `KeyReused`."""
        return self._live.commit(lambda transaction: told_before(transaction, key, digest))

    def delete(self, ids: Iterable[str]) -> int:
        """Delete the items called `ids`; returns how many there were."""
        wanted = list(ids)

        def step(transaction: Transaction) -> int:
            gone = list(transaction.known(wanted).values())
            if gone:
                transaction.remove(gone)
            return len(gone)

        return self._live.commit(step)

    def delete_where(self, filter: Mapping[str, Any]) -> int:
        """Delete the items whose payloads match `filter`; returns how many there were. Raises `InvalidQuery`."""
        where, values = filters.parse(filter).where()

        def step(transaction: Transaction) -> int:
            gone = transaction.matching(where, values)
            if gone:
                transaction.remove(gone)
            return len(gone)

        return self._live.commit(step)

    def index_field(self, field: str) -> None:
        """Give the payload field `field` an index, so that filters on it are fast. Raises `InvalidQuery`."""
        filters.parse({field: None})  # says what is wrong with the name
        statements = filters.index_statements(field, f"field_{field.encode().hex()}")
        fields = self.fields
        if field not in fields and len(fields) >= MAX_FIELDS:
            raise InvalidQuery(
                f"a collection has an index on at most {MAX_FIELDS} fields; there is one on {', '.join(fields)}"
            )
        self._live.commit(lambda transaction: transaction.declare(field, statements))

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep `value`, which is JSON, with the collection, in place of an earlier one of that name."""
        self._live.commit(lambda transaction: transaction.note(f"note/{name}", json.dumps(value)))
        self._meta[f"note/{name}"] = value

    def noted(self, name: str) -> Mapping[str, Any] | None:
        """What was last kept under `name`."""
        return self._meta.get(f"note/{name}")

    def notes(self) -> Mapping[str, Mapping[str, Any]]:
        """All that is kept so, by name."""
        return {name.removeprefix("note/"): value for name, value in self._meta.items() if name.startswith("note/")}

    def compact(self) -> None:
        """Leave nothing on disk of what was deleted. Writers wait while the store is rewritten; searches go on.

        The ids alone stay for a day in the replies that are remembered for retries (see `Request`).
        """
        self._live.compact()

    def merge(self) -> None:
        """Bring what was written lately into the index; done in the background as well, when there is need."""
        self._live.merge()

    def copy_to(self, path: Path) -> None:
        """Copy one committed state of the store to the new file `path`; everything goes on meanwhile."""
        with self._live.state() as (reader, _):
            copy_store(reader.db, path)

    @contextmanager
    def lent(self, scratch: Path) -> Iterator[Path]:
        """The collection's own store file, which other processes may read at any time."""
        yield self._live.path

    def move(self, folder: Path) -> None:
        """Rename the collection's folder to `folder`; everything goes on meanwhile."""
        self._live.move(folder)

    def bytes_on_disk(self) -> int:
        """Size of the collection's files."""
        return self._live.bytes_on_disk()

    def check_fingerprint(self, fingerprint: str | None) -> None:
        """Raise `ModelMismatch` unless codes of this model belong here (None: ready-made codes)."""
        self.generations.check(fingerprint)

    # -- reading -------------------------------------------------------------------------------------------

    @property
    def fields(self) -> list[str]:
        """The payload fields that have an index."""
        with self._live.state() as (reader, _):
            return reader.fields()

    def get(self, id: str) -> Item:
        """The item called `id`. Raises `UnknownItem`."""
        return self.stored(id)[0]

    def stored(self, id: str) -> tuple[Item, str | None]:
        """The item called `id` and the fingerprint of the model that made its code. Raises `UnknownItem`."""
        with self._live.state() as (reader, snapshot):
            item = reader.get(id)
        if item is None:
            raise UnknownItem(f"collection {self.name!r} has no item {id[:64]!r}")
        return item, self.generations.known(snapshot.generation).fingerprint

    def unchanged(self, items: Sequence[Item], fingerprint: str | None) -> dict[int, bytes]:
        """The codes that this model's generation, if it serves, has for those of `items` that are stored just so."""
        with self._live.state() as (reader, snapshot):
            serves = self.generations.known(snapshot.generation).fingerprint == fingerprint
            return reader.unchanged(items) if serves else {}

    def items(self, *, after: str | None = None, limit: int) -> list[Item]:
        """At most `limit` items in the order of their ids, from the first above `after`."""
        with self._live.state() as (reader, _):
            return list(reader.items(after=after, limit=limit))

    def scan(self, *, after: str | None = None) -> Iterator[Item]:
        """Every item of one committed state, in the order of ids, from the first above `after`."""
        with self._live.state() as (reader, _):
            yield from reader.items(after=after)

    def search(
        self,
        code: Codes,
        *,
        fingerprint: str | None = None,
        k: int | None = None,
        radius: int | None = None,
        limit: int = 1000,
        cursor: str | None = None,
        filter: Mapping[str, Any] | None = None,
        logits: Logits | None = None,
        rescore: Rescore | None = None,
        oversample: int = 1,
        payloads: bool = True,
        codes: bool = False,
        count_only: bool = False,
    ) -> Page:
        """The `k` nearest items, everything within `radius` (inclusive), or at most `k` of those within it.

        code: `(bits / 8,)`. Ordered by distance, then id. A search by radius alone comes in pages of `limit`,
        each page exact for the state it was read from; `cursor` of one page asks for the next. filter: on payloads,
        see `filters`. logits: `(bits,)`, of the query; what was found is then ordered by its soft distance to them.
        rescore: or by true distances. oversample: of so many times k then the best k.
        fingerprint: of the model that made the code, None for a ready-made one. Raises `InvalidCode`, `InvalidQuery`,
        and `GenerationChanged` where another model serves by now.
        """
        where = None if filter is None else filters.parse(filter)
        query = Query(code, k, radius, limit, cursor, where, logits, payloads, codes, count_only, oversample, rescore)
        query.check()
        with self._live.state() as (reader, snapshot):
            model = self._model_for(snapshot, fingerprint)
            if code.shape != (snapshot.bits // 8,):
                raise InvalidCode(
                    f"collection {self.name!r} holds codes of {snapshot.bits} bits; the query has {code.size * 8}"
                )
            return answer(reader, snapshot, self._selections, query, self.name, model)

    def _model_for(self, snapshot: Snapshot, fingerprint: str | None) -> ModelKey | None:
        """The model of the codes in `snapshot`. Raises `GenerationChanged` where the query is by another."""
        model = self.generations.known(snapshot.generation).model
        if fingerprint is not None and (model is None or model.fingerprint != fingerprint):
            self.generations.width_of(fingerprint)  # says where it was never one of ours
            raise went_over(self.name)
        return model

    def glance(self, code: Codes, *, fingerprint: str | None = None, **asked: Any) -> Page | None:
        """What `search` answers, where that takes about 200 us at most and waits for nothing; None for all else.

        Meant for an event loop. asked: as for `search`, without cursor, filter and logits (see `Glance.page`).
        """
        snapshot = self._live.snapshot
        model = self.generations.known(snapshot.generation).model
        if fingerprint is not None and (model is None or model.fingerprint != fingerprint):
            return None
        return self._live.glance.page(snapshot, model, code, **asked)

    def all_pairs(self, radius: int, *, threads: int = 2) -> tuple[NDArray[np.int64], AllPairs]:
        """The pairs and groups of items within `radius` of each other, of the present state, and the items' keys.

        Places in the result are places in the keys `(n,)`; `ids` names them. Raises `InvalidQuery`.
        """
        snapshot = self._live.snapshot
        keys, codes = snapshot.contents()
        return keys, AllPairs(snapshot.bits, codes, radius, threads=threads)

    @property
    def sequence(self) -> int:
        """The number of the present state; every change has a higher one."""
        return self._live.snapshot.sequence

    def codes(self) -> tuple[int, ModelKey | None, Codes]:
        """Of the present state: its number, the model, and every code `(n, bits / 8)` in the order they came."""
        snapshot = self._live.snapshot
        return snapshot.sequence, self.generations.known(snapshot.generation).model, snapshot.contents()[1]

    def ids(self, keys: Sequence[int]) -> dict[int, str]:
        """The ids of those of `keys` that are still stored."""
        with self._live.state() as (reader, _):
            return {key: id for id, key in reader.ids(keys, after=None, limit=len(keys))}

    def check(self) -> Report:
        """Verify the store's own checksums and that memory holds exactly what the store does."""
        with self._live.state() as (reader, snapshot):
            faults = list(reader.faults())
            try:
                keys, codes = reader.codes(snapshot.bits)
            except StoreDamaged as error:
                faults.append(str(error))
            if not faults:
                held_keys, held_codes = snapshot.contents()
                if not (np.array_equal(keys, held_keys) and np.array_equal(codes, held_codes)):
                    faults.append("the index in memory differs from the store; restart the service to rebuild it")
            return Report(len(snapshot), tuple(faults))
