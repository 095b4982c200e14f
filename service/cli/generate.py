"""hammingbird generate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from . import given as given_by
from .base import DEFAULT_DATA_DIR, AsJson, CommandError, DataDir, app, console, friendly, print_json, say, write_file
from .completion import a_collection, a_model
from .given import given
from .pictures import SUFFIXES, as_file, items_sheet, kind_of
from .places import Url, opened

_SHOWN = 100
"""Characters of a text or a vector in the table."""


@app.command()
@friendly
def generate(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Option(help="A generative model, as name, name:3 or name@alias.", autocompletion=a_model)
    ],
    n: Annotated[int, typer.Option("-n", help="How many.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Same seed, same items.", min=0)] = 0,
    temperature: Annotated[float, typer.Option(help="Below 1 more usual items, above 1 stranger ones.", min=0)] = 1.0,
    text: given_by.Text = None,
    image: given_by.Image = None,
    audio: given_by.Audio = None,
    vector: given_by.Vector = None,
    code: given_by.Code = None,
    id: given_by.Id = None,
    collection: Annotated[
        str | None,
        typer.Option(
            help="Also find what is stored nearest here; --id is looked up here.", autocompletion=a_collection
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Draw all of them into this PNG file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a file of each (.png, .wav, .txt, .json).")] = None,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make new items.

    Example: hammingbird generate --model digits-vae -n 16 --seed 7 --png digits.png

    With an item (one of --text, --image, --audio, --vector, --code, --id) they are made around it:
    hammingbird generate --model digits-vae --collection digits --id digit-0000 --png around.png
    """
    near = given(text=text, image=image, audio=audio, vector=vector, code=code, id=id, needed=False)
    body: dict[str, Any] = {"model": model, "n": n, "seed": seed, "temperature": temperature, "collection": collection}
    with opened(ctx, url, data_dir) as service:
        reply = service.generate(body | ({} if near is None else {"near": near}))
    if png is not None:
        write_file(png, items_sheet(reply["items"]))
    if out is not None:
        _write(out, reply["items"])
    if as_json:
        print_json(reply)
        return
    _show(reply)
    if png is None and out is None and kind_of(reply["items"][0]) in ("image", "audio"):
        say("--png draws them, --out writes a file of each" if "image" in reply["items"][0] else "--out writes files")


def _write(folder: Path, items: list[dict[str, Any]]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot be made: {error.strerror}; name another folder") from None
    for place, item in enumerate(items):
        write_file(folder / f"{place:03d}{SUFFIXES[kind_of(item)]}", as_file(item))


def _show(reply: dict[str, Any]) -> None:
    model, items = reply["model"], reply["items"]
    shown = kind_of(items[0]) in ("text", "vector")
    near = any(item.get("nearest") is not None for item in items)
    columns = ["", "code", *(["nearest"] if near else []), *(["item"] if shown else [])]
    table = Table(*columns, title=f"{len(items)} items of {model['name']}:{model['version']}, seed {reply['seed']}")
    for place, item in enumerate(items):
        found = ", ".join(f"{hit['id']} ({hit['distance']})" for hit in item.get("nearest") or [])
        value = [escape(str(item[kind_of(item)])[:_SHOWN])] if shown else []
        table.add_row(str(place), item["code"], *([escape(found)] if near else []), *value)
    console.print(table)
