"""Peers that are there only where their library is: building one raises `ImportError` where it is not.

They are no dependency of ours, so they are imported by name and only when built.
"""

from __future__ import annotations

import ctypes
import sqlite3
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from index.bits import Codes


class USearch:
    """usearch's HNSW graph, with its defaults: fast and approximate."""

    name = "usearch HNSW ef 64"
    exact = False

    def __init__(self, bits: int, codes: Codes) -> None:
        self._index = import_module("usearch.index").Index(ndim=bits, metric="hamming", dtype="b1", expansion_search=64)
        self._index.add(np.arange(len(codes), dtype=np.uint64), codes)

    def nearest(self, code: Codes, k: int) -> Any:
        return self._index.search(code, k, threads=1).keys

    def batch(self, codes: Codes, k: int) -> Any:
        return self._index.search(codes, k, threads=1).keys

    def close(self) -> None:
        self._index.reset()


class SqliteVec:
    """sqlite-vec's scan of a `bit` column, in a database in memory.

    It takes k <= 4096 and cuts off a search by radius there, so such a search is not asked of it.
    """

    name = "sqlite-vec"
    exact = True

    def __init__(self, bits: int, codes: Codes) -> None:
        self._database = _with_vec()
        self._database.execute(f"CREATE VIRTUAL TABLE items USING vec0(code bit[{bits}])")
        rows = ((place, code.tobytes()) for place, code in enumerate(codes))
        with self._database:
            self._database.executemany("INSERT INTO items (rowid, code) VALUES (?, vec_bit(?))", rows)

    def nearest(self, code: Codes, k: int) -> Any:
        query = "SELECT rowid FROM items WHERE code MATCH vec_bit(?) AND k = ?"
        return [place for (place,) in self._database.execute(query, (code.tobytes(), k))]

    def close(self) -> None:
        self._database.close()


class LanceDB:
    """LanceDB without a vector index, in a temporary folder. It uses every core."""

    name = "LanceDB flat"
    exact = True

    def __init__(self, bits: int, codes: Codes) -> None:
        arrow, lance = import_module("pyarrow"), import_module("lancedb")
        self._folder = TemporaryDirectory(prefix="hammingbird-bench-")
        rows = arrow.FixedSizeListArray.from_arrays(arrow.array(codes.reshape(-1)), codes.shape[1])
        table = arrow.table({"id": arrow.array(np.arange(len(codes))), "vector": rows})
        self._table = lance.connect(self._folder.name).create_table("items", table)
        self._count = len(codes)

    def nearest(self, code: Codes, k: int) -> Any:
        return self._ids(self._table.search(code).metric("hamming").limit(k))

    def within(self, code: Codes, radius: int) -> Any:
        found = self._table.search(code).metric("hamming").distance_range(0, radius + 1)
        return self._ids(found.limit(self._count))  # without a limit it gives ten

    def close(self) -> None:
        del self._table
        self._folder.cleanup()

    @staticmethod
    def _ids(query: Any) -> Any:
        return query.select(["id", "_distance"]).to_arrow()["id"].to_numpy()


def _with_vec() -> sqlite3.Connection:
    """A connection that knows vec0, also from a Python that was built without `enable_load_extension`."""
    vec = import_module("sqlite_vec")
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        database = sqlite3.connect(":memory:")
        database.enable_load_extension(True)
        vec.load(database)
        database.enable_load_extension(False)
        return database
    # The SQLite that Python links to can load it all the same: every connection opened in between gets it.
    try:
        library = ctypes.CDLL(import_module("_sqlite3").__file__)
        start = ctypes.cast(ctypes.CDLL(f"{vec.loadable_path()}.so").sqlite3_vec_init, ctypes.c_void_p)
        library.sqlite3_auto_extension(start)
    except (AttributeError, OSError) as error:
        raise ImportError(f"this Python's SQLite cannot load it: {error}") from error
    try:
        database = sqlite3.connect(":memory:")
    finally:
        library.sqlite3_cancel_auto_extension(start)
    try:
        database.execute("SELECT vec_version()")
    except sqlite3.OperationalError as error:
        database.close()
        raise ImportError(f"this Python's SQLite cannot load it: {error}") from error
    return database
