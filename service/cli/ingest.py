"""hammingbird ingest"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .base import DEFAULT_DATA_DIR, AsJson, DataDir, app, friendly, load_data, print_json, print_line
from .batches import batches
from .completion import a_collection, a_model
from .places import Service, Urls, addresses, opened
from .tally import counting

if TYPE_CHECKING:
    from models.data import Dataset

    from ..engine import Engine

_MOST_WORKERS = 64


@app.command()
@friendly
def ingest(
    ctx: typer.Context,
    data: Annotated[
        str, typer.Option(help="A built-in name (digits, python-docs, lines, spiral, tones), a file or a folder.")
    ],
    collection: Annotated[str, typer.Option(help="Collection to store the items in.", autocompletion=a_collection)],
    model: Annotated[
        str | None,
        typer.Option(help="Model that makes the codes; needed only for a new collection.", autocompletion=a_model),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be stored, and list it.")] = False,
    on_duplicate: Annotated[
        Literal["tag", "reject"] | None,
        typer.Option(help="What becomes of an item within --radius of another one: stored and marked, or left out."),
    ] = None,
    radius: Annotated[int | None, typer.Option(help="With --on-duplicate: inclusive Hamming distance.", min=0)] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="Processes that encode, for this one to store; with --url, batches that are on their way at a time.",
            min=1,
            max=_MOST_WORKERS,
        ),
    ] = 1,
    as_json: AsJson = False,
    url: Urls = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Store items.

    Example: hammingbird ingest --data ./photos --collection photos --model photos-hash

    What is stored already with the same content is not encoded again, so a command that was stopped can be run again.

    Much of it: hammingbird ingest --data ./photos --collection photos --model photos-hash --workers 4

    The codes are the same with any number of workers.
    """
    if (on_duplicate is None) != (radius is None):
        raise typer.BadParameter("--on-duplicate and --radius go together")
    duplicates = None if on_duplicate is None or radius is None else (on_duplicate, radius)
    at = addresses(ctx, url)
    if at and duplicates is not None and workers > 1:
        raise typer.BadParameter("which of two near items is the first is known with one sender only: --workers 1")
    taken: Mapping[str, int] = {}
    if len(at) > 1 or (at and workers > 1):
        from .senders import ingest_by_senders

        counts, taken = ingest_by_senders(
            at, load_data(data), collection, model, workers, skip_bad=skip_bad, duplicates=duplicates
        )
    else:
        with opened(ctx, at[0] if at else None, data_dir, there=False) as service:
            counts = _ingest_at_one(
                service, load_data(data), collection, model, workers, skip_bad=skip_bad, duplicates=duplicates
            )
    _show(collection, counts, taken if len(at) > 1 else {}, as_json)


def _ingest_at_one(
    service: Service,
    data: Dataset,
    collection: str,
    model: str | None,
    workers: int,
    *,
    skip_bad: bool,
    duplicates: tuple[str, int] | None,
) -> dict[str, int]:
    if workers == 1:
        return ingest_through(service, data, collection, model, skip_bad=skip_bad, duplicates=duplicates)
    from .local import Local
    from .workers import ingest_by_workers

    assert isinstance(service, Local)  # more than one at an address are senders
    return ingest_by_workers(service, data, collection, model, workers, skip_bad=skip_bad, duplicates=duplicates)


def _show(collection: str, counts: Mapping[str, int], taken: Mapping[str, int], as_json: bool) -> None:
    """taken: items by the address that took them, where there are several."""
    if as_json:
        print_json({"collection": collection, **counts, **({"replicas": taken} if taken else {})})
    else:
        told = [f"{value:,} {name}" for name, value in counts.items()]
        where = [f"{value:,} by {address}" for address, value in taken.items()]
        print_line(f"{collection}: {', '.join(told)}" + (f"; {', '.join(where)}" if where else ""))


def ingest_dataset(
    engine: Engine, data: Dataset, collection: str, model: str | None, *, skip_bad: bool = False
) -> dict[str, int]:
    """Store a whole data set through an engine, as `ingest_through` does."""
    from .local import Local

    return ingest_through(Local(engine), data, collection, model, skip_bad=skip_bad)


def ingest_through(
    service: Service,
    data: Dataset,
    collection: str,
    model: str | None,
    *,
    skip_bad: bool = False,
    duplicates: tuple[str, int] | None = None,
) -> dict[str, int]:
    """Store a whole data set in batches under a progress bar; returns how many were created, updated, unchanged.

    Raises `CommandError` naming the first item that cannot be stored, unless `skip_bad`. Ctrl-C takes effect between
    two batches.
    """
    with counting(data, collection, skip_bad=skip_bad, screened=duplicates is not None) as tally:
        done = 0
        for batch in batches(data):
            reply = None
            if batch.items:
                reply = service.ingest({"collection": collection, "model": model, "items": batch.items}, duplicates)
            tally.take([item["id"] for item in batch.items], reply, batch.faults, batch.end - done)
            tally.check()
            done = batch.end
    return tally.counts
