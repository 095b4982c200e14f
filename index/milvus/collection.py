"""A collection in Milvus, shared by any number of processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import filters
from ..answer import Page
from ..belonging import check_model, models_changed, placed, went_over
from ..bits import Codes
from ..errors import InvalidCode, UnknownItem
from ..items import Item
from ..query import Query
from ..records import CollectionConfig, ModelKey, PutResult, Report, Request, Screen
from ..rerank import Logits
from ..rescore import Rescore
from ..steps import check_items
from .answering import Answering
from .checking import faults_of
from .connection import Connection, MissingCollection
from .exporting import borrowed, export
from .generations import MilvusGenerations
from .layout import Layer, Layout, Layouts
from .names import to_key, writable
from .notes import Notes
from .parts import Parts, token_of
from .reading import items_of
from .records import Records
from .rows import FIELDS, code_of
from .screening import screened
from .table import Row, Rows
from .writing import delete, matching, store

T = TypeVar("T")

FRESH_S = 1.0
"""A search works by what was known of the collection's models within this time: what served then is still complete."""
_PAGE, _STATE_S = 500, 60


class MilvusCollection:
    """A `Collection` in Milvus. Safe to use from many threads, and beside other processes.

    Less than an embedded one promises: a write that does not fit into one call to Milvus (8 MiB) may be there in part
    where Milvus fails in the middle of it, and so may one that is made while there are two models; sent again, with
    the same ids, it is made whole. A search that finds more than 16,384 items sees the writes that come meanwhile.
    Duplicates are screened against each other within one process. What Milvus frees of what was deleted is its affair.
    """

    backend = "milvus"

    def __init__(self, connection: Connection, records: Records, layouts: Layouts, name: str, *, owner: str) -> None:
        """Open the collection `name`. owner: of this process; what it had begun to fill is given up.

        Raises `UnknownCollection`, `BackendUnavailable`.
        """
        self._connection, self._layouts, self._name, self._screening = connection, layouts, name, threading.Lock()
        self._records, self._owner, self._writes, self._seen = records, owner, 0, time.monotonic()
        self._layout = layouts.of(name)
        self._meet(self._layout)
        self.generations.drop_unfinished()

    def _meet(self, layout: Layout) -> None:
        inputs = layout.serving.inputs
        self._widths = {layer.fingerprint: layer.bits for layer in layout.layers}
        self._parts, self._notes = Parts(self._connection, inputs), Notes(self._records, inputs)
        self.generations = MilvusGenerations(self, self._connection, self._layouts, self._notes, self._owner)

    # -- what it is ----------------------------------------------------------------------------------------

    def look(self, within_s: float = 0.0) -> Layout:
        """The generations, as they are now or were within that time. Raises `UnknownCollection`."""
        if time.monotonic() - self._seen > within_s:
            seen = time.monotonic()
            self._learn(self._layouts.of(self._name))
            self._seen = seen
        return self._layout

    def _learn(self, layout: Layout) -> None:
        if layout.serving.inputs != self.identity:  # another collection by now, of the same name
            self._meet(layout)
        self._layout = layout
        self._widths |= {layer.fingerprint: layer.bits for layer in layout.layers}

    @property
    def identity(self) -> str:
        """Tells the collection from an earlier one of its name."""
        return self._layout.serving.inputs

    @property
    def name(self) -> str:
        return self._name

    @property
    def bits(self) -> int:
        """Width of the codes that serve, as far as is known here."""
        return self._layout.serving.bits

    @property
    def config(self) -> CollectionConfig:
        """What the collection is, with the model whose codes serve, as far as is known here."""
        layer = self._layout.serving
        return CollectionConfig(layer.name, layer.bits, layer.model, layer.keep_inputs, layer.created_at)

    @property
    def fingerprint(self) -> str | None:
        """Of the model whose codes serve, as far as is known here."""
        return self._layout.serving.fingerprint

    def __len__(self) -> int:
        return self._again(lambda layer: self._table(layer).count())

    @property
    def nbytes(self) -> None:
        """The codes are in the memory of Milvus, which does not say how much they take."""
        return None

    def bytes_on_disk(self) -> None:
        """The rows are on the disk of Milvus, which does not say how much they take."""
        return None

    @property
    def sequence(self) -> int:
        """A number that rises with every write of this process, and once a minute, as others may write too."""
        return int(time.time()) // _STATE_S << 32 | self._writes

    def close(self, *, keep_copy: bool = True) -> None:
        """Nothing is held open; the connection is the catalogue's."""

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
        """As `Collection.put`. Raises `BackendUnavailable` too: what was sent may then be there, or part of it."""
        layout = self.look()
        check_items(self.name, self.width_of, items, fingerprint, beside or {})
        given: dict[str | None, Sequence[bytes]] = {fingerprint: [item.code for item in items]}
        given.update(beside or {})
        if request is not None and (told := self.answered(request.key, request.digest)) is not None:
            return PutResult(0, 0, 0, told)
        own, other = placed(self.name, [layer.fingerprint for layer in layout.layers], given)
        codes = [own] if other is None else [own, other]
        if screen is None:
            result = self._stored(layout, list(enumerate(items)), codes)
        else:
            with self._screening:  # no other write of this process that is screened comes between
                finder = self._table(layout.serving)
                taken, near = screened(self._connection, layout.serving, finder, items, own, screen)
                result = replace(self._stored(layout, taken, codes), duplicates=tuple(near))
        if self._outgrown(layout):  # a generation has come that this write does not know; it is to be made again
            raise models_changed(self.name)
        if request is not None:
            self._notes.remember(request.key, request.digest, request.reply(result))
        return result

    def put_codes(self, ids: Sequence[str], codes: Codes) -> PutResult:
        """Store items that are a code `(n, bits / 8)` and nothing else."""
        if codes.shape != (len(ids), self.bits // 8):
            raise InvalidCode(
                f"collection {self.name!r} holds codes of {self.bits} bits: {len(ids)} ids need an array "
                f"({len(ids)}, {self.bits // 8}); got {codes.shape}"
            )
        return self.put([Item(id, code.tobytes()) for id, code in zip(ids, np.ascontiguousarray(codes), strict=True)])

    def _stored(self, layout: Layout, items: Sequence[tuple[int, Item]], codes: Sequence[Sequence[bytes]]) -> PutResult:
        try:
            result = store(self._connection, layout, self._parts, items, codes)
        except MissingCollection:
            self.look()  # says where all of it was deleted
            raise models_changed(self.name) from None
        self._writes += 1
        return result

    def _outgrown(self, layout: Layout) -> bool:
        """Whether there is a generation now that was not there then."""
        return not {layer.physical for layer in self.look().layers} <= {layer.physical for layer in layout.layers}

    def answered(self, key: str, digest: bytes) -> str | None:
        """The reply to the request with this idempotency key, where it was answered before. Raises `KeyReused`."""
        return self._notes.answered(key, digest)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete the items called `ids`; returns how many there were."""
        keys = [to_key(id) for id in dict.fromkeys(ids) if writable(id)]
        return self._again(lambda layer: self._deleted(keys))

    def delete_where(self, filter: Mapping[str, Any]) -> int:
        """Delete the items whose payloads match `filter`; returns how many there were. Raises `InvalidQuery`."""
        where, gone = filters.parse(filter), 0

        def run(layer: Layer) -> None:
            nonlocal gone
            keys = matching(self._table(layer), where)
            while chunk := list(islice(keys, _PAGE)):
                gone += self._deleted(chunk)

        self._again(run)
        return gone

    def _deleted(self, keys: Sequence[str]) -> int:
        layout = self.look()
        gone = delete(self._connection, layout, self._parts, keys)
        self._writes += 1
        if self._outgrown(layout):
            delete(self._connection, self.look(), self._parts, keys)  # of that one too
        return gone

    def index_field(self, field: str) -> None:
        """Note that filters look at `field`. Milvus has no index for it; an embedded copy of the collection gets one.

        Raises `InvalidQuery`.
        """
        filters.index_expression(field)  # says what is wrong with the name
        self._notes.declare(field)

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep `value`, which is JSON, with the collection, in place of an earlier one of that name."""
        self._notes.put(name, value)

    def noted(self, name: str) -> Mapping[str, Any] | None:
        """What was last kept under `name`, here or, some seconds ago, by another process."""
        return self._notes.get(name)

    def notes(self) -> Mapping[str, Mapping[str, Any]]:
        """All that is kept so, by name."""
        return self._notes.all()

    def compact(self) -> None:
        """Remove kept inputs that no item names, which an interrupted write leaves; Milvus frees the room itself."""
        layers, tokens = self.look().layers, self._parts.tokens()
        named = {token_of(row["place"]) for layer in layers for row in self._table(layer).ordered(["id", "place"])}
        # What a write has just put there is named by its row within the time that a request may take.
        self._parts.delete_old(tokens - named)

    # -- reading -------------------------------------------------------------------------------------------

    def width_of(self, fingerprint: str | None) -> int:
        """The bits of the codes of a model; None: of the one that serves. Raises `ModelMismatch`."""
        if fingerprint is None:
            return self.bits
        if fingerprint not in self._widths:
            self.check_fingerprint(fingerprint)
        return self._widths[fingerprint]

    def check_fingerprint(self, fingerprint: str | None) -> None:
        """Raise `ModelMismatch` unless codes of this model belong here (None: ready-made codes)."""
        check_model(self.name, self.look().serving.model, fingerprint)

    @property
    def fields(self) -> list[str]:
        """The payload fields that were declared."""
        return self._notes.fields()

    def get(self, id: str) -> Item:
        """The item called `id`. Raises `UnknownItem`."""
        return self.stored(id)[0]

    def stored(self, id: str) -> tuple[Item, str | None]:
        """The item called `id` and the fingerprint of the model that made its code. Raises `UnknownItem`."""

        def found(layer: Layer) -> tuple[Item, str | None]:
            rows = self._table(layer).by_key([to_key(id)]).values() if writable(id) else []
            for item in self.items_of(layer, list(rows)):
                return item, layer.fingerprint
            raise UnknownItem(f"collection {self.name!r} has no item {id[:64]!r}")

        return self._again(found)

    def unchanged(self, items: Sequence[Item], fingerprint: str | None) -> dict[int, bytes]:
        """The codes that this model's generation, if it serves, has for those of `items` that are stored just so."""
        layer = self.look().serving
        kept = {place: item for place, item in enumerate(items) if item.input is not None}
        if layer.fingerprint != fingerprint or not kept:
            return {}
        rows = self._table(layer).by_key([to_key(item.id) for item in kept.values()], ["id", "code", "digest"])
        return {
            place: code_of(row)
            for place, item in kept.items()
            if (row := rows.get(to_key(item.id))) is not None and row["digest"] == item.digest().hex()
        }

    def items(self, *, after: str | None = None, limit: int) -> list[Item]:
        """At most `limit` items in the order of their ids, from the first above `after`."""
        return list(islice(self.scan(after=after), limit))

    def scan(self, *, after: str | None = None) -> Iterator[Item]:
        """Every item in the order of ids, from the first above `after`; each page of them as it is then."""
        place = "" if after is None else to_key(after)
        more = True
        while more:
            place, more, items = self._again(partial(self._page, place))
            yield from items

    def _page(self, after: str, layer: Layer) -> tuple[str, bool, list[Item]]:
        """The last key that was looked at, whether there may be more, and the items up to there."""
        rows = list(islice(self._table(layer).ordered(FIELDS, after=after, page=_PAGE), _PAGE))
        return rows[-1]["id"] if rows else after, len(rows) == _PAGE, self.items_of(layer, rows)

    def items_of(self, layer: Layer, rows: Sequence[Row]) -> list[Item]:
        """The items of rows of a generation. Raises `StoreDamaged`."""
        return items_of(self._table(layer), self._parts, rows)

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
        """As `Collection.search`. Raises `BackendUnavailable` too."""
        where = None if filter is None else filters.parse(filter)
        query = Query(code, k, radius, limit, cursor, where, logits, payloads, codes, count_only, oversample, rescore)
        query.check()

        def found(layer: Layer) -> Page:
            if fingerprint is not None and fingerprint != layer.fingerprint:
                self.width_of(fingerprint)  # says where it was never one of ours
                raise went_over(self.name)
            if code.shape != (layer.bits // 8,):
                raise InvalidCode(
                    f"collection {self.name!r} holds codes of {layer.bits} bits; the query has {code.size * 8}"
                )
            return Answering(self._connection, layer, query).page(self.name)

        return self._again(found)

    def glance(self, code: Codes, *, fingerprint: str | None = None, **asked: Any) -> None:
        """Nothing: every search waits for Milvus."""
        return None

    def codes(self) -> tuple[int, ModelKey | None, Codes]:
        """The number of the present state, the model, and every code `(n, bits / 8)`, by id."""

        def found(layer: Layer) -> tuple[int, ModelKey | None, Codes]:
            sequence, rows = self.sequence, self._table(layer).ordered(["id", "code"])
            joined = b"".join(map(code_of, rows))
            return sequence, layer.model, np.frombuffer(joined, np.uint8).reshape(-1, layer.bits // 8)

        return self._again(found)

    def check(self) -> Report:
        """Verify every row and input against what was written, and the generations against each other."""

        def found(layer: Layer) -> Report:
            layout = self.look()
            filled = layout.second is not None and self.generations.state(layout.second) != "filling"
            faults = tuple(faults_of(self._connection, layout, self._parts, filled=filled))
            return Report(self._table(layer).count(), faults)

        return self._again(found)

    # -- copies --------------------------------------------------------------------------------------------

    def copy_to(self, path: Path) -> None:
        """Copy the items, with the codes that serve, to the new store file `path`."""
        export(path, self.config, self.scan(), self.fields, self.notes())

    @contextmanager
    def lent(self, scratch: Path) -> Iterator[Path]:
        """A copy in a folder of its own in `scratch`."""
        with borrowed(scratch) as path:
            self.copy_to(path)
            yield path

    def _table(self, layer: Layer) -> Rows:
        return Rows(self._connection, layer.physical)

    def _again(self, ask: Callable[[Layer], T]) -> T:
        """What `ask` says of the generation that serves; asked again where one was given up in the middle."""
        try:
            return ask(self.look(FRESH_S).serving)
        except MissingCollection:
            return ask(self.look().serving)
