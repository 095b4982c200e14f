"""Parquet files, by the extra `parquet`: rows as records, and a column of vectors as one array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

EXTRA = "pip install 'hammingbird[parquet]'"


def read(path: Path) -> tuple[list[dict[str, Any]], NDArray[np.float32] | None]:
    """The rows of `path` without the column `vector`, and that column `(rows, dim)` where there is one.

    Raises `DataError` where pyarrow is missing, the file is none, or the vectors differ in length.
    """
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: Parquet is read with pyarrow: {EXTRA}") from None
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if "vector" not in table.column_names:
        return table.to_pylist(), None
    column = table.column("vector").combine_chunks()
    lengths = set(pc.unique(pc.list_value_length(column)).to_pylist()) if len(column) else {0}
    if len(lengths) != 1 or None in lengths:
        raise DataError(f"{path}: the vectors differ in length, or some are missing")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float32).reshape(len(column), -1)
    rest = table.drop_columns(["vector"])
    return (rest.to_pylist() if rest.num_columns else [{} for _ in range(len(column))]), vectors
