"""The schemas of our collections in Milvus."""

from __future__ import annotations

from typing import Any

from .connection import Connection, MissingCollection

KEY_BYTES = 1024
"""Of a primary key: an id of 512 bytes in hexadecimal."""
TEXT_BYTES = 65_535
"""Of a string, as Milvus has it."""


def create_items(connection: Connection, physical: str, bits: int, description: str) -> None:
    """A generation: the items of a collection with the codes of one model.

    id: in hexadecimal. slot: a hash of the id (`rows.SLOTS`), by which a long answer is cut into parts. payload: what
    filters look at; exact: the payload as text, where JSON in Milvus cannot hold it. flags: 1 with a payload, 2 with an
    input. place: of the kept input, among the parts. digest, seal: tell an unchanged item, and a damaged one.
    """
    from pymilvus import DataType

    _create(
        connection,
        physical,
        description,
        [
            ("id", DataType.VARCHAR, {"is_primary": True, "max_length": KEY_BYTES}),
            ("code", DataType.BINARY_VECTOR, {"dim": bits}),
            ("slot", DataType.INT64, {}),
            ("seal", DataType.INT64, {}),
            ("flags", DataType.INT64, {}),
            ("digest", DataType.VARCHAR, {"max_length": 32}),
            ("kind", DataType.VARCHAR, {"max_length": 32}),
            ("place", DataType.VARCHAR, {"max_length": 64}),
            ("payload", DataType.JSON, {}),
            ("exact", DataType.VARCHAR, {"max_length": TEXT_BYTES}),
        ],
        "code",
    )


def create_parts(connection: Connection, physical: str) -> None:
    """Parts of inputs, and records."""
    from pymilvus import DataType

    _create(
        connection,
        physical,
        "",
        [
            ("id", DataType.VARCHAR, {"is_primary": True, "max_length": KEY_BYTES + 128}),
            ("value", DataType.VARCHAR, {"max_length": TEXT_BYTES}),
            ("at", DataType.INT64, {}),
            ("vector", DataType.BINARY_VECTOR, {"dim": 8}),
        ],
        "vector",
    )


def load_parts(connection: Connection, physical: str) -> None:
    """Make parts ready for use whose creation may have been interrupted."""
    _load(connection, physical, "vector")


def _create(
    connection: Connection, physical: str, description: str, fields: list[tuple[str, Any, dict[str, Any]]], vector: str
) -> None:
    from pymilvus import MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
    for name, kind, options in fields:
        schema.add_field(name, kind, **options)
    connection.call(
        "create_collection",
        physical,
        schema=schema,
        consistency_level="Strong",
        num_shards=1,  # what comes in one call is then seen at one moment
    )
    _load(connection, physical, vector)


def _load(connection: Connection, physical: str, vector: str) -> None:
    from pymilvus import MilvusClient

    index = MilvusClient.prepare_index_params()
    index.add_index(field_name=vector, index_type="BIN_FLAT", metric_type="HAMMING")
    # Nothing is there yet to be indexed, and to wait for it takes the client half a second.
    connection.call("create_index", physical, index, sync=False)
    connection.call("load_collection", physical)


def drop(connection: Connection, physical: str) -> None:
    """Drop a Milvus collection, which may be gone."""
    try:
        connection.call("drop_collection", physical)
    except MissingCollection:
        return
