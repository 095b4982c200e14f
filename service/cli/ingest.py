"""hammingbird ingest"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .base import DEFAULT_DATA_DIR, AsJson, CommandError, DataDir, app, friendly, load_data, print_json, print_line, say
from .completion import a_collection, a_model
from .places import Service, Url, opened
from .progress import bar

if TYPE_CHECKING:
    from models.data import Dataset

    from ..engine import Engine

_MOST_ITEMS = 500
_MOST = {"bytes": 16 << 20, "pixels": 1e9, "seconds": 5e3}
"""Of one batch: a half or a quarter of what one request may have of each (see docs/settings.md)."""


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
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Store items.

    Example: hammingbird ingest --data ./photos --collection photos --model photos-hash

    What is stored already with the same content is not encoded again, so a command that was stopped can be run again.
    """
    if (on_duplicate is None) != (radius is None):
        raise typer.BadParameter("--on-duplicate and --radius go together")
    duplicates = None if on_duplicate is None or radius is None else (on_duplicate, radius)
    with opened(ctx, url, data_dir, there=False) as service:
        found = load_data(data)
        counts = ingest_through(service, found, collection, model, skip_bad=skip_bad, duplicates=duplicates)
    if as_json:
        print_json({"collection": collection, **counts})
    else:
        print_line(f"{collection}: " + ", ".join(f"{value:,} {name}" for name, value in counts.items()))


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
    counts = {"created": 0, "updated": 0, "unchanged": 0} | ({} if duplicates is None else {"duplicates": 0})
    done = 0
    try:
        with bar(f"ingesting into {collection}", len(data), "items") as show:
            for batch in _batches(data):
                faults = dict(batch.faults)
                if batch.items:
                    body = {"collection": collection, "model": model, "items": batch.items}
                    reply = service.ingest(body, duplicates)
                    for name in ("created", "updated", "unchanged"):
                        counts[name] += reply[name]
                    if duplicates is not None:
                        counts["duplicates"] += reply["duplicates_total"]
                    ids = [item["id"] for item in batch.items]
                    faults |= {ids[fault["position"]]: fault["detail"] for fault in reply.get("errors") or ()}
                for id, why in faults.items():
                    if not skip_bad:
                        raise CommandError(
                            f"{id}: {why}. Mend it and run again, or pass --skip-bad; {sum(counts.values()):,} others "
                            "are stored"
                        )
                    say(f"left out {id}: {why}")
                done = batch.end
                show(done, "")
    except KeyboardInterrupt:
        say(f"{done:,} of {len(data):,} items are stored; run the same command again to go on from there")
        raise
    return counts


@dataclass
class _Batch:
    """Items to be sent together, and those that cannot be sent at all, with the reason."""

    items: list[dict[str, Any]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    size: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_MOST, 0.0))
    end: int = 0

    def has_room_for(self, size: dict[str, float]) -> bool:
        return len(self.items) < _MOST_ITEMS and all(self.size[unit] + size[unit] <= _MOST[unit] for unit in _MOST)

    def add(self, item: dict[str, Any], size: dict[str, float]) -> None:
        self.items.append(item)
        self.size = {unit: self.size[unit] + size[unit] for unit in _MOST}


def _batches(data: Dataset) -> Iterator[_Batch]:
    """The items of `data` in their order, so many at a time as one request may hold."""
    batch = _Batch()
    for place in range(len(data)):
        try:
            given, size = _given(data, place)
        except OSError as error:  # a file that is gone since the folder was listed, or may not be read
            batch.faults.append((data.ids[place], f"cannot be read: {error.strerror}"))
            continue
        if not batch.has_room_for(size) and batch.items:
            batch.end = place
            yield batch
            batch = _Batch()
        batch.add({"id": data.ids[place], "payload": data.payload(place), **given}, size)
    batch.end = len(data)
    yield batch


def _given(data: Dataset, place: int) -> tuple[dict[str, Any], dict[str, float]]:
    """An item as the API takes it, and how much of a request it takes."""
    from models.images import encode_png, image_size
    from models.readers import Files
    from models.sounds import encode_wav, sound_seconds

    size = dict.fromkeys(_MOST, 0.0)
    if data.kind in ("image", "audio"):
        # A file is stored as it is; only what was made in memory has to become one.
        items, encode = data.items, encode_png if data.kind == "image" else encode_wav
        raw = items.encoded(place) if isinstance(items, Files) else encode(items[place])
        if data.kind == "image":
            across, down = image_size(raw)
            size["pixels"] = across * down
        else:
            size["seconds"] = sound_seconds(raw)
        given = {data.kind: base64.b64encode(raw).decode()}
    elif data.kind == "text":
        given = {"text": data.items[place]}
    else:
        given = {"vector_b64": base64.b64encode(data.items[place].astype("<f4").tobytes()).decode()}
    size["bytes"] = len(next(iter(given.values())))
    return given, size
