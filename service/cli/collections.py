"""hammingbird collections"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from .base import DEFAULT_DATA_DIR, DataDir, app, console, friendly, open_engine, print_json, say_damaged


@app.command()
@friendly
def collections(
    delete: Annotated[str | None, typer.Option(help="Delete this collection and everything in it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the collections, or delete one. Example: hammingbird collections --delete old-photos"""
    with open_engine(data_dir, there=True) as engine:
        if delete is not None:
            engine.catalogue.delete(delete)
        rows = [
            {
                "name": name,
                "items": len(collection),
                "bits": collection.bits,
                "model": f"{key.name}:{key.version}" if (key := collection.config.model) else None,
            }
            for name, collection in engine.catalogue.all().items()
        ]
        for name, detail in engine.catalogue.damaged.items():
            say_damaged(name, detail)
    if as_json:
        print_json(rows)
        return
    table = Table("collection", "items", "bits", "model")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table)
