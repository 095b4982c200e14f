"""What goes to a worker process and comes back from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.readers import Items

from ..settings import Settings


@dataclass(frozen=True, slots=True)
class Spec:
    """What a worker needs. models: the folder of each model, by fingerprint; the first is the one that serves."""

    models: Mapping[str, Path]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Task:
    """Items of one kind. read: they were read already, and are the bytes that are kept of them."""

    kind: str
    items: Items | Sequence[bytes]
    read: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """What a worker made of an item: the bytes that are kept, and its code by the fingerprint of the model.

    A model that cannot take the item has no code here; to encode it again says why.
    """

    kept: bytes
    codes: Mapping[str, bytes] = field(default_factory=dict)


Told = Made | str
"""What came of an item; a text where it cannot even be read: why."""
