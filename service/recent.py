"""The inputs that were searched for lately, in memory: what another model is tried on before it serves."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from index import Collection

from .schemas import Input

_LARGEST = 256 * 1024
"""Characters or numbers of an input that is remembered; a larger one is left out, to bound the memory."""


class RecentQueries:
    """The last few inputs of each collection. Safe to use from many threads."""

    def __init__(self, most: int) -> None:
        """most: inputs of each collection; 0 remembers nothing."""
        self._most = most
        self._kept: WeakKeyDictionary[Collection, deque[Input]] = WeakKeyDictionary()

    def remember(self, collection: Collection, value: Input) -> None:
        """Note that `value` was searched for. A ready-made code is not: no other model can encode it."""
        if self._most == 0 or value.code is not None:
            return
        given = value.vector or value.vector_b64 or value.text or value.image or value.audio or ""
        if len(given) > _LARGEST:
            return
        kept = self._kept.get(collection)
        if kept is None:
            kept = self._kept.setdefault(collection, deque(maxlen=self._most))
        kept.append(value)

    def of(self, collection: Collection) -> Sequence[Input]:
        """What was searched for, the newest first."""
        return list(self._kept.get(collection, ()))[::-1]
