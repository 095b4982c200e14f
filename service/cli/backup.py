"""hammingbird backup, restore"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .base import DEFAULT_DATA_DIR, AsJson, DataDir, app, friendly, print_json, print_line, say, settings_for
from .places import Url, opened
from .progress import bar


@app.command()
@friendly
def backup(
    to: Annotated[Path, typer.Option(help="File to write, or a folder to hold one with the time in its name.")],
    collections: Annotated[
        list[str] | None, typer.Argument(help="Collections, each with its models; all of both where none is named.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Copy collections and models into one file, served or not.

    Example: hammingbird backup --to backups
    """
    from ..backup import backup as write

    settings = settings_for(data_dir)
    if settings.milvus_uri is not None and not collections:
        say("collections in Milvus are not in a backup: make a snapshot of each, or have Milvus backed up")
    with bar("backing up", 1) as show:
        written = write(settings, collections or [], to, show)
    said = {
        "file": str(written.path),
        "size": written.size,
        "sha256": written.sha256,
        "collections": {one.name: one.items for one in written.manifest.collections},
        "models": [model.reference for model in written.manifest.models],
    }
    if as_json:
        print_json(said)
        return
    for one in written.manifest.collections:
        print_line(f"{one.name}: {one.items:,} items")
    print_line(f"{len(written.manifest.models)} models")
    print_line(f"{written.sha256}  {written.path}")


@app.command()
@friendly
def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A backup, or a snapshot.")],
    name: Annotated[str | None, typer.Option("--as", help="What its only collection is called from now on.")] = None,
    replace: Annotated[bool, typer.Option(help="Replace collections of the same names.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Bring back what a backup holds, all of it verified before.

    Example: hammingbird restore backups/photos.tar
    """
    size = file.stat().st_size if file.is_file() else 1
    with opened(ctx, url, data_dir, there=False) as service, bar("restoring", size, "bytes") as show:
        done = service.restore(file, name, replace, show)
    counts = {one["name"]: one["items"] for one in done["collections"]}
    models = [
        {"model": f"{one['name']}:{one['version']}", "was": one["archived_as"], "added": one["added"]}
        for one in done["models"]
    ]
    if as_json:
        print_json({"collections": counts, "replaced": done["replaced"], "models": models})
        return
    for restored, items in counts.items():
        print_line(f"{restored}: {items:,} items{' (replaced)' if restored in done['replaced'] else ''}")
    for one in models:
        print_line(f"{one['was']}: {'added' if one['added'] else 'was here'} as {one['model']}")
