"""What a collection is asked with and answers with, besides items and hits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


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
