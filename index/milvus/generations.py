"""Another model for a collection in Milvus, while any number of processes read and write it.

There is no transaction over two generations, so they are kept in step by rules. Who writes asks first which there are,
writes the one that serves and then the other, and asks again: one that has come meanwhile has the write repeated. Who
fills copies from the one that serves, never over a row of the same content, and looks afterwards whether that has
changed. What still differs, since two processes wrote one item at once, is found by comparing all digests before the
new codes may serve, and encoded again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..answer import Hit
from ..belonging import none_beside, refuse_begin, refuse_missing
from ..bits import Codes, check_width
from ..errors import InvalidCode, NoSuchGeneration
from ..items import Item
from ..query import Query
from ..reader import known
from ..records import Generation, ModelKey
from ..store import read_only
from .answering import Answering
from .comparing import differing, lasting
from .connection import Connection, MissingCollection
from .exporting import borrowed, export
from .layout import Layer, Layout, Layouts
from .names import new_generation, to_id, to_key
from .notes import Notes
from .rows import FIELDS, code_of, seal_of, slot_of
from .schema import create_items, drop
from .table import Rows

if TYPE_CHECKING:
    from .collection import MilvusCollection

_LEFT = 1_000


class MilvusGenerations:
    """The `Generations` of one collection in Milvus. Safe to use from many threads."""

    def __init__(
        self, collection: MilvusCollection, connection: Connection, layouts: Layouts, notes: Notes, owner: str
    ) -> None:
        self._collection, self._connection, self._layouts, self._owner = collection, connection, layouts, owner
        self._notes = notes
        self._changing = threading.Lock()
        self._lent: dict[int, Path] = {}

    def all(self) -> list[Generation]:
        """What there is now, in the order in which it came; one of them serves."""
        while True:
            layout = self._collection.look()
            try:
                found = [self._described(layout, layer) for layer in layout.layers]
            except MissingCollection:  # given up just now
                continue
            return sorted(found, key=lambda one: one.number)

    def models(self) -> list[ModelKey | None]:
        """The model of each generation, None of one without; the one that serves comes first."""
        return [layer.model for layer in self._collection.look().layers]

    def beside(self, *states: str) -> Generation:
        """The generation that does not serve, in one of `states`. Raises `NoSuchGeneration`."""
        for generation in self.all():
            if generation.state in states and generation.state != "serving":
                return generation
        raise none_beside(self._collection.name, states)

    # -- another model -------------------------------------------------------------------------------------

    def check_begin(self, model: ModelKey) -> int:
        """Raise as `begin` does, before anything is done."""
        self._check_begin(self._collection.look(), model)
        return 0

    def _check_begin(self, layout: Layout, model: ModelKey) -> None:
        other = None if layout.second is None else self.state(layout.second)
        refuse_begin(self._collection.name, model, layout.serving.fingerprint, other)
        table = Rows(self._connection, layout.serving.physical)
        refuse_missing(self._collection.name, table.count("flags < 2"), table.count())

    def begin(self, model: ModelKey, bits: int) -> Generation:
        """Begin to go over to `model`; what was kept from an earlier time is given up. Raises as `check_begin` does."""
        check_width(bits)
        with self._changing:
            layout = self._collection.look()
            self._check_begin(layout, model)
            if layout.second is not None:
                self._drop(layout.second)
            number = self._notes.next_number(layout.serving.number + 1)
            begun_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            layer = replace(
                layout.serving,
                physical=new_generation(self._collection.name, number),
                number=number,
                bits=bits,
                model=model,
                begun_at=begun_at,
                owner=self._owner,
            )
            create_items(self._connection, layer.physical, bits, layer.described())
            now = self._collection.look()
            # Of two that begin at once at least one sees the other.
            if self._layouts.beside(now.serving) != [layer.physical] or now.serving != layout.serving:
                drop(self._connection, layer.physical)
                raise NoSuchGeneration(
                    f"collection {self._collection.name!r} began to go over to another model in another process at the "
                    "same time; wait for that"
                )
            return Generation(number, model, bits, "filling", 0, begun_at)

    @contextmanager
    def uncoded(self, number: int, scratch: Path) -> Iterator[tuple[Path, int]]:
        """A copy of what generation `number` has no codes of, for another process, and its number there."""
        with borrowed(scratch) as path:
            with self._while_there(number) as layout:
                second = self._second(layout, number)
                assert second.model is not None  # `begin` was given one
                config = self._collection.config
                copied = export(path, config, self._lacking(layout), other=(second.model, second.bits))
            self._lent[number] = path
            try:
                yield path, copied
            finally:
                del self._lent[number]

    def fill(self, number: int, keys: Sequence[int], codes: Codes) -> int:
        """Store codes `(n, bits / 8)` of the items with these keys in the copy that `uncoded` has lent.

        Where an item has changed since, or has a code by now, it is left out; returns how many were stored. Raises
        `NoSuchGeneration` where this one is not being filled any more.
        """
        with self._while_there(number) as layout:
            self._check_filling(layout, number, len(keys), codes)
            with read_only(self._lent[number]) as reader:
                ids = {key: id for id, key in reader.ids(list(keys), after=None, limit=len(keys))}
                digests = {id: one.digest.hex() for id, one in known(reader.db, 0, ids.values()).items()}
            found = [(to_key(ids[key]), digests[ids[key]], bytes(code)) for key, code in zip(keys, codes, strict=True)]
            return self._fill(layout, found)

    def leftover(self, number: int) -> list[Item]:
        """At most a thousand items that have no code in generation `number` yet, or one of an earlier content."""
        with self._while_there(number) as layout:
            self._second(layout, number)
            return list(islice(self._lacking(layout), _LEFT))

    def fill_items(self, number: int, items: Sequence[Item], codes: Codes) -> None:
        """As `fill`, for what `leftover` gave."""
        with self._while_there(number) as layout:
            self._check_filling(layout, number, len(items), codes)
            digests = [item.digest().hex() for item in items]
            keys = [to_key(item.id) for item in items]
            self._fill(layout, list(zip(keys, digests, map(bytes, codes), strict=True)))

    def _check_filling(self, layout: Layout, number: int, count: int, codes: Codes) -> None:
        second = layout.second
        if second is None or second.number != number or self.state(second) != "filling":
            name = self._collection.name
            raise NoSuchGeneration(f"generation {number} of collection {name!r} is not being filled any more")
        if codes.shape != (count, second.bits // 8):
            raise InvalidCode(f"{count} keys need codes ({count}, {second.bits // 8}); got {codes.shape}")

    def _fill(self, layout: Layout, found: Sequence[tuple[str, str, bytes]]) -> int:
        """Copy rows of the one that serves with the codes (key, digest, code) found, where the digest is still so."""
        assert layout.second is not None
        keys = [key for key, _, _ in found]
        own, other = (Rows(self._connection, layer.physical) for layer in (layout.serving, layout.second))
        serving = own.by_key(keys, FIELDS)
        there = other.by_key(keys, ["id", "digest"])
        rows = [
            {**serving[key], "code": code, "slot": slot_of(to_id(key)), "seal": seal_of(to_id(key), code, digest)}
            for key, digest, code in found
            if key in serving
            and serving[key]["digest"] == digest
            and not (key in there and there[key]["digest"] == digest)
        ]
        other.put(rows)
        now = _contents(own, [row["id"] for row in rows])
        # Written or deleted meanwhile: without a code it is found by the next look, with an old one by the last alone,
        # and with an input that has moved by none.
        moved = [row["id"] for row in rows if now.get(row["id"]) != (row["digest"], row["place"])]
        current = _contents(other, moved)
        other.delete([key for key in moved if key in current and current[key] != now.get(key)])
        return len(rows) - len(moved)

    def _lacking(self, layout: Layout) -> Iterator[Item]:
        """The items that the second generation has no right code of; what it should not have is removed on the way."""
        assert layout.second is not None
        own, other = (Rows(self._connection, layer.physical) for layer in (layout.serving, layout.second))
        found = differing(self._connection, layout)
        while chunk := list(islice(found, _LEFT)):
            wrong = [key for key, why in chunk if why != "missing"]
            other.delete(wrong)
            rows = own.by_key([key for key, _ in chunk], FIELDS)
            yield from self._collection.items_of(layout.serving, list(rows.values()))

    @contextmanager
    def trial(self, number: int) -> Iterator[MilvusTrial]:
        """The collection searched with the codes that serve and those of generation `number`.

        Raises `NoSuchGeneration` where an item has no code in it yet.
        """
        with self._while_there(number) as layout:
            self._complete(layout, number)
            yield MilvusTrial(self._connection, self._collection, layout)

    def make_ready(self, number: int) -> None:
        """Note that a filled generation may serve; it then survives a restart. Raises `NoSuchGeneration`."""
        with self._changing:
            self._notes.set_state(self._second(self._collection.look(), number).physical, "ready")

    def flip(self, number: int, successor: Any = None) -> float:
        """Let generation `number` serve, for all processes at one moment, and keep the one that did.

        successor: of a trial, which has compared the two. Returns 0: no writer waits. Raises `NoSuchGeneration`.
        """
        with self._changing, self._while_there(number) as layout:
            second = self._second(layout, number)
            if successor is None:
                self._complete(layout, number)
            Rows(self._connection, second.physical).seal()
            self._notes.set_state(layout.serving.physical, "kept")
            self._layouts.point(self._collection.name, second.physical, first=False)
            self._notes.set_state(second.physical, None)
            self._collection.look()
        return 0.0

    def drop(self, number: int) -> bool:
        """Give up the codes of a generation that does not serve; False where they are gone. Raises `NoSuchGeneration`.

        Writes are then made for one model again.
        """
        with self._changing:
            layout = self._collection.look()
            if layout.serving.number == number:
                name = self._collection.name
                raise NoSuchGeneration(f"generation {number} of collection {name!r} serves; roll back first")
            if layout.second is None or layout.second.number != number:
                return False
            self._drop(layout.second)
            return True

    def drop_unfinished(self) -> None:
        """Give up a generation that this process was filling when it last ended."""
        second = self._collection.look().second
        if second is not None and second.owner == self._owner and self.state(second) == "filling":
            self.drop(second.number)

    def _drop(self, layer: Layer) -> None:
        drop(self._connection, layer.physical)
        self._notes.set_state(layer.physical, None)
        self._collection.look()

    @contextmanager
    def _while_there(self, number: int) -> Iterator[Layout]:
        """The generations now. Raises `NoSuchGeneration` where `number` is given up in the middle of the block."""
        try:
            yield self._collection.look()
        except MissingCollection:
            self._second(self._collection.look(), number)  # says where all of it was deleted
            raise

    def _second(self, layout: Layout, number: int) -> Layer:
        if layout.second is None or layout.second.number != number:
            raise NoSuchGeneration(
                f"collection {self._collection.name!r} has no generation {number} that does not serve: another request "
                "flipped it or gave it up meanwhile"
            )
        return layout.second

    def _complete(self, layout: Layout, number: int) -> None:
        self._second(layout, number)
        for key, why in lasting(self._connection, layout, differing(self._connection, layout)):
            raise NoSuchGeneration(
                f"generation {number} of collection {self._collection.name!r} does not have the right code for every "
                f"item: {to_id(key)[:64]!r} is {why}; store that item again, or delete it where it should be gone"
            )

    def state(self, layer: Layer) -> str:
        """Of the generation that does not serve: filling, ready or kept."""
        return self._notes.state(layer.physical) or "filling"

    def _described(self, layout: Layout, layer: Layer) -> Generation:
        state: Any = "serving" if layer is layout.serving else self.state(layer)
        items = Rows(self._connection, layer.physical).count()
        return Generation(layer.number, layer.model, layer.bits, state, items, layer.begun_at)


def _contents(table: Rows, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The digest of each row, and the place of its input."""
    rows = table.by_key(keys, ["id", "digest", "place"])
    return {key: (row["digest"], row["place"]) for key, row in rows.items()}


class MilvusTrial:
    """Two generations of the same items, side by side."""

    def __init__(self, connection: Connection, collection: MilvusCollection, layout: Layout) -> None:
        self._connection, self._collection, self._layout = connection, collection, layout

    @property
    def successor(self) -> int:
        """Tells `flip` that the two were compared."""
        assert self._layout.second is not None
        return self._layout.second.number

    def get(self, id: str) -> Item | None:
        """The item called `id`, with the code that serves."""
        row = self._table(new=False).by_key([to_key(id)])
        return next(iter(self._collection.items_of(self._layout.serving, list(row.values()))), None)

    def nearest(self, code: Codes, k: int, *, new: bool) -> list[Hit]:
        """The `k` nearest to a code of the one model or the other, with their payloads, by distance and then id."""
        return list(Answering(self._connection, self._layer(new=new), Query(code, k)).page(self._collection.name).hits)

    def sample(self, seed: int = 0) -> Iterator[Item]:
        """All the items, in an order of chance."""
        keys = [row["id"] for row in self._table(new=False).ordered(["id"])]
        for place in np.random.default_rng(seed).permutation(len(keys)).tolist():
            rows = self._table(new=False).by_key([keys[place]])
            yield from self._collection.items_of(self._layout.serving, list(rows.values()))

    def codes(self, *, new: bool) -> Codes:
        """Every code `(n, bits / 8)`."""
        joined = b"".join(code_of(row) for row in self._table(new=new).ordered(["id", "code"]))
        return np.frombuffer(joined, np.uint8).reshape(-1, self._layer(new=new).bits // 8)

    def _layer(self, *, new: bool) -> Layer:
        layer = self._layout.second if new else self._layout.serving
        assert layer is not None
        return layer

    def _table(self, *, new: bool) -> Rows:
        return Rows(self._connection, self._layer(new=new).physical)
