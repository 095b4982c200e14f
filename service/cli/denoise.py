"""hammingbird denoise"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import given as given_by
from .base import DEFAULT_DATA_DIR, AsJson, DataDir, app, friendly, print_json, print_line, write_file
from .completion import a_collection, a_model
from .given import from_json, given
from .pictures import SUFFIXES, as_file, kind_of
from .places import Url, opened


@app.command()
@friendly
def denoise(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Option(help="A model that repairs, as name, name:3 or name@alias.", autocompletion=a_model)
    ],
    text: given_by.Text = None,
    image: given_by.Image = None,
    audio: given_by.Audio = None,
    vector: given_by.Vector = None,
    code: given_by.Code = None,
    id: given_by.Id = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="What is missing: a PNG (white = missing), or a .json file of nested 0 and 1 (1 = missing). "
            "The rest comes back unchanged.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Refining steps.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of what is filled in.", min=0)] = 0,
    collection: Annotated[
        str | None, typer.Option(help="Where --id is looked up.", autocompletion=a_collection)
    ] = None,
    find: Annotated[
        str | None, typer.Option(help="Also search this collection with the result.", autocompletion=a_collection)
    ] = None,
    k: Annotated[int, typer.Option("-k", help="With --find: at most so many hits.", min=1)] = 10,
    out: Annotated[Path | None, typer.Option(help="File for the repaired item (.png, .wav, .txt, .json).")] = None,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Repair an item.

    Example: hammingbird denoise --model digits-denoise --image noisy.png --out clean.png

    What is missing, filled in: hammingbird denoise --model digits-denoise --image torn.png --mask hole.png --out w.png
    """
    body: dict[str, Any] = {"model": model, "steps": steps, "seed": seed, "collection": collection}
    body["input"] = given(text=text, image=image, audio=audio, vector=vector, code=code, id=id)
    if mask is not None:
        body["mask"] = _mask(mask)
    if find is not None:
        body["search"] = {"collection": find, "k": k}
    with opened(ctx, url, data_dir) as service:
        reply = service.denoise(body)
    if out is not None:
        write_file(out, as_file(reply["output"]))
    if as_json:
        print_json(reply)
        return
    kind = kind_of(reply["output"])
    print_line(f"code {reply['code']}")
    print_line(f"error {reply['error_before']:.4g} before, {reply['error_after']:.4g} after")
    if out is None:
        if kind in ("text", "vector"):
            print_line(str(reply["output"][kind]))
        else:
            print_line(f"--out FILE{SUFFIXES[kind]} writes the repaired {kind}")
    for hit in reply.get("hits") or []:
        payload = f"  {json.dumps(hit['payload'], ensure_ascii=False)[:100]}" if hit.get("payload") else ""
        print_line(f"{hit['distance']:>4}  {hit['id']}{payload}")


def _mask(path: Path) -> Any:
    """A mask as the API takes it: nested lists, or a picture in base64."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return from_json(data.decode(errors="replace"), "--mask")
    return base64.b64encode(data).decode()
