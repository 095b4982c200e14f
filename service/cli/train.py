"""hammingbird train"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .base import (
    DEFAULT_DATA_DIR,
    AsJson,
    CommandError,
    DataDir,
    app,
    friendly,
    load_data,
    print_json,
    print_line,
    say,
    width,
)
from .completion import a_collection, a_family, a_model
from .jobs import followed
from .places import Url, opened
from .progress import follow

if TYPE_CHECKING:
    from models.data import Dataset

    from ..training import Training

_COLLAPSED = 0.8
_FEW = 500


@app.command()
@friendly
def train(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Option(help="Name of the model; training again makes the next version.", autocompletion=a_model)
    ],
    data: Annotated[
        str | None,
        typer.Option(help="A built-in name (digits, python-docs, lines, spiral, tones), a file or a folder."),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(help="In place of --data: what is kept in this collection.", autocompletion=a_collection),
    ] = None,
    label: Annotated[
        str, typer.Option(help="With --collection: the payload field that holds the labels, dots reach into objects.")
    ] = "label",
    family: Annotated[
        str, typer.Option(help="Model family; `hammingbird models --families` lists them.", autocompletion=a_family)
    ] = "binary-autoencoder",
    bits: Annotated[
        str, typer.Option(help="Width of the codes: a multiple of 8, 8 to 1024, or auto, which proposes one.")
    ] = "64",
    set_: Annotated[list[str] | None, typer.Option("--set", help="A parameter, as name=value; repeatable.")] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Learn from the labels of the data, too.")] = False,
    pairs: Annotated[
        Path | None, typer.Option(help="Learn from pairs: a .jsonl or .csv file of a, b (ids), same (true or false).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same model.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be read, and list it.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Train a model.

    Example: hammingbird train --data ./photos --name photos-hash --bits 64

    On what a service holds: hammingbird train --collection digits --name digits-itq --family itq

    With --data this command computes, also with --url: the service is sent the finished model. With --collection the
    service computes. Both take a key of scope admin, and stopped by Ctrl-C they leave nothing.
    """
    if (data is None) == (collection is None):
        raise typer.BadParameter("give either --data or --collection")
    if collection is not None and skip_bad:
        raise typer.BadParameter("--skip-bad is for --data: what a collection keeps was read before it was stored")
    from models.pairs import read_pairs

    from ..training import Training, check

    known = None if pairs is None else read_pairs(pairs)
    training = Training(name, family, width(bits), dict(map(parameter, set_ or [])), seed, labels, known)
    check(training)
    with opened(ctx, url, data_dir, there=False) as service:
        if data is not None:
            items = load_data(data, skip_bad=skip_bad)
            card = service.add_model(name, lambda draft: _trained(training, items, draft))
        else:
            job = service.begin("train", _asked(training, collection, label))
            model = followed(service, f"training {name}", job)["model"]
            card = service.model(f"{model['name']}:{model['version']}")
    metrics, reference = card["metrics"], f"{card['name']}:{card['version']}"
    learned = "best_epoch" in metrics
    if learned and (metrics["bit_balance"] < _COLLAPSED or metrics["items"] < _FEW):
        say(
            f"note: {metrics['items']:,} items, bit balance {metrics['bit_balance']:.2f} of 1: these may be too few "
            "items, or too much alike, to learn from; `hammingbird evaluate` compares with --family itq"
        )
    if as_json:
        print_json({"model": reference, "fingerprint": card["fingerprint"], "metrics": metrics})
    else:
        told = f", learned from {metrics['supervised']}" if "supervised" in metrics else ""
        print_line(f"{reference}: {metrics['retrieval_measure']} {metrics['retrieval']:.3f}{told}")


def _trained(training: Training, data: Dataset, draft: Path) -> None:
    """Train into the new folder `draft`, under a progress bar. Raises `CommandError` where an item cannot be read."""
    from models.errors import InvalidInput

    from ..training import train

    try:
        follow(f"training {training.name}", train(training, data, draft))
    except InvalidInput as error:
        raise CommandError(f"{error}. Mend or remove it, or pass --skip-bad") from None


def _asked(training: Training, collection: str | None, label: str) -> dict[str, Any]:
    """The body of POST /train."""
    asked = {**vars(training), "params": dict(training.params), "data": {"collection": collection, "label": label}}
    if training.pairs is not None:
        asked["pairs"] = [{"a": {"id": a}, "b": {"id": b}, "same": same} for a, b, same in training.pairs]
    return asked


def parameter(text: str) -> tuple[str, Any]:
    """What `--set name=value` says; the value as JSON where it is some."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"write name=value; got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
