"""Copies of a store: made while it is written to, and taken in from elsewhere once they pass every check.

A copy may come from anywhere, and a SQLite file can hold more than data: views, triggers, tables of other modules. So
its schema must be, word for word, the one that the migrations make; only then is anything in it read.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import filters
from .errors import InvalidInput, StoreDamaged
from .generations import drop_unfinished
from .items import check_id
from .migrations import APPLICATION_ID, STEPS
from .reader import Reader
from .records import CollectionConfig, Generation, ModelKey, config_of
from .source import make_table
from .store import Store, faults, read_only

MAX_FIELDS = 16
"""Payload fields with an index: each makes every write slower."""
_MOST_TABLES = 200
"""A store has about ten tables and two indexes a field."""
_INFLATION = 1032
"""What zlib packs into a byte at most."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a store holds."""

    config: CollectionConfig
    sequence: int
    items: int
    generations: tuple[Generation, ...]
    """Of whose codes it holds; the one that serves comes first."""

    @property
    def models(self) -> list[ModelKey]:
        """Those that made the codes."""
        return list(dict.fromkeys(one.model for one in self.generations if one.model is not None))


def copy_store(db: sqlite3.Connection, target: Path) -> None:
    """Copy the committed state that `db` reads to the new file `target`, which is not yet synced.

    Writers go on meanwhile. Raises `StoreFull`, `StoreUnavailable`.
    """
    with faults(target), closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # It is thrown away where anything fails, so it need not survive a crash by itself.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        db.backup(copy)


def copy_file(path: Path, target: Path) -> None:
    """As `copy_store`, of the store at `path`, which another process may own."""
    with read_only(path) as reader:
        copy_store(reader.db, target)


def verify(path: Path, *, most_input_bytes: int | None = None) -> Holding:
    """Check all of the store file `path`, which nobody uses, and bring its schema up to date.

    most_input_bytes: of one kept input, for a file that may come from anywhere. Raises `StoreDamaged`.
    """
    with _suspicion(path):
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as db:
            _check_schema(db)
        with closing(Store(path)) as store:
            drop_unfinished(store)  # codes of a model of which not every item has one yet
            with store.reader() as reader:
                serving = reader.serving()
                config = config_of(store.meta(), serving)
                if most_input_bytes is not None:
                    _check_inputs(reader, most_input_bytes)
                for fault in reader.faults():
                    raise StoreDamaged(fault)
                _check_ids(reader)
                reader.codes(config.bits)
                others = [one for one in reader.generations() if one.number != serving.number]
                return Holding(config, reader.sequence, reader.count, (serving, *others))


def rename(path: Path, name: str, models: Mapping[str, ModelKey]) -> None:
    """Let the verified store `path`, which nobody uses, be the collection `name`, and know its models by other names.

    models: by fingerprint, what each is called from now on.
    """
    with closing(Store(path)) as store:
        store.set_meta({"name": name})
        with store.reader() as reader:
            generations = reader.generations()
        for generation in generations:
            if generation.model is not None:
                store.set_model(generation.number, models[generation.model.fingerprint])


@contextmanager
def _suspicion(path: Path) -> Iterator[None]:
    """Whatever a file that may be forged leads to, it is damage."""
    try:
        with faults(path):
            yield
    except (ValueError, TypeError, OverflowError, ArithmeticError, AttributeError, InvalidInput) as error:
        raise StoreDamaged(f"the store cannot be read: {error}") from error


def _check_schema(db: sqlite3.Connection) -> None:
    """Raise `StoreDamaged` unless the migrations and declared fields make just this schema."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if int(db.execute("PRAGMA application_id").fetchone()[0]) != APPLICATION_ID or version < 1:
        raise StoreDamaged("this file was not written by Hammingbird")
    if version > len(STEPS):
        raise StoreDamaged(
            f"the store has schema version {version}, this program knows up to {len(STEPS)}; use the newer release"
        )
    found = set(db.execute(f"SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT {_MOST_TABLES + 1}"))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        for step in STEPS[:version]:
            step(model)
        base = _schema(model)
        if base <= found and ("table", "fields") in {row[:2] for row in base}:
            fields = [name for (name,) in db.execute(f"SELECT name FROM fields LIMIT {MAX_FIELDS + 1}")]
            for field in fields[:MAX_FIELDS]:
                filters.parse({field: None})
                for statement in filters.index_statements(field, f"field_{field.encode().hex()}"):
                    model.execute(statement)
        if base <= found and ("table", "generations") in {row[:2] for row in base}:
            for (number,) in db.execute("SELECT number FROM generations WHERE number > 0 LIMIT 10"):
                make_table(model, number)
        odd = found ^ _schema(model)
    if odd:
        raise StoreDamaged(f"its schema is not that of a store, by {min(str(row[1])[:64] for row in odd)!r}")


def _schema(db: sqlite3.Connection) -> set[tuple[object, ...]]:
    return set(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))


def _check_inputs(reader: Reader, most: int) -> None:
    """Raise `StoreDamaged` where an input would unpack to more than `most` bytes."""
    rows = reader.db.execute("SELECT id, input FROM items WHERE length(input) > ?", (most // _INFLATION,))
    for id, packed in rows:
        if len(zlib.decompressobj().decompress(packed, most + 1)) > most:
            raise StoreDamaged(f"the input of item {str(id)[:64]!r} is larger than {most:,} bytes (max_body_bytes)")


def _check_ids(reader: Reader) -> None:
    """Raise `InvalidItem` where an id is one that could not have been stored."""
    for (id,) in reader.db.execute("SELECT id FROM items WHERE length(id) > 100 OR instr(id, char(0)) OR id = ''"):
        check_id(id)
