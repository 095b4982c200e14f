"""What there is in Milvus of our collections: which generations, and which of them serves.

A generation is a Milvus collection whose description, which never changes, says all about it. The one that serves is
the one that the collection's alias stands for, and to move the alias is the one moment at which another model takes
over, for every process. Milvus Lite has no aliases: there a record takes their place. Both are asked of Milvus's
coordinator, which knows at once what any process has changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import StoreDamaged, StoreUnavailable, UnknownCollection
from ..records import ModelKey
from .connection import Connection, MissingCollection
from .names import alias_of, parse
from .records import Records


@dataclass(frozen=True, slots=True)
class Layer:
    """One generation: all that its description says."""

    physical: str
    name: str
    number: int
    bits: int
    model: ModelKey | None
    keep_inputs: bool
    created_at: str
    """Of the collection."""
    begun_at: str
    """Of the generation."""
    inputs: str
    """The Milvus collection of kept inputs."""
    owner: str
    """The process that fills it; told by its data directory, so that it knows its own after a restart."""

    @property
    def fingerprint(self) -> str | None:
        return None if self.model is None else self.model.fingerprint

    def described(self) -> str:
        """As it stands in the description."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "physical"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The generations of one collection at one moment."""

    serving: Layer
    second: Layer | None

    @property
    def layers(self) -> list[Layer]:
        return [self.serving] if self.second is None else [self.serving, self.second]


class Layouts:
    """Those of one Milvus. Safe to use from many threads."""

    def __init__(self, connection: Connection, records: Records) -> None:
        self._connection, self._records = connection, records
        self._known: dict[str, Layer] = {}  # by physical name, which never means another thing

    def names(self) -> list[str]:
        """Of everything that has a generation; of some of them none may serve, after a crash."""
        return sorted({part.name for part in self._parts()})

    def of(self, name: str) -> Layout:
        """The generations of a collection now. Raises `UnknownCollection`."""
        physicals = [part.physical for part in self._parts() if part.name == name]
        pointed = self._pointed(name)
        if pointed is None or pointed not in physicals:
            raise UnknownCollection(f"there is no collection {name[:64]!r} in Milvus")
        serving = self._layer(pointed)
        if serving is None:
            raise UnknownCollection(f"collection {name!r} has just been deleted")
        own = self._beside(serving, physicals)
        return Layout(serving, max(own, key=lambda layer: (layer.number, layer.physical), default=None))

    def beside(self, serving: Layer) -> list[str]:
        """All generations now of the collection that do not serve; more than one for a moment, where two begin."""
        physicals = [part.physical for part in self._parts() if part.name == serving.name]
        return sorted(layer.physical for layer in self._beside(serving, physicals))

    def _beside(self, serving: Layer, physicals: list[str]) -> list[Layer]:
        found = [layer for layer in map(self._layer, physicals) if layer is not None and layer != serving]
        # Of an earlier collection of that name, what a crash has left is no part of this one.
        return [layer for layer in found if layer.inputs == serving.inputs]

    def strays(self, name: str) -> list[str]:
        """Generations of a collection that are no part of what serves."""
        there = {part.physical for part in self._parts() if part.name == name}
        try:
            return sorted(there - {layer.physical for layer in self.of(name).layers})
        except UnknownCollection:
            return sorted(there)

    def point(self, name: str, physical: str, *, first: bool) -> bool:
        """Let a generation serve. first: where none does yet; says whether that was so."""
        if self._connection.lite:
            with self._connection.alone:
                if first and self._pointed(name) is not None:
                    return False
                self._records.put(_key(name), physical)
                return True
        try:
            self._connection.call("create_alias" if first else "alter_alias", physical, alias_of(name))
        except StoreUnavailable:
            if first and self._pointed(name) is not None:
                return False
            raise
        return True

    def unpoint(self, name: str) -> None:
        """Let none serve: the collection is then gone."""
        if self._connection.lite:
            self._records.delete(_key(name))
        else:
            self._connection.call("drop_alias", alias_of(name))

    def _pointed(self, name: str) -> str | None:
        if self._connection.lite:
            return self._records.get(_key(name))
        try:
            return str(self._connection.call("describe_alias", alias_of(name))["collection_name"])
        except MissingCollection:
            return None

    def _parts(self) -> list[Any]:
        return [part for part in map(parse, self._connection.call("list_collections")) if part is not None]

    def _layer(self, physical: str) -> Layer | None:
        """What the description of a generation says; None where it is gone. Raises `StoreDamaged`."""
        if physical not in self._known:
            try:
                described = self._connection.call("describe_collection", physical)
            except MissingCollection:
                return None
            self._known[physical] = _layer(physical, described["description"])
        return self._known[physical]


def _layer(physical: str, description: str) -> Layer:
    try:
        values: Mapping[str, Any] = json.loads(description)
        model = values["model"]
        return Layer(**{**values, "physical": physical, "model": None if model is None else ModelKey(**model)})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreDamaged(f"the description of {physical} in Milvus cannot be read: {error}") from None


def _key(name: str) -> str:
    return f"serving/{name}"
