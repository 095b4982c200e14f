"""What the writes of a collection check beforehand, and what they do within a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from .errors import InvalidCode, InvalidItem, KeyReused
from .items import Item, check_id
from .records import PutResult
from .transaction import Transaction


def told_before(transaction: Transaction, key: str, digest: bytes) -> str | None:
    """The reply to the request with this idempotency key, where it was answered before. Raises `KeyReused`."""
    known = transaction.answered(key)
    return None if known is None else same_request(known, digest)


def same_request(known: tuple[bytes, str], digest: bytes) -> str:
    """The reply of a request known by its digest and reply. Raises `KeyReused` where `digest` is of another one."""
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
    if not ids:
        return PutResult(0, 0, 0)
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


def put_items(
    transaction: Transaction,
    items: Iterable[tuple[int, Item]],
    serving: Sequence[bytes],
    other: Sequence[bytes] | None,
) -> PutResult:
    """Insert or replace items, the last of each id; their codes in both generations stand at their positions."""
    latest = {item.id: (position, item) for position, item in items}

    def insert(new: Sequence[str]) -> None:
        places = [latest[id][0] for id in new]
        beside = None if other is None else [other[place] for place in places]
        transaction.insert([latest[id][1] for id in new], [serving[place] for place in places], beside)

    return put_all(transaction, latest, insert, lambda id: (latest[id][1].digest(), serving[latest[id][0]]))


def check_items(
    collection: str,
    width_of: Callable[[str | None], int],
    items: Sequence[Item],
    fingerprint: str | None,
    beside: Mapping[str, Sequence[bytes]],
) -> None:
    """Raise `InvalidItem`, `InvalidCode` or what `width_of` raises unless ids and codes are as they should be."""
    bits = width_of(fingerprint)
    for position, item in enumerate(items):
        check_item(collection, item.id, len(item.code) * 8, bits, position)
    for other, codes in beside.items():
        size = width_of(other) // 8
        if len(codes) != len(items) or any(len(code) != size for code in codes):
            raise InvalidCode(f"{len(items)} items need as many codes of {size * 8} bits by model {other[:12]}")


def check_item(collection: str, id: str, bits: int, right: int, position: int) -> None:
    """Raise `InvalidItem` or `InvalidCode`, with the position, unless the id and the width of the code are right."""
    try:
        check_id(id)
    except InvalidItem as error:
        raise InvalidItem(f"item {position}: {error}", position=position) from None
    if bits != right:
        raise InvalidCode(
            f"item {position} ({id!r}): collection {collection!r} holds codes of {right} bits, this one has {bits}",
            position=position,
        )
