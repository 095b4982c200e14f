"""hammingbird search"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from . import given as given_by
from .base import DEFAULT_DATA_DIR, AsJson, DataDir, app, console, friendly, print_json, say, write_file
from .completion import a_collection
from .given import from_json, given
from .pictures import hits_sheet
from .places import Url, opened

_SHOWN = 120
"""Characters of a payload in the table."""


@app.command()
@friendly
def search(
    ctx: typer.Context,
    collection: Annotated[str, typer.Option(help="Collection to search in.", autocompletion=a_collection)],
    text: given_by.Text = None,
    image: given_by.Image = None,
    audio: given_by.Audio = None,
    vector: given_by.Vector = None,
    code: given_by.Code = None,
    id: given_by.Id = None,
    k: Annotated[int | None, typer.Option("-k", help="At most so many hits; 10 without --radius.", min=1)] = None,
    radius: Annotated[
        int | None, typer.Option(help="Everything within this Hamming distance, inclusive.", min=0)
    ] = None,
    target_precision: Annotated[
        float | None,
        typer.Option(help="In place of --radius: the largest that is so precise, where calibrated.", min=0, max=1),
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(help="""Only items whose payload fits, as JSON: '{"label": "7"}', '{"price": {"$lt": 20}}'."""),
    ] = None,
    rerank: Annotated[
        Literal["none", "soft", "exact"],
        typer.Option(help="Order by: none (Hamming distance), soft (the query's logits), exact (kept inputs)."),
    ] = "none",
    oversample: Annotated[
        int, typer.Option(help="With --rerank: choose from so many times k nearest codes.", min=1, max=100)
    ] = 1,
    limit: Annotated[int, typer.Option(help="Hits to show of a search by radius alone.", min=1)] = 1000,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw the query and the hits, with their distances, into this PNG file.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Search exactly.

    Example: hammingbird search --collection photos --image query.jpg -k 5

    Within a distance: hammingbird search --collection digits --id digit-0000 --radius 6 --sheet hits.png
    """
    query = given(text=text, image=image, audio=audio, vector=vector, code=code, id=id)
    body: dict[str, Any] = {"collection": collection, "query": query, "rerank": rerank, "oversample": oversample}
    body |= {"k": k, "radius": radius, "target_precision": target_precision, "limit": limit}
    if filter is not None:
        body["filter"] = from_json(filter, "--filter")
    with opened(ctx, url, data_dir) as service:
        reply = service.search(body)
        if sheet is not None:
            write_file(sheet, hits_sheet(service, body, reply))
    if as_json:
        print_json(reply)
    else:
        _show(reply, scored=rerank != "none")
    if not reply["complete"]:
        say(f"{len(reply['hits']):,} of {reply['total']:,} shown; --limit shows more")


def _show(reply: dict[str, Any], *, scored: bool) -> None:
    columns = ("distance", "score", "id", "payload") if scored else ("distance", "id", "payload")
    within = "" if reply.get("radius") is None else f" within radius {reply['radius']}"
    table = Table(*columns, title=f"{reply['total']:,} items{within}, query code {reply['code']}")
    for hit in reply["hits"]:
        payload = json.dumps(hit["payload"], ensure_ascii=False)[:_SHOWN] if hit.get("payload") else ""
        score = [f"{hit['score']:.4f}"] if hit.get("score") is not None else []
        table.add_row(str(hit["distance"]), *score, escape(hit["id"]), escape(payload))
    console.print(table)
