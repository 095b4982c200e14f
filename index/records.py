"""What a collection is asked with and answers with, besides items and hits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .bits import check_width
from .errors import InvalidCode, StoreDamaged


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The model that made a collection's codes: its place in the registry, and the fingerprint that counts."""

    name: str
    version: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class CollectionConfig:
    """What is said of a collection when it is created; model and bits change when it goes over to another model."""

    name: str
    bits: int
    model: ModelKey | None
    keep_inputs: bool
    created_at: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One set of codes of a collection's items, all made by the same model.

    One generation serves. Beside it there may be one more: it is being filled, or `ready` to serve, or `kept` after
    it has served; while there is, everything written is written to both.
    """

    number: int
    model: ModelKey | None
    bits: int
    state: Literal["filling", "ready", "serving", "kept"]
    items: int
    created_at: str

    @property
    def fingerprint(self) -> str | None:
        return None if self.model is None else self.model.fingerprint


def config_of(meta: Mapping[str, Any], serving: Generation) -> CollectionConfig:
    """The settings that a store keeps. Raises `StoreDamaged`."""
    try:
        config = CollectionConfig(meta["name"], serving.bits, serving.model, meta["keep_inputs"], meta["created_at"])
        check_width(config.bits)
    except (KeyError, TypeError, InvalidCode) as error:
        raise StoreDamaged(f"the settings of the collection cannot be read ({error})") from None
    return config


@dataclass(frozen=True, slots=True)
class Screen:
    """What becomes of items within `radius` (inclusive) of another id's: stored with a `mark`, or left out."""

    radius: int
    mark: bool


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An item of a write, by its position, and the nearest to it: of several as near, the one stored first."""

    position: int
    id: str
    of: str
    distance: int


@dataclass(frozen=True, slots=True)
class PutResult:
    """How many of the distinct ids of a write were new, changed, or already stored just so."""

    created: int
    updated: int
    unchanged: int
    replay: str | None = None
    """The first reply, where a request with the same idempotency key was answered before; nothing was done now."""
    duplicates: tuple[Duplicate, ...] = ()
    """What a `Screen` found, by the positions in the write."""


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
