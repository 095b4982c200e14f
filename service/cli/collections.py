"""hammingbird collections"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from .base import (
    DEFAULT_DATA_DIR,
    AsJson,
    DataDir,
    app,
    console,
    friendly,
    has_verb,
    open_engine,
    print_json,
    print_line,
    say,
    say_damaged,
)
from .completion import a_collection, a_model
from .places import Url, opened
from .progress import bar

collections = typer.Typer(
    invoke_without_command=True,
)
app.add_typer(collections, name="collections")

Name = Annotated[str, typer.Argument(help="Its name.", autocompletion=a_collection)]


@collections.callback()
@friendly
def list_all(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR
) -> None:
    """List the collections; show, create, look after or delete one.

    Example: hammingbird collections
    """
    if has_verb(ctx):
        return
    with opened(ctx, url, data_dir) as service:
        reply = service.collections()
    for one in reply["damaged"]:
        say_damaged(one["name"], one["detail"])
    if as_json:
        print_json([_row(one) for one in reply["collections"]])
        return
    table = Table("collection", "items", "bits", "model", "kept")
    for one in reply["collections"]:
        row = _row(one)
        cells = (f"{row['items']:,}", str(row["bits"]), row["model"] or "", _PLACES[row["backend"]])
        table.add_row(escape(row["name"]), *cells)
    console.print(table)


def _row(one: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "items", "bits", "backend")
    return {**{name: one[name] for name in names}, "model": reference_of(one["model"])}


def reference_of(model: dict[str, Any] | None) -> str | None:
    """A collection's model as name:version."""
    return None if model is None else f"{model['name']}:{model['version']}"


@collections.command()
@friendly
def show(
    ctx: typer.Context, name: Name, as_json: AsJson = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR
) -> None:
    """Show one, and how good its codes are.

    Example: hammingbird collections show digits
    """
    with opened(ctx, url, data_dir) as service:
        one, health = service.collection(name), service.health(name)
    if as_json:
        print_json(one | {"health": health})
        return
    print_line(f"{one['name']}: {one['items']:,} items, {one['bits']} bits, since {one['created_at'][:10]}")
    print_line(f"model: {reference_of(one['model']) or 'none, it takes ready-made codes'}")
    print_line(
        f"kept inputs: {'yes' if one['keep_inputs'] else 'no'}; indexed: {', '.join(one['indexes']) or 'nothing'}"
    )
    if one["memory_bytes"] is None:
        print_line("kept in Milvus")
    else:
        print_line(f"index in memory: {one['memory_bytes'] / 1e6:,.1f} MB")
    print_line(f"codes: {health['status']}")
    for finding in health["findings"]:
        advice = f"; {finding['advice']}" if finding["advice"] else ""
        print_line(f"  {finding['severity']}: {finding['detail']}{advice}")


@collections.command()
@friendly
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    model: Annotated[str | None, typer.Option(help="The model whose codes it holds.", autocompletion=a_model)] = None,
    bits: Annotated[int | None, typer.Option(help="Without a model: the width of the ready-made codes.")] = None,
    index: Annotated[
        list[str] | None, typer.Option(help="A payload field to index, so that filters on it are fast; repeatable.")
    ] = None,
    keep_inputs: Annotated[
        bool, typer.Option(help="Keep what is ingested, so that another model can encode it again.")
    ] = True,
    backend: Annotated[
        str | None, typer.Option(help="Where it is kept: embedded or milvus; by default as the service says.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create an empty one.

    Example: hammingbird collections create photos --model photos-hash --index label
    """
    if (model is None) == (bits is None):
        raise typer.BadParameter("give either --model or, for ready-made codes, --bits")
    body = {"name": name, "model": model, "bits": bits, "keep_inputs": keep_inputs, "indexes": index or []}
    if backend is not None:
        body["backend"] = backend
    with opened(ctx, url, data_dir, there=False) as service:
        one = service.create_collection(body)
    if as_json:
        print_json(one)
    else:
        print_line(f"{one['name']}: {one['bits']} bits, model {reference_of(one['model']) or 'none'}")


@collections.command()
@friendly
def delete(ctx: typer.Context, name: Name, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete one and everything in it.

    Example: hammingbird collections delete old-photos
    """
    with opened(ctx, url, data_dir) as service:
        service.delete_collection(name)
    say(f"deleted {name}")


@collections.command()
@friendly
def move(
    name: Name,
    to: Annotated[Literal["embedded", "milvus"], typer.Option(help="Where it is kept from now on.")],
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Move one from the data directory to Milvus, or back; compare the two, then remove the first.

    Example: hammingbird collections move photos --to milvus

    HAMMINGBIRD_MILVUS_URI says where Milvus is. The service of this data directory must be stopped meanwhile. Every
    item is compared, and the answers to 64 searches; where anything differs, or the command is ended, the collection
    stays where it was. To move it a second time goes on where the first ended.
    """
    from ..moving import move as moved_to

    with open_engine(data_dir, there=True) as engine:
        items = len(engine.catalogue.get(name))
        with bar(f"moving {name}", 2 * items) as show:
            moved = moved_to(engine, name, to, show)
            show(2 * items, "done")
    if as_json:
        print_json(asdict(moved))
    else:
        print_line(
            f"{moved.collection}: {moved.items:,} items are {_PLACES[moved.backend]} now; all of them, and the answers "
            f"to {moved.answers} searches, were compared"
        )


_PLACES = {"embedded": "in the data directory", "milvus": "in Milvus"}
