"""The engine: models, collections and jobs of one data directory, and the path from an input to its code.

Plain synchronous Python that knows no HTTP. One process owns the directory for as long as the engine is open.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np

from index import Backend, Codes, Collection, CollectionConfig, Generation, Logits, ModelKey, from_hex, pack
from models.base import Model, families
from models.capabilities import capabilities
from models.errors import InvalidInput, ModelsError, UnknownModel
from models.registry import Entry, Registry

from .batching import Canary, Encoder, Encoders
from .codecs import decode, from_bytes
from .errors import CapabilityMissing, InUse, InvalidRequest
from .opening import Opening
from .recent import RecentQueries
from .room import Room, check_room, room_of
from .schemas import Input
from .settings import Settings
from .snapshots import Snapshots
from .stopping import Stopping

CANARY_S = 5.0
"""Time for an example to be encoded, before its model is said to hang: many times what it takes behind a full batch."""
RESTORING = "restoring"
"""File in the data directory, while models are there whose collections are about to be: a fingerprint a line."""


class Engine:
    """Everything that the service does, over one data directory. Safe to use from many threads."""

    def __init__(self, settings: Settings, opening: Opening | None = None) -> None:
        """Lock and open the data directory, unless that has begun. Raises `DataDirectoryError`."""
        self.settings = settings
        opening = opening or Opening(settings)
        self._directory = opening.directory
        self.registry = Registry(settings.models_path, shared=settings.models_dir is not None)
        self.catalogue = opening.catalogue()
        self.commits = opening.commits
        self.stopping = Stopping()
        self.snapshots = Snapshots(settings.data_dir / "snapshots", settings.min_free_bytes)
        self.recent = RecentQueries(settings.remember_queries)
        self.encoders = Encoders(
            self.registry.name_of, most_waiting=settings.max_encode_waiting, timeout_s=settings.request_timeout_s
        )
        self._binding = threading.Lock()
        """Held while a collection is bound to a model or a model deleted, so that neither misses the other."""

        self.forget_unfinished()

    def forget_unfinished(self) -> None:
        """Take away the models of a restore that ended before their collections were there."""
        note = self.settings.data_dir / RESTORING
        if note.exists():
            for mark in note.read_text().split():
                with suppress(UnknownModel, InUse):
                    self.delete_model(self.registry.by_fingerprint(mark).reference)
            note.unlink()

    def close(self) -> None:
        self.encoders.close()
        self.catalogue.close()
        self._directory.release()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def room(self) -> Room:
        """What is left of the disk."""
        return room_of(self.settings.data_dir)

    def check_room(self) -> None:
        """To be called before anything is added. Raises `NoRoom` where too little of the disk is left."""
        check_room(self.settings.data_dir, self.settings.min_free_bytes)

    # -- models and collections ------------------------------------------------------------------------------

    def model_of(self, collection: Collection) -> tuple[Entry, Model]:
        """The model that fills `collection`, found by fingerprint. Raises `UnknownModel`, `InvalidRequest`."""
        key = collection.config.model
        if key is None:
            raise InvalidRequest(f"collection {collection.name!r} has no model: it takes and searches ready-made codes")
        entry = self.registry.by_fingerprint(key.fingerprint)
        return entry, self.registry.load(entry)

    def create_collection(
        self,
        name: str,
        model: str | None,
        bits: int | None,
        keep_inputs: bool,
        indexes: Sequence[str] = (),
        backend: Backend | None = None,
    ) -> Collection:
        """An empty collection for the codes of `model`, or for ready-made codes of `bits`.

        backend: where it is kept, by default as `default_backend` says.
        """
        if (model is None) == (bits is None):
            raise InvalidRequest("a collection needs either a model or, for ready-made codes, a number of bits")
        if model is None:
            self.check_room()
            config = _config(name, bits or 0, None, keep_inputs)
            collection = self.catalogue.create(config, backend or self.settings.default_backend)
        else:
            entry = self.registry.get(model)
            collection = self.collection_for(name, entry, keep_inputs=keep_inputs, backend=backend)
        try:
            for field in indexes:
                collection.index_field(field)
        except BaseException:
            self.catalogue.delete(name)
            raise
        return collection

    def collection_for(
        self, name: str, entry: Entry, *, keep_inputs: bool = True, backend: Backend | None = None
    ) -> Collection:
        """An empty collection for the codes of just this model. Raises `CollectionExists`, `UnknownModel`."""
        self.check_room()
        with self._binding:
            self.registry.get(entry.reference)  # it may have been deleted since it was looked up
            bits: int = entry.artefact.config["bits"]
            config = _config(name, bits, key_of(entry), keep_inputs)
            return self.catalogue.create(config, backend or self.settings.default_backend)

    @contextmanager
    def bound(self) -> Iterator[None]:
        """For the block no model is deleted, and no collection bound to one."""
        with self._binding:
            yield

    def begin_generation(self, collection: Collection, entry: Entry) -> Generation:
        """Begin to go over to the model of `entry`. Raises as `Generations.begin` does, `UnknownModel`."""
        with self._binding:
            self.registry.get(entry.reference)  # it may have been deleted since it was looked up
            return collection.generations.begin(key_of(entry), entry.artefact.config["bits"])

    def delete_model(self, reference: str) -> Entry:
        """Delete a model version. Raises `InUse` while a collection holds codes by it."""
        with self._binding:
            entry = self.registry.get(reference)
            users = [
                name
                for name, models in self.catalogue.each(lambda collection: collection.generations.models()).items()
                if any(model is not None and model.fingerprint == entry.fingerprint for model in models)
            ]
            if users:
                raise InUse(
                    f"{entry.reference} fills {', '.join(users)}; delete these collections first, or let them go over "
                    "to another model and give up the codes of this one (DELETE /collections/{collection}/standby)"
                )
            deleted = self.registry.delete(entry.reference)
            self.encoders.keep_only(self.registry.all_loaded())
            return deleted

    def require(self, entry: Entry, capability: str) -> Model:
        """The model of `entry`, which must have `capability`. Raises `CapabilityMissing` naming those that do."""
        model = self.registry.load(entry)
        if capability not in capabilities(type(model), type(model.input)):
            if capability in capabilities(type(model)):
                raise CapabilityMissing(
                    f"{entry.reference} knows its items by an embedding, which cannot be made {model.input.kind} "
                    f"again, so it cannot {capability}; a {model.family} trained without `embedding` can"
                )
            able = sorted(name for name, family in families().items() if capability in capabilities(family))
            raise CapabilityMissing(
                f"{entry.reference} is a {model.family}, which cannot {capability}; these can: {', '.join(able)}"
            )
        return model

    def warm_up(self) -> list[str]:
        """Load the model of every collection and encode an example with it; returns what is wrong, a sentence each.

        The first request then finds everything in place, and what would fail it is known beforehand.
        """
        faults = []
        every = self.catalogue.each(lambda collection: collection.generations.models(), reachable=True)
        for name, models in every.items():
            for key in models:
                if key is None or self.stopping:
                    continue
                try:
                    model = self.registry.load(self.registry.by_fingerprint(key.fingerprint))
                    fault = self._canary(self.encoders.of(model)).fault
                except ModelsError as error:
                    fault = str(error)
                if fault is not None:
                    faults.append(f"collection {name}: {fault}")
        return faults

    def hanging(self) -> list[str]:
        """The models that do not answer."""
        found = [self._canary(encoder) for encoder in self.encoders.all()]
        return [canary.fault for canary in found if canary.fault is not None and canary.hangs]

    def _canary(self, encoder: Encoder) -> Canary:
        return encoder.canary(min(CANARY_S, self.settings.request_timeout_s / 3))

    # -- from inputs to codes --------------------------------------------------------------------------------

    def code_of(
        self, value: Input, collection: Collection, *, soft: bool = False
    ) -> tuple[Codes, Logits | None, str | None]:
        """The code `(bits / 8,)` that `value` has in `collection`, and the logits `(bits,)` where it is encoded.

        And the fingerprint of the model that made them; None of a ready-made code.
        soft: encode the kept input of a stored item too, whose code alone would do otherwise.
        """
        if value.code is not None:
            return from_hex(value.code, collection.bits), None, None
        self.recent.remember(collection, value)
        if value.id is not None:
            item, fingerprint = collection.stored(value.id)
            if not soft or item.kind is None or item.input is None:
                return np.frombuffer(item.code, np.uint8), None, fingerprint
            entry, model = self.model_of(collection)
            item = from_bytes(item.input, item.kind, self.settings).item
        else:
            entry, model = self.model_of(collection)
            item = decode(value, model.input, self.settings)
        row = self.encoders.of(model).logits_now(item, alone=soft)
        return pack(row[None])[0], row, entry.fingerprint

    def code_of_item(self, kind: str, item: Any, collection: Collection) -> tuple[Codes, Logits, str]:
        """The same of an item in memory, whoever made it, by `collection`'s own model."""
        entry, model = self.model_of(collection)
        if model.input.kind != kind:
            raise InvalidRequest(
                f"collection {collection.name!r} is of {model.input.kind} items ({entry.reference}), this is {kind}"
            )
        row = self.encoders.of(model).logits_now(item, alone=True)
        return pack(row[None])[0], row, entry.fingerprint

    def encode(self, model: Model, items: Sequence[Any]) -> Codes:
        """Codes `(n, bits / 8)` of items in memory. Raises `InvalidInput` with the position of a bad one."""
        codes, errors = self.encode_each(model, items)
        if errors:
            first = min(errors)
            raise InvalidInput(str(errors[first]), position=first)
        return codes

    def encode_each(self, model: Model, items: Sequence[Any]) -> tuple[Codes, dict[int, InvalidInput]]:
        """Codes of all items, and the errors by position; the code of an item with an error is meaningless."""
        codes = np.zeros((len(items), model.bits // 8), np.uint8)
        errors: dict[int, InvalidInput] = {}
        for place, told in enumerate(self.encoders.of(model).each(items)):
            if isinstance(told, InvalidInput):
                errors[place] = told
            elif isinstance(told, Exception):
                raise told
            else:
                codes[place] = pack(told[None])[0]
        return codes, errors


def key_of(entry: Entry) -> ModelKey:
    """What a collection remembers of its model."""
    return ModelKey(entry.name, entry.version, entry.fingerprint)


def _config(name: str, bits: int, model: ModelKey | None, keep_inputs: bool) -> CollectionConfig:
    return CollectionConfig(name, bits, model, keep_inputs, now())


def now() -> str:
    """The time as RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
