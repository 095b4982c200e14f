"""The generations of a collection: going over to another model, and back, while it serves.

1. `begin` makes room for codes of the new model; from then on everything written is written with codes of both.
2. `fill` brings the codes of what was there before, in any number of calls.
3. `trial` searches the new codes beside those that serve, to see whether they are any good.
4. `flip` lets the new codes serve, in one transaction, and keeps the old ones, which are written on: a second `flip`
   goes back. `drop` gives up the codes that do not serve.

What is half filled when the collection is opened is dropped: whoever was filling it is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from .answer import Hit, first_hits
from .belonging import check_model, models_changed, none_beside, placed, refuse_begin, refuse_missing
from .bits import Codes, check_width
from .errors import InvalidCode, NoSuchGeneration
from .items import Item
from .live import Live
from .reader import Reader
from .records import Generation, ModelKey
from .snapshot import Snapshot
from .store import Store
from .successor import Successor
from .transaction import Transaction


class Generations:
    """Those of one collection. Safe to use from many threads."""

    def __init__(self, live: Live, name: str) -> None:
        self._live = live
        self._name = name
        with live.state() as (reader, _):
            self._known = {generation.number: generation for generation in reader.generations()}

    def all(self) -> list[Generation]:
        """What there is now, in the order in which it came; one of them serves."""
        with self._live.state() as (reader, _):
            return reader.generations()

    def models(self) -> list[ModelKey | None]:
        """The model of each generation, None of one without; the one that serves comes first."""
        return [one.model for one in sorted(self.all(), key=lambda one: one.state != "serving")]

    def known(self, number: int) -> Generation:
        """What a generation is, also one that has been given up; its state may be out of date."""
        return self._known[number]

    def beside(self, *states: str) -> Generation:
        """The generation that does not serve, in one of `states`. Raises `NoSuchGeneration`."""
        found = [generation for generation in self.all() if generation.state in states]
        if not found:
            raise none_beside(self._name, states)
        return found[0]

    # -- writing -------------------------------------------------------------------------------------------

    def width_of(self, fingerprint: str | None) -> int:
        """The bits of the codes of a model; None: of the one that serves.

        Raises `ModelMismatch` for a model that never made codes of this collection.
        """
        if fingerprint is not None:
            for generation in list(self._known.values()):
                if generation.fingerprint == fingerprint:
                    return generation.bits
            self.check(fingerprint)
        return self._known[self._live.snapshot.generation].bits

    def check(self, fingerprint: str | None) -> None:
        """Raise `ModelMismatch` unless `fingerprint` is that of the model that serves (None: ready-made codes)."""
        check_model(self._name, self._known[self._live.snapshot.generation].model, fingerprint)

    def place(
        self, transaction: Transaction, expected: int, codes: Mapping[str | None, Sequence[bytes]]
    ) -> tuple[Sequence[bytes], Sequence[bytes] | None]:
        """Of `codes` by fingerprint: those of the generation that serves, and of the one beside it if there is one.

        expected: the generation that served when codes without a fingerprint were checked. Raises `GenerationChanged`
        where codes of a present model are not there, `InputsMissing` where they cannot be had.
        """
        shadow = transaction.shadow
        numbers = [transaction.generation] + ([] if shadow is None else [shadow.number])
        wanted = [self._known[number].fingerprint for number in numbers]
        return placed(self._name, wanted, codes, stayed=transaction.generation == expected)

    def chosen(self, generation: int, codes: Mapping[str | None, Sequence[bytes]]) -> Sequence[bytes]:
        """Of `codes` by fingerprint, those of a generation. Raises `GenerationChanged` where they are not there."""
        own = codes.get(self._known[generation].fingerprint, codes.get(None))
        if own is None:
            raise models_changed(self._name)
        return own

    # -- another model -------------------------------------------------------------------------------------

    def begin(self, model: ModelKey, bits: int) -> Generation:
        """Begin to go over to `model`; what was kept from an earlier time is given up.

        Raises `InputsMissing` where an item has no input to be encoded again, `NoSuchGeneration` where another is
        being filled or is ready.
        """
        check_width(bits)
        created_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        seen = self.check_begin(model)

        def step(transaction: Transaction) -> Generation:
            shadow = transaction.shadow
            state = None if shadow is None else transaction.state_of(shadow.number)
            refuse_begin(self._name, model, self._known[transaction.generation].fingerprint, state)
            refuse_missing(self._name, transaction.missing_inputs(seen), None)
            transaction.drop()
            number = transaction.begin(model, bits, created_at)
            self._known[number] = Generation(number, model, bits, "filling", 0, created_at)
            return self._known[number]

        return self._live.commit(step)

    def check_begin(self, model: ModelKey) -> int:
        """Raise as `begin` does, before anything is done; returns the newest key that was looked at."""
        with self._live.state() as (reader, _):
            other = next((one.state for one in reader.generations() if one.state != "serving"), None)
            refuse_begin(self._name, model, self._known[reader.generation].fingerprint, other)
            refuse_missing(self._name, reader.missing_inputs(), reader.count)
            seen: int = reader.last_key
            return seen

    def fill(self, number: int, keys: Sequence[int], codes: Codes) -> int:
        """Store codes `(n, bits / 8)` of the items with these keys, where those are still there and have none yet.

        Returns how many were stored. Raises `NoSuchGeneration` where this one is not being filled any more.
        """
        bits = self._known[number].bits
        if codes.shape != (len(keys), bits // 8):
            raise InvalidCode(f"{len(keys)} keys need codes ({len(keys)}, {bits // 8}); got {codes.shape}")
        rows = dict(zip(keys, map(bytes, np.ascontiguousarray(codes)), strict=True))

        def step(transaction: Transaction) -> int:
            shadow = transaction.shadow
            if shadow is None or shadow.number != number or transaction.state_of(number) != "filling":
                raise NoSuchGeneration(f"generation {number} of collection {self._name!r} is not being filled any more")
            return shadow.fill(rows)

        return self._live.commit(step)

    @contextmanager
    def uncoded(self, number: int, scratch: Path) -> Iterator[tuple[Path, int]]:
        """The collection's own store file, and the number itself: see `Reader.uncoded`."""
        yield self._live.path, number

    def leftover(self, number: int) -> list[Item]:
        """Nothing: whatever has no code when the filling begins is filled, and what comes later comes with one."""
        return []

    def fill_items(self, number: int, items: Sequence[Item], codes: Codes) -> None:
        """Not needed, as nothing is left over."""
        assert not items

    @contextmanager
    def trial(self, number: int) -> Iterator[Trial]:
        """One state of the collection, searched with the codes that serve and those of generation `number`.

        Raises `NoSuchGeneration` where an item has no code in it yet.
        """
        with self._live.successor(number, self._known[number].bits) as (reader, snapshot, successor):
            yield Trial(reader, snapshot, successor)

    def make_ready(self, number: int) -> None:
        """Note that a filled generation may serve; it then survives a restart. Raises `NoSuchGeneration`."""

        def step(transaction: Transaction) -> None:
            if transaction.shadow is None or transaction.shadow.number != number:
                raise NoSuchGeneration(f"generation {number} of collection {self._name!r} was given up meanwhile")
            transaction.set_state(number, "ready")

        self._live.commit(step)

    def flip(self, number: int, successor: Successor | None = None) -> float:
        """Let generation `number` serve and keep the one that did; returns the seconds for which writers waited.

        successor: of a trial, which saves building it again. Raises `NoSuchGeneration`.
        """
        if successor is None:
            generation = next((one for one in self.all() if one.number == number and one.state != "serving"), None)
            if generation is None:
                raise NoSuchGeneration(f"collection {self._name!r} has no generation {number} that could serve")
            with self._live.successor(number, generation.bits) as (_, _, successor):
                pass
        return self._live.flip(successor)

    def drop(self, number: int) -> bool:
        """Give up the codes of a generation that does not serve; False where they are gone. Raises `NoSuchGeneration`.

        Writes are then made for one model again.
        """

        def step(transaction: Transaction) -> bool:
            if transaction.generation == number:
                raise NoSuchGeneration(f"generation {number} of collection {self._name!r} serves; roll back first")
            if transaction.shadow is None or transaction.shadow.number != number:
                return False
            transaction.drop()
            return True

        return self._live.commit(step)


@dataclass(frozen=True, slots=True)
class Trial:
    """Two generations of the same items, side by side."""

    reader: Reader
    serving: Snapshot
    successor: Successor

    def get(self, id: str) -> Item | None:
        """The item called `id`, with the code that serves."""
        return self.reader.get(id)

    def nearest(self, code: Codes, k: int, *, new: bool) -> list[Hit]:
        """The `k` nearest to a code of the one model or the other, with their payloads, by distance and then id."""
        snapshot = self.successor.snapshot if new else self.serving
        reader = self.reader.of(snapshot.generation)
        return first_hits(reader, snapshot.search(code, k), k, None, payloads=True, codes=False)

    def sample(self, seed: int = 0) -> Iterator[Item]:
        """All the items, in an order of chance."""
        keys = self.serving.contents()[0]
        for place in np.random.default_rng(seed).permutation(len(keys)).tolist():
            yield from self.reader.with_keys([int(keys[place])])

    def codes(self, *, new: bool) -> Codes:
        """Every code `(n, bits / 8)`."""
        return (self.successor.snapshot if new else self.serving).contents()[1]


def drop_unfinished(store: Store) -> None:
    """Give up a generation that was being filled when the store was last closed, before the store is used."""
    with store.transaction() as transaction:
        if transaction.shadow is not None and transaction.state_of(transaction.shadow.number) in (None, "filling"):
            transaction.drop()
