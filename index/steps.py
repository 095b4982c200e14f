"""What the writes of a collection do within a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence

from .errors import KeyReused
from .records import PutResult
from .transaction import Transaction


def told_before(transaction: Transaction, key: str, digest: bytes) -> str | None:
    """The reply to the request with this idempotency key, where it was answered before. Raises `KeyReused`."""
    known = transaction.answered(key)
    if known is None:
        return None
    if known[0] != digest:
        raise KeyReused(
            "this Idempotency-Key came with another request before; what that one did stands. "
            "Use a new key for a new request"
        )
    return known[1]


def put_all(
    transaction: Transaction,
    ids: Mapping[str, object],
    insert: Callable[[Sequence[str]], None],
    content: Callable[[str], tuple[bytes, bytes]],
) -> PutResult:
    """Insert or replace the items called `ids`; `content` tells the digest and the code of one."""
    try:
        # Mostly all are new, and then nothing has to be looked up.
        with transaction.step():
            insert(list(ids))
        return PutResult(len(ids), 0, 0)
    except sqlite3.IntegrityError:
        known = transaction.known(ids)
    changed = [id for id in ids if id not in known or (known[id].digest, known[id].code) != content(id)]
    replaced = [known[id] for id in changed if id in known]
    transaction.remove(replaced)
    insert(changed)
    return PutResult(len(changed) - len(replaced), len(replaced), len(ids) - len(changed))
