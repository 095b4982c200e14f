"""What a collection in Milvus keeps beside its items: notes, declared fields, states of generations, replies."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from ..copying import MAX_FIELDS
from ..errors import InvalidQuery
from ..steps import same_request
from ..transaction import KEPT_REQUESTS_S
from .records import Records

_FRESH_S = 5.0
"""Others' notes are seen within this time."""
_SWEEP_S = 600.0


class Notes:
    """Those of one collection. Safe to use from many threads."""

    def __init__(self, records: Records, identity: str) -> None:
        self._records, self._identity = records, identity
        self._known: dict[str, tuple[float, Mapping[str, Any] | None]] = {}
        self._swept = 0.0

    def put(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep a note."""
        self._records.put(self._key("note", name), json.dumps(value))
        self._known[name] = time.monotonic(), value

    def get(self, name: str) -> Mapping[str, Any] | None:
        """A note, as it was some seconds ago at most."""
        at, value = self._known.get(name, (-_FRESH_S, None))
        if time.monotonic() - at > _FRESH_S:
            at, text = time.monotonic(), self._records.get(self._key("note", name))
            value = None if text is None else json.loads(text)
            self._known[name] = at, value
        return value

    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """Every note, by name."""
        return {name: json.loads(text) for name, text in self._records.under(self._key("note", "")).items()}

    def declare(self, field: str) -> None:
        """Note a payload field that filters look at. Raises `InvalidQuery` where there are as many as may be."""
        fields = self.fields()
        if field not in fields and len(fields) >= MAX_FIELDS:
            raise InvalidQuery(
                f"a collection has an index on at most {MAX_FIELDS} fields; there is one on {', '.join(fields)}"
            )
        self._records.put(self._key("field", field), "")

    def fields(self) -> list[str]:
        """The fields that were declared."""
        return sorted(self._records.under(self._key("field", "")))

    def state(self, physical: str) -> str | None:
        """What was last said of a generation."""
        return self._records.get(self._key("state", physical))

    def set_state(self, physical: str, state: str | None) -> None:
        """Say of a generation whether it is `ready` or `kept`; None: neither."""
        if state is None:
            self._records.delete(self._key("state", physical))
        else:
            self._records.put(self._key("state", physical), state)

    def next_number(self, least: int) -> int:
        """A number for a generation, at least `least`, that was never given."""
        text = self._records.get(self._key("next", ""))
        number = max(least, int(text or 0))
        self._records.put(self._key("next", ""), str(number + 1))
        return number

    def answered(self, key: str, digest: bytes) -> str | None:
        """The reply to a request that was answered within a day. Raises `KeyReused`."""
        text = self._records.get(self._key("reply", key))
        if text is None:
            return None
        at, known, reply = json.loads(text)
        if time.time() - at > KEPT_REQUESTS_S:
            return None
        return same_request((base64.b64decode(known), reply), digest)

    def remember(self, key: str, digest: bytes, reply: str) -> None:
        """Keep the reply to a request for a day."""
        if time.monotonic() - self._swept > _SWEEP_S:
            self._swept = time.monotonic()
            self._records.delete_under(self._key("reply", ""), before=time.time() - KEPT_REQUESTS_S)
        text = json.dumps([time.time(), base64.b64encode(digest).decode(), reply])
        self._records.put(self._key("reply", key), text)

    def forget(self) -> None:
        """Leave nothing, as the collection goes."""
        self._records.delete_under(f"{self._identity}/")

    def _key(self, kind: str, name: str) -> str:
        return f"{self._identity}/{kind}/{name}"
