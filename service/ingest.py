"""Storing items: decode, encode, commit; all of a call or, where asked, all that is sound."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from index import Collection, Item, PutResult, Request, Screen, from_hex, new_id
from index.errors import CollectionExists, HammingIndexError, InvalidInput, UnknownCollection
from index.items import check_id
from models.base import Model
from models.errors import ModelsError
from models.registry import Entry

from .codecs import Decoded, Decoder
from .engine import Engine
from .errors import InvalidRequest, TooLarge, pointer, short
from .schemas import DuplicateItem, IngestItem, IngestReply, ItemError, ModelInfo, check_storable
from .twofold import again, codes_beside


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be stored under its own name."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item of `kind` whose bytes are known and, as a rule, its codes by the fingerprints of their models.

    codes: made elsewhere of these bytes. Where the one that is needed is missing, the item is encoded here.
    """

    id: str
    payload: dict[str, Any] | None
    kind: str
    kept: bytes
    codes: Mapping[str, bytes]


Given = IngestItem | Upload | Prepared


@dataclass(frozen=True, slots=True)
class _Draft:
    """An item before it is stored: its input, decoded where it has no code yet, or a ready-made code alone."""

    id: str
    payload: dict[str, Any] | None
    decoded: Decoded | None
    code: bytes | None
    codes: Mapping[str, bytes] = field(default_factory=dict)


def ingest(
    engine: Engine,
    name: str,
    reference: str | None,
    items: Sequence[Given],
    *,
    skip_bad: bool = False,
    screen: Screen | None = None,
    key: tuple[str, bytes] | None = None,
) -> IngestReply:
    """Store `items` in the collection `name`, made with the model `reference` where it is not there yet.

    screen: what becomes of duplicates; those left out are no errors, all the rest is stored.
    key: the client's idempotency key and a digest of the whole request; sent again, the first reply is given again.
    Raises `InvalidRequest` naming the first bad item, unless `skip_bad`; then the bad ones are listed in the reply.
    """
    return again(lambda: _ingest(engine, name, reference, items, skip_bad, screen, key))


def _ingest(
    engine: Engine,
    name: str,
    reference: str | None,
    items: Sequence[Given],
    skip_bad: bool,
    screen: Screen | None,
    key: tuple[str, bytes] | None,
) -> IngestReply:
    """The same for the models that the collection has now. Raises `GenerationChanged` where they change meanwhile."""
    started = time.perf_counter()
    if len(items) > engine.settings.max_items:
        raise TooLarge(
            f"{len(items)} items in one request, the limit is {engine.settings.max_items} (max_items); "
            "send them in parts"
        )
    collection, bits, entry, model = target(engine, name, reference)
    if screen is not None and screen.radius > bits:
        raise InvalidRequest(
            f"radius is 0 to {bits}, the width of the codes; got {screen.radius}",
            [(pointer("radius"), f"at most {bits}")],
        )
    if key is not None and collection is not None and (known := collection.answered(*key)) is not None:
        return IngestReply.model_validate_json(known)
    engine.check_room()
    decoder = Decoder(engine.settings, model.input if model else None)
    errors: dict[int, Exception] = {}
    drafts: dict[int, _Draft] = {}
    for place, item in enumerate(items):
        try:
            drafts[place] = _draft(engine, item, decoder, bits, entry)
        except (HammingIndexError, ModelsError) as error:
            errors[place] = error
    stored, more = _encoded(engine, drafts, entry, model, collection)
    beside = codes_beside(engine, collection, stored, {place: draft.codes for place, draft in drafts.items()})
    errors |= {**more, **beside.errors}
    stored = {place: item for place, item in stored.items() if place not in beside.errors}
    if errors and not (skip_bad and (stored or collection is not None)):
        raise _refusal(errors)

    places = sorted(stored)

    def reply(result: PutResult) -> IngestReply:
        left_out = set() if screen is None or screen.mark else {one.position for one in result.duplicates}
        return IngestReply(
            collection=name,
            model=ModelInfo(name=entry.name, version=entry.version, fingerprint=entry.fingerprint) if entry else None,
            created=result.created,
            updated=result.updated,
            unchanged=result.unchanged,
            ids=[stored[place].id for at, place in enumerate(places) if at not in left_out],
            errors=_listed(errors, items) if skip_bad else None,
            duplicates=None if screen is None else _near(result, places, items, screen),
            duplicates_total=None if screen is None else len(result.duplicates),
            took_ms=round((time.perf_counter() - started) * 1000, 3),
        )

    told: list[IngestReply] = []  # worded once, so that a retry is told the very same

    def remembered(result: PutResult) -> str:
        told.append(reply(result))
        return told[0].model_dump_json()

    request = None if key is None else Request(*key, remembered)
    result = _put(
        engine, name, collection, entry, [stored[place] for place in places], beside.of(places), request, screen
    )
    if result.replay is not None:
        return IngestReply.model_validate_json(result.replay)
    return told[0] if told else reply(result)


def _put(
    engine: Engine,
    name: str,
    collection: Collection | None,
    entry: Entry | None,
    items: Sequence[Item],
    beside: Mapping[str, Sequence[bytes]],
    request: Request | None,
    screen: Screen | None,
) -> PutResult:
    """Commit the items; a collection that is made for them goes again where they cannot be stored."""
    made = False
    if collection is None:
        assert entry is not None
        try:
            collection, made = engine.collection_for(name, entry), True
        except CollectionExists:  # another request was first
            collection = engine.catalogue.get(name)
    if not collection.config.keep_inputs:
        items = [Item(item.id, item.code, item.payload) for item in items]
    try:
        fingerprint = entry.fingerprint if entry else None
        return collection.put(items, fingerprint=fingerprint, beside=beside, request=request, screen=screen)
    except HammingIndexError:
        if made and len(collection) == 0:
            engine.catalogue.delete(name)
        raise


def target(
    engine: Engine, name: str, reference: str | None
) -> tuple[Collection | None, int, Entry | None, Model | None]:
    """The collection, the width of its codes and its model; no collection yet where the model is to make it.

    Raises `UnknownCollection`, `UnknownModel`, `ModelMismatch`.
    """
    try:
        collection = engine.catalogue.get(name)
    except UnknownCollection:
        if reference is None:
            raise UnknownCollection(f"there is no collection {name[:64]!r}; name a model to create it") from None
        entry = engine.registry.get(reference)
        model = engine.registry.load(entry)
        return None, model.bits, entry, model
    if reference is not None:
        collection.check_fingerprint(engine.registry.get(reference).fingerprint)
    if collection.config.model is None:
        return collection, collection.bits, None, None
    entry, model = engine.model_of(collection)
    return collection, collection.bits, entry, model


def _draft(engine: Engine, item: Given, decoder: Decoder, bits: int, entry: Entry | None) -> _Draft:
    if isinstance(item, Upload):
        check_id(item.name)
        return _Draft(item.name, None, decoder.file(item.data), None)
    if isinstance(item, Prepared):
        check_id(item.id)
        _check_storable(item.payload)
        _check_payload(engine, item.payload)
        code = None if entry is None else item.codes.get(entry.fingerprint)
        decoded = decoder.of(item.kind, item.kept) if code is None else Decoded(item.kind, None, item.kept)
        return _Draft(item.id, item.payload, decoded, code, item.codes)
    id = new_id() if item.id is None else item.id
    check_id(id)
    _check_payload(engine, item.payload)
    if item.code is not None:
        return _Draft(id, item.payload, None, from_hex(item.code, bits).tobytes())
    return _Draft(id, item.payload, decoder.value(item), None)


def _check_storable(payload: dict[str, Any] | None) -> None:
    try:
        check_storable(payload)
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def _check_payload(engine: Engine, payload: dict[str, Any] | None) -> None:
    if payload is None:
        return
    size = len(Item("", b"", payload).payload_text() or "")
    if size > engine.settings.max_payload_bytes:
        raise InvalidInput(
            f"the payload has {size:,} bytes, the limit is {engine.settings.max_payload_bytes:,} (max_payload_bytes)"
        )


def _encoded(
    engine: Engine,
    drafts: dict[int, _Draft],
    entry: Entry | None,
    model: Model | None,
    collection: Collection | None,
) -> tuple[dict[int, Item], dict[int, Exception]]:
    """Items with their codes, and the errors of those that the model refused, by place."""
    items = {place: _item(draft) for place, draft in drafts.items()}
    bare = {place: items[place] for place, draft in drafts.items() if draft.code is None}
    code_of = {} if collection is None or entry is None else _known_codes(bare, entry.fingerprint, collection)
    places = [place for place in bare if place not in code_of]
    failed: dict[int, Exception] = {}
    if places and model is not None:
        codes, errors = engine.encode_each(model, [drafts[place].decoded.item for place in places])  # type: ignore[union-attr]
        failed = {places[position]: error for position, error in errors.items()}
        code_of |= {place: code.tobytes() for place, code in zip(places, codes, strict=True)}
    coded = {
        place: replace(item, code=code_of[place]) if place in code_of else item
        for place, item in items.items()
        if place not in failed
    }
    return coded, failed


def _item(draft: _Draft) -> Item:
    """The item of a draft, without the code that it may not have yet."""
    if draft.decoded is None:
        return Item(draft.id, draft.code or b"", draft.payload)
    return Item(draft.id, draft.code or b"", draft.payload, draft.decoded.kind, draft.decoded.kept)


def _known_codes(items: dict[int, Item], fingerprint: str, collection: Collection) -> dict[int, bytes]:
    """The codes of the items that are stored just so, by place: the same input has the same code, and no encoding."""
    if not collection.config.keep_inputs:
        return {}
    places = list(items)
    known = collection.unchanged(list(items.values()), fingerprint)
    return {places[position]: code for position, code in known.items()}


def _refusal(errors: dict[int, Exception]) -> InvalidRequest:
    first = min(errors)
    more = f"; {len(errors) - 1} more are bad" if len(errors) > 1 else ""
    return InvalidRequest(
        f"item {first}: {errors[first]}{more}. Nothing was stored; mend them, or send on_error=skip",
        [(pointer("items", place), str(errors[place])) for place in sorted(errors)[:20]],
    )


def _listed(errors: dict[int, Exception], items: Sequence[Given]) -> list[ItemError]:
    def id_of(item: Given) -> str | None:
        id = item.name if isinstance(item, Upload) else item.id
        return None if id is None else short(id, 512)

    return [ItemError(position=place, id=id_of(items[place]), detail=str(errors[place])) for place in sorted(errors)]


def _near(result: PutResult, places: Sequence[int], items: Sequence[Given], screen: Screen) -> list[DuplicateItem]:
    def id_of(position: int, id: str) -> str | None:
        item = items[position]
        made_up = isinstance(item, IngestItem) and item.id is None
        return None if made_up and not screen.mark else id

    return [
        DuplicateItem(position=place, id=id_of(place, one.id), of=one.of, distance=one.distance)
        for one in result.duplicates
        for place in [places[one.position]]
    ]
