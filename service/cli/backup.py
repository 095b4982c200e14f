"""hammingbird backup, restore"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .base import DEFAULT_DATA_DIR, DataDir, app, bar, console, friendly, open_engine, print_json, settings_for


@app.command()
@friendly
def backup(
    to: Annotated[Path, typer.Option(help="File to write, or a folder to hold one with the time in its name.")],
    collections: Annotated[
        list[str] | None, typer.Argument(help="Collections, each with its models; all of both where none is named.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Copy collections and models into one file, served or not. Example: hammingbird backup --to backups"""
    from ..backup import backup as write

    with bar("backing up", 1) as show:
        written = write(settings_for(data_dir), collections or [], to, show)
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
        console.print(f"{one.name}: {one.items:,} items", highlight=False, markup=False)
    console.print(f"{len(written.manifest.models)} models", highlight=False)
    console.print(f"{written.sha256}  {written.path}", highlight=False, markup=False, soft_wrap=True)


@app.command()
@friendly
def restore(
    file: Annotated[Path, typer.Argument(help="A backup, or a snapshot.")],
    name: Annotated[str | None, typer.Option("--as", help="What its only collection is called from now on.")] = None,
    replace: Annotated[bool, typer.Option(help="Replace collections of the same names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Bring back what a backup holds, all of it verified before. Example: hammingbird restore backups/photos.tar"""
    from index.errors import DataDirectoryError

    from ..errors import InvalidRequest
    from ..restore import restore as bring_back

    try:
        archive = file.open("rb")
        size = file.stat().st_size
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from None
    with archive:
        try:
            with bar("restoring", size) as show, open_engine(data_dir) as engine:

                class Followed:
                    """The file, read under a progress bar."""

                    def read(self, size: int, /) -> bytes:
                        show(archive.tell(), "")
                        return archive.read(size)

                done = bring_back(engine, Followed(), name=name, replace_there=replace, linger_s=0)
                counts = {restored: len(engine.catalogue.get(restored)) for restored in done.collections}
        except DataDirectoryError as error:
            way = f"curl -X POST -H 'content-type: application/x-tar' -T {file} <its address>/snapshots/restore"
            raise DataDirectoryError(f"{error}: {way}") from None
    models = [{"model": one.entry.reference, "was": one.archived.reference, "added": one.added} for one in done.models]
    if as_json:
        print_json({"collections": counts, "replaced": done.replaced, "models": models})
        return
    for restored, items in counts.items():
        note = " (replaced)" if restored in done.replaced else ""
        console.print(f"{restored}: {items:,} items{note}", highlight=False, markup=False)
    for one in done.models:
        what = "added" if one.added else "was here"
        console.print(f"{one.archived.reference}: {what} as {one.entry.reference}", highlight=False, markup=False)
