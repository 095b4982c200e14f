"""hammingbird ingest, hammingbird search"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from .base import DEFAULT_DATA_DIR, DataDir, app, bar, console, errors, friendly, load_data, open_engine, print_json

if TYPE_CHECKING:
    from models.data import Dataset

    from ..engine import Engine

_BATCH = 500


@app.command()
@friendly
def ingest(
    data: Annotated[str, typer.Option(help="A built-in name (digits, python-docs, lines, tones), a file or a folder.")],
    collection: Annotated[str, typer.Option(help="Collection to store the items in.")],
    model: Annotated[
        str | None, typer.Option(help="Model that makes the codes; needed only for a new collection.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be stored, and list it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Store items. Example: hammingbird ingest --data ./photos --collection photos --model photos-hash"""
    with open_engine(data_dir) as engine:
        counts = ingest_dataset(engine, load_data(data), collection, model, skip_bad=skip_bad)
    if as_json:
        print_json({"collection": collection, **counts})
    else:
        console.print(f"{collection}: " + ", ".join(f"{value} {name}" for name, value in counts.items()))


def ingest_dataset(
    engine: Engine, data: Dataset, collection: str, model: str | None, *, skip_bad: bool = False
) -> dict[str, int]:
    """Store a whole data set in batches under a progress bar; returns how many were created, updated, unchanged.

    Raises `InvalidRequest` naming the first item that cannot be stored, unless `skip_bad`.
    """
    from ..errors import InvalidRequest
    from ..ingest import ingest as store

    counts = {"created": 0, "updated": 0, "unchanged": 0}
    with bar(f"ingesting into {collection}", len(data)) as show:
        for start in range(0, len(data), _BATCH):
            places = range(start, min(start + _BATCH, len(data)))
            reply = store(engine, collection, model, [_item(data, place) for place in places], skip_bad=True)
            for name in counts:
                counts[name] += getattr(reply, name)
            for fault in reply.errors or ():
                line = f"{data.ids[start + fault.position]}: {fault.detail}"
                if not skip_bad:
                    done = sum(counts.values())
                    raise InvalidRequest(
                        f"{line}. Mend it and run again, or pass --skip-bad; {done:,} others are stored"
                    )
                errors.print(f"left out {line}", highlight=False, markup=False, soft_wrap=True)
            show(places.stop, "")
    return counts


def _item(data: Dataset, place: int) -> Any:
    from models.images import encode_png
    from models.readers import Files
    from models.sounds import encode_wav

    from ..schemas import IngestItem

    given: dict[str, Any]
    if data.kind == "text":
        given = {"text": data.items[place]}
    elif data.kind in ("image", "audio"):
        # A file is stored as it is; only what was made in memory has to become one.
        items, encode = data.items, encode_png if data.kind == "image" else encode_wav
        encoded = items.encoded(place) if isinstance(items, Files) else encode(items[place])
        given = {data.kind: base64.b64encode(encoded).decode()}
    else:
        given = {"vector_b64": base64.b64encode(data.items[place].astype("<f4").tobytes()).decode()}
    return IngestItem(id=data.ids[place], payload=data.payload(place), **given)


@app.command()
@friendly
def search(
    collection: Annotated[str, typer.Option(help="Collection to search in.")],
    text: Annotated[str | None, typer.Option(help="Find items like this text.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Find items like this picture.", exists=True, dir_okay=False)
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Find items like this sound, a .wav or .flac file.", exists=True, dir_okay=False)
    ] = None,
    vector: Annotated[str | None, typer.Option(help="Find items like this vector, a JSON list of numbers.")] = None,
    code: Annotated[str | None, typer.Option(help="Find items near this code, in hexadecimal.")] = None,
    id: Annotated[str | None, typer.Option(help="Find items like this stored item.")] = None,
    k: Annotated[int | None, typer.Option("-k", help="At most so many hits.")] = None,
    radius: Annotated[int | None, typer.Option(help="Everything within this Hamming distance, inclusive.")] = None,
    rerank: Annotated[
        str, typer.Option(help="Order by: none (Hamming distance), soft (the query's logits), exact (kept inputs).")
    ] = "none",
    oversample: Annotated[int, typer.Option(help="With a rerank: choose from so many times k nearest codes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Search exactly. Example: hammingbird search --collection photos --image query.jpg -k 5"""
    from pydantic import ValidationError

    from index import to_hex

    from ..schemas import SearchRequest
    from ..search import search as run

    given: dict[str, Any] = {"text": text, "code": code, "id": id}
    for name, path in (("image", image), ("audio", audio)):
        if path is not None:
            given[name] = base64.b64encode(path.read_bytes()).decode()
    if vector is not None:
        given["vector"] = _numbers(vector)
    query = {name: value for name, value in given.items() if value is not None}
    if len(query) != 1:
        raise typer.BadParameter("give exactly one of --text, --image, --audio, --vector, --code, --id")
    try:
        asked = {"k": k, "radius": radius, "rerank": rerank, "oversample": oversample}
        request = SearchRequest.model_validate({"collection": collection, "query": query, **asked})
    except ValidationError as error:
        where = "".join(f"--{name}: " for name in error.errors()[0]["loc"][:1])
        raise typer.BadParameter(where + error.errors()[0]["msg"]) from None
    with open_engine(data_dir, there=True) as engine:
        reply = run(engine, request)
    if as_json:
        print_json(json.loads(reply.json()))
        return
    scored = request.rerank != "none"
    columns = ("distance", "score", "id", "payload") if scored else ("distance", "id", "payload")
    table = Table(*columns, title=f"{reply.page.total} items, query code {to_hex(reply.code)}")
    for hit in reply.page.hits:
        payload = json.dumps(hit.payload, ensure_ascii=False)[:120] if hit.payload else ""
        score = [f"{hit.score:.4f}"] if hit.score is not None else []
        table.add_row(str(hit.distance), *score, escape(hit.id), escape(payload))
    console.print(table)


def _numbers(text: str) -> list[float]:
    try:
        return [float(value) for value in json.loads(text)]
    except (ValueError, TypeError):
        raise typer.BadParameter("--vector must be a JSON list of numbers") from None
