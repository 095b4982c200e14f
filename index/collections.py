"""All collections of a service: those in its data directory, and those in Milvus where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from .catalogue import Catalogue
from .errors import BackendUnavailable, CollectionExists, InvalidQuery, UnknownCollection
from .interface import Collection
from .milvus import MilvusCatalogue
from .records import CollectionConfig

T = TypeVar("T")

Backend = Literal["embedded", "milvus"]


class Collections:
    """Both catalogues as one; a name stands for one collection. Safe to use from many threads."""

    def __init__(self, embedded: Catalogue, milvus: MilvusCatalogue | None = None) -> None:
        self.embedded, self.milvus = embedded, milvus

    def close(self) -> None:
        self.embedded.close()
        if self.milvus is not None:
            self.milvus.close()

    @property
    def damaged(self) -> Mapping[str, str]:
        """What cannot be used, and why, by name."""
        here = self.embedded.all()
        twice = [] if self.milvus is None else [name for name in here if self.milvus.known(name) is not None]
        return {
            **self.embedded.damaged,
            **{
                name: f"{name!r} is in Milvus too, as a move that did not end leaves it; the one here serves. Run "
                "`hammingbird collections move` again"
                for name in twice
            },
        }

    @property
    def unknown(self) -> list[str]:
        """Files in the data directory that are none of ours."""
        return self.embedded.unknown

    def peek(self, name: str) -> Collection | None:
        """The collection `name` where that is known without waiting; None where Milvus would have to be asked.

        Raises as `get` does where there is no Milvus to ask.
        """
        if self.milvus is None or name in self.embedded.all() or name in self.embedded.damaged:
            return self.embedded.get(name)
        return self.milvus.known(name)

    def get(self, name: str) -> Collection:
        """The collection `name`. Raises `UnknownCollection`, `StoreDamaged`, `BackendUnavailable`."""
        try:
            return self.embedded.get(name)
        except UnknownCollection:
            if self.milvus is None:
                raise
            try:
                return self.milvus.get(name)
            except UnknownCollection:
                known = ", ".join(list(self.all())[:20]) or "none"
                raise UnknownCollection(f"there is no collection {name[:64]!r}; there are: {known}") from None

    def met(self) -> set[str]:
        """The names of all that is known without waiting."""
        return {*self.embedded.all(), *([] if self.milvus is None else self.milvus.met())}

    def all(self, *, reachable: bool = False) -> Mapping[str, Collection]:
        """Every collection that can be used, by name. Raises `BackendUnavailable`.

        reachable: instead leave out those in Milvus while it is away.
        """
        found: dict[str, Collection] = {}
        if self.milvus is not None:
            try:
                found |= self.milvus.all()
            except BackendUnavailable:
                if not reachable:
                    raise
        return dict(sorted((found | dict(self.embedded.all())).items()))

    def each(self, ask: Callable[[Collection], T], *, reachable: bool = False) -> dict[str, T]:
        """What `ask` says of every collection, by name; of one deleted meanwhile, nothing. Raises and leaves out as
        `all` does."""
        found: dict[str, T] = self.embedded.each(ask)
        for name, collection in self.all(reachable=reachable).items():
            if collection.backend == "milvus":
                try:
                    found[name] = ask(collection)
                except UnknownCollection:
                    continue
                except BackendUnavailable:
                    if not reachable:
                        raise
        return dict(sorted(found.items()))

    def create(self, config: CollectionConfig, backend: Backend = "embedded") -> Collection:
        """Make an empty collection. Raises `CollectionExists`, `InvalidQuery`, `InvalidCode`, `StoreFull`,
        `BackendUnavailable`."""
        self.check_free(config.name)
        if backend == "embedded":
            return self.embedded.create(config)
        return self._milvus().create(config)

    def delete(self, name: str) -> None:
        """Delete the collection `name`, damaged or not. Raises `UnknownCollection`, `BackendUnavailable`."""
        if self.milvus is None or name in self.embedded.all() or name in self.embedded.damaged:
            self.embedded.delete(name)
        else:
            self.get(name)
            self.milvus.delete(name)

    def check_free(self, name: str) -> None:
        """Raise `CollectionExists` where there is a collection `name`, and `InvalidQuery` where there cannot be."""
        self.embedded.check_free(name)
        if self.milvus is not None:
            try:
                self.milvus.get(name).look()
            except UnknownCollection:
                self.milvus.forget(name)
            else:
                raise CollectionExists(f"there is already a collection {name!r} in Milvus")

    def draft(self) -> Path:
        """A folder that does not exist yet, for `adopt` to take in."""
        return self.embedded.draft()

    def adopt(self, draft: Path, name: str, *, replace: bool = False) -> Callable[[], None]:
        """As `Catalogue.adopt`; what is in Milvus is not replaced by it."""
        if name not in self.embedded.all() and name not in self.embedded.damaged:
            self.check_free(name)
        return self.embedded.adopt(draft, name, replace=replace)

    def _milvus(self) -> MilvusCatalogue:
        if self.milvus is None:
            raise InvalidQuery(
                "this service has no Milvus: start it with milvus_uri (HAMMINGBIRD_MILVUS_URI), or make the collection "
                "embedded"
            )
        return self.milvus
