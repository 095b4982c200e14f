"""Everything the index can refuse or report.

    HammingIndexError
    ├── InvalidInput            the caller's value is at fault
    │   ├── InvalidCode         wrong width, or not hexadecimal
    │   ├── InvalidItem         an id or payload that cannot be stored
    │   └── InvalidQuery        k, radius, limit or cursor out of range
    ├── KeyReused               an idempotency key that came with another request before
    ├── UnknownCollection
    ├── UnknownItem
    ├── CollectionExists
    ├── ModelMismatch           codes of another model than the one that filled the collection
    ├── GenerationChanged       the collection changed its model while the request was worked on; encode again
    ├── InputsMissing           what has no kept input cannot be encoded by another model
    ├── NoSuchGeneration        there is no set of codes in the state that the call needs
    ├── DataDirectoryError      the folder cannot be used: held by another process, read-only, not ours
    ├── StoreFull               no space left; nothing of the request was stored
    ├── StoreBusy               something reads the store for so long that the call cannot be finished
    ├── StoreUnavailable        the disk refused; nothing of the request was acknowledged
    │   └── BackendUnavailable  Milvus does not answer at the moment; come back
    └── StoreDamaged            what is on disk is not what was written

Every message says what was wrong, the limit, the value seen and the way out.
"""

from __future__ import annotations


class HammingIndexError(Exception):
    """Base of every error raised by the `index` package."""


class InvalidInput(HammingIndexError):
    """The caller passed a value that cannot be accepted."""

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position
        """Index of the offending item in its batch, where there is one."""


class InvalidCode(InvalidInput):
    """A code of the wrong width, or text that is not a code."""


class InvalidItem(InvalidInput):
    """An item whose id or payload cannot be stored."""


class InvalidQuery(InvalidInput):
    """A search parameter out of range, or a cursor that this search did not give out."""


class KeyReused(HammingIndexError):
    """The idempotency key was used for another request; what that one did stands."""


class UnknownCollection(HammingIndexError):
    """No collection of that name."""


class UnknownItem(HammingIndexError):
    """No item of that id in the collection."""


class CollectionExists(HammingIndexError):
    """A collection of that name is already there."""


class ModelMismatch(HammingIndexError):
    """The codes come from another model than the one that filled the collection."""


class GenerationChanged(HammingIndexError):
    """The collection changed its model while the request was worked on; encode for the present one and try again."""


class InputsMissing(HammingIndexError):
    """Items, stored or about to be, have no input that another model could encode."""


class NoSuchGeneration(HammingIndexError):
    """The collection has no set of codes in the state that the call needs."""


class DataDirectoryError(HammingIndexError):
    """The data directory cannot be used."""


class StoreFull(HammingIndexError):
    """The disk is full; the whole request was rolled back."""


class StoreBusy(HammingIndexError):
    """Something has been reading the store for long, a training or a backup; what was asked is to be asked again."""


class StoreUnavailable(HammingIndexError):
    """The disk refused to read or write; nothing of the request was acknowledged."""


class BackendUnavailable(StoreUnavailable):
    """The engine that keeps the collection does not answer; nothing of the request was acknowledged."""


class StoreDamaged(HammingIndexError):
    """The stored data fails its own checks."""
