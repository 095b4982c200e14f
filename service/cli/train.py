"""hammingbird train"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .base import (
    DEFAULT_DATA_DIR,
    DataDir,
    app,
    console,
    errors,
    follow,
    friendly,
    load_data,
    open_engine,
    print_json,
    width,
)

_COLLAPSED = 0.8
_FEW = 500


@app.command()
@friendly
def train(
    data: Annotated[str, typer.Option(help="A built-in name (digits, python-docs, lines, tones), a file or a folder.")],
    name: Annotated[str, typer.Option(help="Name of the model; training again makes the next version.")],
    family: Annotated[str, typer.Option(help="Model family; `hammingbird models --families` lists them.")] = (
        "binary-autoencoder"
    ),
    bits: Annotated[
        str, typer.Option(help="Width of the codes: a multiple of 8, 8 to 1024, or auto, which proposes one.")
    ] = "64",
    set_: Annotated[list[str] | None, typer.Option("--set", help="A parameter, as name=value; repeatable.")] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Learn from the labels of the data, too.")] = False,
    pairs: Annotated[
        Path | None, typer.Option(help="Learn from pairs: a .jsonl or .csv file of a, b (ids), same (true or false).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same model.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Train a model. Example: hammingbird train --data ./photos --name photos-hash --bits 64"""
    from models.pairs import read_pairs

    from ..training import Training, check
    from ..training import train as run

    known = None if pairs is None else read_pairs(pairs)
    training = Training(name, family, width(bits), dict(map(parameter, set_ or [])), seed, labels, known)
    check(training)
    with open_engine(data_dir) as engine:
        draft = engine.registry.draft(name)
        follow(f"training {name}", run(training, load_data(data), draft))
        entry = engine.registry.add(name, draft)
    metrics = entry.artefact.metrics
    learned = "best_epoch" in metrics
    if learned and (metrics["bit_balance"] < _COLLAPSED or metrics["items"] < _FEW):
        errors.print(
            f"note: {metrics['items']:,} items, bit balance {metrics['bit_balance']:.2f} of 1: these may be too few "
            "items, or too much alike, to learn from; `hammingbird evaluate` compares with --family itq",
            highlight=False,
            soft_wrap=True,
        )
    if as_json:
        print_json({"model": entry.reference, "fingerprint": entry.fingerprint, "metrics": dict(metrics)})
    else:
        told = f", learned from {metrics['supervised']}" if "supervised" in metrics else ""
        line = f"{entry.reference}: {metrics['retrieval_measure']} {metrics['retrieval']:.3f}{told}"
        console.print(line, highlight=False, soft_wrap=True)


def parameter(text: str) -> tuple[str, Any]:
    """What `--set name=value` says; the value as JSON where it is some."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"write name=value; got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
