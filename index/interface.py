"""What every collection does, wherever it keeps its items.

`EmbeddedCollection` keeps them in a SQLite file and an index in memory, `milvus.MilvusCollection` in Milvus. Both pass
the same contract tests; where one of them promises less, its own docstring says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from .answer import Hit, Page
from .bits import Codes
from .items import Item
from .records import CollectionConfig, Generation, ModelKey, PutResult, Report, Request, Screen
from .rerank import Logits
from .rescore import Rescore


class Collection(Protocol):
    """Exact Hamming search over durable items. Safe to use from many threads."""

    @property
    def backend(self) -> str:
        """Where it keeps its items: "embedded" or "milvus"."""

    @property
    def generations(self) -> Generations:
        """The models that it has codes of."""

    @property
    def name(self) -> str: ...

    @property
    def bits(self) -> int:
        """Width of the codes that serve. Waits for nothing."""

    @property
    def config(self) -> CollectionConfig:
        """What the collection is, with the model whose codes serve now. Waits for nothing."""

    @property
    def fingerprint(self) -> str | None:
        """Of the model whose codes serve now. Waits for nothing."""

    @property
    def nbytes(self) -> int | None:
        """Memory of this process that the index takes; None where it is elsewhere."""

    @property
    def sequence(self) -> int:
        """The number of the present state; a later state has a higher one."""

    @property
    def fields(self) -> list[str]:
        """The payload fields that have an index."""

    def __len__(self) -> int:
        """How many items there are."""

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
        `InvalidCode`, `InvalidQuery`, `StoreFull`, `StoreUnavailable`.
        """

    def put_codes(self, ids: Sequence[str], codes: Codes) -> PutResult:
        """Store items that are a code `(n, bits / 8)` and nothing else: as `put`, several times faster."""

    def answered(self, key: str, digest: bytes) -> str | None:
        """The reply to the request with this idempotency key, where it was answered before. Raises `KeyReused`."""

    def delete(self, ids: Iterable[str]) -> int:
        """Delete the items called `ids`; returns how many there were."""

    def delete_where(self, filter: Mapping[str, Any]) -> int:
        """Delete the items whose payloads match `filter`; returns how many there were. Raises `InvalidQuery`."""

    def index_field(self, field: str) -> None:
        """Give the payload field `field` an index, so that filters on it are fast. Raises `InvalidQuery`."""

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep `value`, which is JSON, with the collection, in place of an earlier one of that name."""

    def noted(self, name: str) -> Mapping[str, Any] | None:
        """What was last kept under `name`."""

    def notes(self) -> Mapping[str, Mapping[str, Any]]:
        """All that is kept so, by name."""

    def compact(self) -> None:
        """Leave nothing on disk of what was deleted, as far as that is in this program's hands."""

    # -- reading -------------------------------------------------------------------------------------------

    def check_fingerprint(self, fingerprint: str | None) -> None:
        """Raise `ModelMismatch` unless codes of this model belong here (None: ready-made codes)."""

    def get(self, id: str) -> Item:
        """The item called `id`. Raises `UnknownItem`."""

    def stored(self, id: str) -> tuple[Item, str | None]:
        """The item called `id` and the fingerprint of the model that made its code. Raises `UnknownItem`."""

    def unchanged(self, items: Sequence[Item], fingerprint: str | None) -> dict[int, bytes]:
        """The codes that this model's generation, if it serves, has for those of `items` that are stored just so."""

    def items(self, *, after: str | None = None, limit: int) -> list[Item]:
        """At most `limit` items in the order of their ids, from the first above `after`."""

    def scan(self, *, after: str | None = None) -> Iterator[Item]:
        """Every item in the order of ids, from the first above `after`."""

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

        code: `(bits / 8,)`. Ordered by distance, then id. A search by radius alone comes in pages of `limit`;
        `cursor` of one page asks for the next. filter: on payloads, see `filters`. logits: `(bits,)`, of the query;
        what was found is then ordered by its soft distance to them. rescore: or by true distances. oversample: of so
        many times k then the best k. fingerprint: of the model that made the code, None for a ready-made one. Raises
        `InvalidCode`, `InvalidQuery`, and `GenerationChanged` where another model serves by now.
        """

    def glance(self, code: Codes, *, fingerprint: str | None = None, **asked: Any) -> Page | None:
        """What `search` answers, where that takes about 200 us at most and waits for nothing; None for all else."""

    def codes(self) -> tuple[int, ModelKey | None, Codes]:
        """The number of a state, the model, and every code `(n, bits / 8)` of it."""

    def check(self) -> Report:
        """Verify that what is stored is what was written."""

    # -- copies --------------------------------------------------------------------------------------------

    def copy_to(self, path: Path) -> None:
        """Copy the collection to the new store file `path`, which another process, or `Catalogue.adopt`, can open."""

    def lent(self, scratch: Path) -> AbstractContextManager[Path]:
        """A store file with all items for another process to read while the block lasts.

        The collection's own, or a copy in the folder `scratch`.
        """

    def bytes_on_disk(self) -> int | None:
        """Size of the collection's files; None where they are elsewhere."""

    def close(self, *, keep_copy: bool = True) -> None:
        """Finish what runs. keep_copy: leave what makes the next start fast."""


class Generations(Protocol):
    """The generations of a collection: going over to another model, and back, while it serves.

    1. `begin` makes room for codes of the new model; from then on everything is written with codes of both.
    2. `fill` brings the codes of what was there before, in any number of calls.
    3. `trial` searches the new codes beside those that serve, to see whether they are any good.
    4. `flip` lets the new codes serve at one moment, and keeps the old ones, which are written on: a second `flip`
       goes back. `drop` gives up the codes that do not serve.
    """

    def all(self) -> list[Generation]:
        """What there is now, in the order in which it came; one of them serves."""

    def models(self) -> list[ModelKey | None]:
        """The model of each generation, None of one without; the one that serves comes first."""

    def beside(self, *states: str) -> Generation:
        """The generation that does not serve, in one of `states`. Raises `NoSuchGeneration`."""

    def begin(self, model: ModelKey, bits: int) -> Generation:
        """Begin to go over to `model`; what was kept from an earlier time is given up.

        Raises `InputsMissing` where an item has no input to be encoded again, `NoSuchGeneration` where another is
        being filled or is ready, `ModelMismatch` where this one serves.
        """

    def check_begin(self, model: ModelKey) -> int:
        """Raise as `begin` does, before anything is done."""

    def uncoded(self, number: int, scratch: Path) -> AbstractContextManager[tuple[Path, int]]:
        """A store file, and the number by which `Reader.uncoded` finds there what generation `number` has no codes of.

        For another process to read while the block lasts, as `fill` takes the keys of that file meanwhile. It may be
        a copy, made in the folder `scratch`.
        """

    def leftover(self, number: int) -> list[Item]:
        """At most a thousand items that still have no code in generation `number` after all was filled."""

    def fill_items(self, number: int, items: Sequence[Item], codes: Codes) -> None:
        """As `fill`, for what `leftover` gave."""

    def fill(self, number: int, keys: Sequence[int], codes: Codes) -> int:
        """Store codes `(n, bits / 8)` of the items with these keys, where those are still there and have none yet.

        Returns how many were stored. Raises `NoSuchGeneration` where this one is not being filled any more.
        """

    def trial(self, number: int) -> AbstractContextManager[Trial]:
        """The collection searched with the codes that serve and those of generation `number`.

        Raises `NoSuchGeneration` where an item has no code in it yet.
        """

    def make_ready(self, number: int) -> None:
        """Note that a filled generation may serve; it then survives a restart. Raises `NoSuchGeneration`."""

    def flip(self, number: int, successor: Any = None) -> float:
        """Let generation `number` serve and keep the one that did; returns the seconds for which writers waited.

        successor: of a trial, which saves building it again. Raises `NoSuchGeneration`.
        """

    def drop(self, number: int) -> bool:
        """Give up the codes of a generation that does not serve; False where they are gone. Raises `NoSuchGeneration`.

        Writes are then made for one model again.
        """


class Trial(Protocol):
    """Two generations of the same items, side by side."""

    @property
    def successor(self) -> Any:
        """What `Generations.flip` takes."""

    def get(self, id: str) -> Item | None:
        """The item called `id`, with the code that serves."""

    def nearest(self, code: Codes, k: int, *, new: bool) -> list[Hit]:
        """The `k` nearest to a code of the one model or the other, with their payloads, by distance and then id."""

    def sample(self, seed: int = 0) -> Iterator[Item]:
        """All the items, in an order of chance."""

    def codes(self, *, new: bool) -> Codes:
        """Every code `(n, bits / 8)`."""
