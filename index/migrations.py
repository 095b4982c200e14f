"""The schema of a collection's store, as numbered steps. A step, once released, is never edited."""

from __future__ import annotations

import itertools
import sqlite3

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


STEPS = (m001_items, m002_contents)


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
