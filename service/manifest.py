"""What an archive says of itself: what is in it, member by member, under a checksum of its own.

Which members there are, and in what order, follows from the collections and models that are in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from index.catalogue import NAME
from models.artefact import FILES

from .errors import SnapshotRefused, plainly

FORMAT: Literal[1] = 1
MANIFEST = "manifest.json"
DAMAGED = "the file is damaged or not a snapshot: fetch it again, or use another"
"""The way out, for whoever sent it."""

_Name = Field(pattern=f"^{NAME.pattern}$")
_Sha256 = Field(pattern="^[0-9a-f]{64}$")


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Member(_Part):
    name: str = Field(max_length=200)
    size: int = Field(ge=0)
    sha256: str = _Sha256


class ArchivedModel(_Part):
    name: str = _Name
    version: int = Field(ge=1, lt=10**9)
    fingerprint: str = _Sha256
    aliases: list[Annotated[str, _Name]]
    files: list[str] = Field(description="of its folder")

    @property
    def members(self) -> list[str]:
        return [f"models/{self.fingerprint}/{file}" for file in self.files]

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"


class ArchivedCollection(_Part):
    name: str = _Name
    bits: int
    keep_inputs: bool
    created_at: str = Field(max_length=100)
    sequence: int
    items: int = Field(ge=0)
    models: list[str] = Field(description="fingerprints of the models whose codes it holds; the one that serves first")

    @property
    def member(self) -> str:
        return f"collections/{self.name}/items.db"


class Manifest(_Part):
    """What an archive says of itself. Which members it has, and in what order, follows from what is in it."""

    format: Literal[1]
    hammingbird: str = Field(max_length=100, description="the version that wrote it")
    created_at: str = Field(max_length=100)
    collections: list[ArchivedCollection]
    models: list[ArchivedModel]
    members: list[Member]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if [member.name for member in self.members] != names_of(self.collections, self.models):
            raise ValueError("the members are not those of its collections and models, each once and in order")
        if any(model.files != [file for file in FILES if file in model.files] for model in self.models):
            raise ValueError("the files of a model are not those that a model has")
        if len({member.name for member in self.members}) != len(self.members):
            raise ValueError("something is in it twice")
        if not {mark for one in self.collections for mark in one.models} <= {
            model.fingerprint for model in self.models
        }:
            raise ValueError("a model that made codes is missing")
        return self

    def written(self) -> bytes:
        """The manifest as it stands in the file, with its own checksum."""
        return _sealed(self.model_dump())


def names_of(collections: Sequence[ArchivedCollection], models: Sequence[ArchivedModel]) -> list[str]:
    """The members that belong to collections and models, in order."""
    return [*(one.member for one in collections), *(name for model in models for name in model.members)]


def _sealed(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, indent=1)
    return json.dumps({**value, "sha256": _sha256(text.encode())}, sort_keys=True, ensure_ascii=True, indent=1).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parse(text: bytes) -> Manifest:
    """The manifest written as `text`. Raises `SnapshotRefused`."""
    try:
        value = json.loads(text)
        value.pop("sha256", None)
        sealed = _sealed(value) == text
    except (ValueError, AttributeError, RecursionError):
        sealed = False
    if not sealed:
        raise SnapshotRefused(f"{MANIFEST} is not what was written; {DAMAGED}")
    if value.get("format") != FORMAT:
        raise SnapshotRefused(
            f"the file has format {str(value.get('format'))[:20]}, this program reads {FORMAT}; use the release that "
            "wrote it or a newer one"
        )
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        raise SnapshotRefused(f"{MANIFEST}: {plainly(error.errors(include_input=False))[0]}") from None
