"""The schema of a collection's store, as numbered steps. A step, once released, is never edited."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import zlib

import numpy as np

from .contents import contents_of, signed
from .errors import StoreDamaged

APPLICATION_ID = 0x48424952  # "HBIR", in the header of every store


def m001_items(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
    db.execute(
        """
        CREATE TABLE state (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            sequence INTEGER NOT NULL,  -- grows by one with every change
            last_key INTEGER NOT NULL,  -- keys are never reused
            items INTEGER NOT NULL      -- how many rows `items` has; a lost page shows up here
        ) STRICT
        """
    )
    db.execute("INSERT INTO state VALUES (1, 0, 0, 0)")
    db.execute(
        """
        CREATE TABLE items (
            key INTEGER PRIMARY KEY,   -- a changed item gets a new one, so a key stands for one content
            id TEXT NOT NULL UNIQUE,
            code BLOB NOT NULL,
            seal INTEGER NOT NULL,     -- CRC-32 over key, id and code, verified whenever codes are loaded
            payload TEXT,              -- canonical JSON
            kind TEXT,
            input BLOB,                -- compressed
            digest BLOB NOT NULL       -- over all of the item
        ) STRICT
        """
    )
    db.execute(
        """
        CREATE TABLE requests (
            key TEXT PRIMARY KEY,   -- the client's idempotency key
            digest BLOB NOT NULL,   -- of what it asked for
            reply TEXT NOT NULL,    -- what it was told
            at REAL NOT NULL        -- seconds since 1970
        ) STRICT
        """
    )


def m002_contents(db: sqlite3.Connection) -> None:
    # `contents` tells whether a copy of the codes is of this very state; `removed` brings an older copy up to date.
    db.execute("ALTER TABLE state ADD COLUMN contents INTEGER NOT NULL DEFAULT 0")
    db.execute(
        """
        CREATE TABLE removed (
            key INTEGER PRIMARY KEY,
            code BLOB NOT NULL,
            sequence INTEGER NOT NULL  -- of the change that removed it
        ) STRICT
        """
    )
    db.execute("CREATE TABLE fields (name TEXT PRIMARY KEY) STRICT")  # payload fields with an index of their own
    # An item that is a code and nothing else needs no digest: its seal and its code say all of it.
    db.execute("UPDATE items SET digest = x'' WHERE payload IS NULL AND kind IS NULL AND input IS NULL")
    contents = 0
    rows = db.execute("SELECT key, code FROM items ORDER BY length(code)")
    while chunk := rows.fetchmany(10_000):
        if not all(isinstance(code, bytes) for _, code in chunk):
            raise StoreDamaged("a code is not what was written; restore the collection from a backup")
        for size, same in itertools.groupby(chunk, key=lambda row: len(row[1])):
            keys, codes = zip(*same, strict=True)
            contents += contents_of(
                np.array(keys, np.int64), np.frombuffer(b"".join(codes), np.uint8).reshape(len(keys), size)
            )
    db.execute("UPDATE state SET contents = ?", (signed(contents),))


def m003_generations(db: sqlite3.Connection) -> None:
    # The codes of generation 0 stand in `items`, those of a later one in a table `codes_<number>` of its own.
    db.execute(
        """
        CREATE TABLE generations (
            number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again
            model TEXT NOT NULL,        -- JSON: name, version, fingerprint; or null
            bits INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('filling', 'ready', 'serving', 'kept')),
            items INTEGER NOT NULL,     -- this and `contents` are of one that does not serve;
            contents INTEGER NOT NULL,  -- of the one that does, they stand in `state`
            created_at TEXT NOT NULL
        ) STRICT
        """
    )
    db.execute("ALTER TABLE state ADD COLUMN generation INTEGER NOT NULL DEFAULT 0")  # the one that serves
    db.execute("ALTER TABLE state ADD COLUMN other INTEGER")  # the one beside it, where there is one
    meta = dict(db.execute("SELECT name, value FROM meta WHERE name IN ('model', 'bits', 'created_at')").fetchall())
    if len(meta) == 3:  # else the collection is just being made, or has lost its settings, which will be noticed
        try:
            model, bits, created_at = (json.loads(meta[name]) for name in ("model", "bits", "created_at"))
        except (ValueError, TypeError) as error:
            raise StoreDamaged(f"the settings of the collection cannot be read: {error}") from None
        db.execute(
            "INSERT INTO generations VALUES (0, ?, ?, 'serving', 0, 0, ?)", (json.dumps(model), bits, created_at)
        )
        db.execute("DELETE FROM meta WHERE name IN ('model', 'bits')")
    # The digest leaves the code out, which the seal covers: it must hold for the codes of every generation.
    last = -1
    rows = "SELECT key, id, code, payload, kind, input, digest FROM items WHERE key > ? AND digest != x'' ORDER BY key"
    while chunk := db.execute(f"{rows} LIMIT 1000", (last,)).fetchall():
        digests = ((_m003_digest(*row[1:]), row[0]) for row in chunk)
        db.executemany("UPDATE items SET digest = ? WHERE key = ?", [pair for pair in digests if pair[0] is not None])
        last = chunk[-1][0]


def _m003_digest(
    id: str, code: bytes, payload: str | None, kind: str | None, packed: bytes | None, digest: bytes
) -> bytes | None:
    """The digest without the code; None for an item that is not what was written, which must stay recognisable."""
    try:
        item = None if packed is None else zlib.decompress(packed)
        if _digest_of(id, code, payload, kind, item) != digest:
            return None
        return _digest_of(id, payload, kind, item)
    except (zlib.error, TypeError, AttributeError):
        return None


def _digest_of(*parts: str | bytes | None) -> bytes:
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(b"-" if data is None else b"%d:" % len(data))
        hasher.update(data or b"")
    return hasher.digest()[:16]


STEPS = (m001_items, m002_contents, m003_generations)


def migrate(db: sqlite3.Connection) -> None:
    """Bring a store up to the newest schema, one transaction a step.

    Raises `StoreDamaged` for a file of a newer version or of another application.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    application = int(db.execute("PRAGMA application_id").fetchone()[0])
    if version and application != APPLICATION_ID:
        raise StoreDamaged("this file was not written by Hammingbird")
    if version > len(STEPS):
        raise StoreDamaged(
            f"this store has schema version {version}, this program knows up to {len(STEPS)}; "
            "open it with the newer release that wrote it"
        )
    for number, step in enumerate(STEPS[version:], start=version + 1):
        db.execute("BEGIN IMMEDIATE")
        step(db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
