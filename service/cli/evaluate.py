"""hammingbird evaluate"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .base import DEFAULT_DATA_DIR, FAILED, AsJson, DataDir, app, console, friendly, load_data, print_json, say, width
from .completion import a_family, a_model
from .progress import follow
from .train import parameter

if TYPE_CHECKING:
    from models.data import Dataset
    from models.retrieval.judge import Judge
    from models.retrieval.protocol import Protocol

    from ..evaluation.rows import Row

_LEGEND = """P@k: expected over ties, worst-best: at the unluckiest and luckiest way of breaking them. mAP: ties in an
order drawn once with seed 0. recall@10 4x: share of the 10 nearest of the float input among the 40 nearest codes, and
among the best 40 of the 400 nearest by soft distance. ±: standard deviation over seeds. Mbit/s: million bits encoded a
second, preprocessing included. balance and distinct are best at 1, correlation at 0. docs/quality.md says more."""

_FAMILIES = ["lsh", "pca-sign", "itq", "binary-autoencoder"]


@app.command()
@friendly
def evaluate(
    data: Annotated[
        list[str] | None,
        typer.Option(help="A built-in name, a file or a folder: the database, and what is trained on. Default: digits"),
    ] = None,
    queries: Annotated[
        str | None, typer.Option(help="Items to search for, never trained on: a source like --data.")
    ] = None,
    split: Annotated[
        Literal["random"] | None, typer.Option(help="random: 80 % database and training, 10 % unused, 10 % queries.")
    ] = None,
    query_limit: Annotated[
        int | None, typer.Option(help="At most so many queries, spread evenly over all.", min=1)
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="Family to train; repeatable.", autocompletion=a_family)
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Trained model to load, as name or name:version; repeatable.", autocompletion=a_model),
    ] = None,
    bits: Annotated[
        list[str] | None, typer.Option(help="Width of the codes, or auto; repeatable. Default: 32, 64")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each, with seeds 0, 1, ...", min=1)] = 3,
    k: Annotated[
        list[int] | None, typer.Option("-k", help="Precision among so many nearest; repeatable. Default: 10", min=1)
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A parameter, as name=value; repeatable.")] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Let training see the labels; reported apart.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads to compute with; all cores by default.", min=1)] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for pictures (PNG); needs the extra 'evaluate'.")] = None,
    suite: Annotated[
        Literal["retrieval", "families", "sheets"],
        typer.Option(help="retrieval compares codes, families proves every system by its own metric, sheets draws."),
    ] = "retrieval",
    only: Annotated[
        list[str] | None, typer.Option(help="With --suite families: run only this proof; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="With --suite sheets: folder for a picture of each family.")] = Path(
        "sheets"
    ),
    jobs: Annotated[int, typer.Option(help="With --suite families: proofs at a time, a core each.", min=1)] = 2,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare families on retrieval.

    Example: hammingbird evaluate --data digits --bits 32 --bits 64

    Protocol: every item is searched against all others by its code, unless --queries or --split say otherwise; a hit is
    an item of the same label. docs/quality.md defines every measure. Training sees no label, not even to choose the
    epoch, unless --labels is given. Without labels what remains is how many of the nearest items in input space are
    found again.

    With --suite families every system is trained and held against the threshold of its own metric; --data then names
    a set of images, of texts or of sounds to do it on (repeatable), and what is not named is a built-in one. The exit
    code is 1 where a threshold was missed. With --suite sheets every family is trained on images or sounds, and what it
    makes of held-out ones is written as a picture or as WAV files.
    """
    from models.errors import DataError, InvalidParams

    if suite != "retrieval":
        from .proofs import draw, prove

    if suite == "families":
        if not prove(data or [], only or [], seeds, jobs, as_json):
            raise typer.Exit(FAILED)
        return
    if data is not None and len(data) > 1:
        raise DataError(f"the suite {suite} takes one data set at a time")
    source = data[0] if data else "digits"
    if suite == "sheets":
        draw(source, family or [], out, 0)
        return

    from models.retrieval.judge import Judge
    from models.specs import InputParams

    from ..evaluation import plots as pictures
    from ..evaluation import rows as measured

    if queries is not None and split is not None:
        raise InvalidParams("--queries and --split are two protocols; give one of them")
    if plots is not None:
        pictures.check()
    names = family or ([] if model else _FAMILIES)
    widths = [width(text) for text in bits or ["32", "64"]]
    planned = measured.plan(names, widths, dict(map(parameter, set_ or [])), seeds, labels=labels)
    items = load_data(source)
    if labels and items.labels is None:
        raise DataError(f"{source!r} has no labels to train with; leave --labels out")
    params = planned[0][0].input_params() if planned else InputParams()
    with measured.threads(threads) as used, params.remembering():
        protocol = _protocol(items, queries, split)
        planned, chosen = measured.settled(planned, protocol.database)
        if chosen is not None:
            say(chosen.why)
        judge = Judge(protocol if query_limit is None else protocol.limited(query_limit), k or [10], params)
        rows = measured.ceilings(judge)
        rows += [measured.loaded(judge, data_dir, reference) for reference in model or []]
        rows += measured.on_lsa(judge, planned, follow)
        rows += [measured.trained(judge, row, follow, labels=labels) for row in planned]
    if plots is not None:
        for path in pictures.draw(rows, judge.ks[0], f"{items.name}, protocol {protocol.name}", plots):
            say(f"wrote {path}")
    about: dict[str, Any] = {"data": source, "items": len(items), "seeds": seeds, "threads": used}
    if chosen is not None:
        about["bits_chosen"] = chosen.as_dict()
    _show(judge, rows, about, as_json)


def _protocol(items: Dataset, queries: str | None, split: str | None) -> Protocol:
    from models.retrieval import protocol

    if queries is not None:
        return protocol.held_out(items, load_data(queries))
    return protocol.all_against_all(items) if split is None else protocol.random_split(items)


def _show(judge: Judge, rows: Sequence[Row], about: dict[str, Any], as_json: bool) -> None:
    from models.retrieval.judge import DEFINITIONS

    from ..evaluation.tables import tables

    protocol = judge.protocol
    unsupervised, supervised = [row for row in rows if not row.labels], [row for row in rows if row.labels]
    about |= {
        "kind": protocol.database.kind, "protocol": protocol.name, "description": protocol.description,
        "database": len(protocol.database), "queries": len(protocol.queries), "k": list(judge.ks),
    }  # fmt: skip
    if as_json:
        parts = {"rows": unsupervised, "rows_with_labels": supervised}
        about |= {name: [row.as_dict() for row in part] for name, part in parts.items()}
        print_json(about | {"definitions": DEFINITIONS})
        return
    lines = (
        f"{protocol.database.name}, protocol {protocol.name}: {protocol.description}",
        f"{about['queries']:,} queries, {about['database']:,} in the database; {about['seeds']} seeds, "
        f"{about['threads']} threads",
    )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    for part, heading in ((unsupervised, "trained without labels"), (supervised, "trained with labels")):
        for table in tables(part, judge.ks, heading) if part else ():
            console.print(table)
    console.print(_LEGEND, highlight=False, markup=False, soft_wrap=True)
