"""hammingbird evaluate"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from .base import app, console, follow, friendly, load_data, print_json
from .proofs import draw, prove

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.data import Dataset

_FAMILIES = ["lsh", "pca-sign", "itq", "binary-autoencoder"]


@app.command()
@friendly
def evaluate(
    data: Annotated[
        list[str] | None,
        typer.Option(help="A built-in name, a file or a folder, with labels; digits when left out."),
    ] = None,
    suite: Annotated[
        str,
        typer.Option(help="retrieval compares codes, families proves every system by its own metric, sheets draws."),
    ] = "retrieval",
    family: Annotated[list[str] | None, typer.Option(help="Family to train; repeatable.")] = None,
    bits: Annotated[list[int] | None, typer.Option(help="Width of the codes; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each, with seeds 0, 1, ...", min=1)] = 3,
    k: Annotated[int, typer.Option("-k", help="Precision among so many nearest.", min=1)] = 10,
    only: Annotated[
        list[str] | None, typer.Option(help="With --suite families: run only this proof; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="With --suite sheets: folder for a picture of each family.")] = Path(
        "sheets"
    ),
    jobs: Annotated[int, typer.Option(help="With --suite families: proofs at a time, a core each.", min=1)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Compare families on retrieval. Example: hammingbird evaluate --data digits --bits 32 --bits 64

    Protocol: every item is searched against all others by its code; a hit is an item of the same label. precision@k is
    the expectation over all ways of breaking ties. Training sees no labels but to choose the epoch, on a held-out tenth
    of the items; "held out" is the precision@10 of that tenth searched among the rest.

    With --suite families every system is trained and held against the threshold of its own metric; --data then names
    a set of images, of texts or of sounds to do it on (repeatable), and what is not named is a built-in one. The exit
    code is 1 where a threshold was missed. With --suite sheets every family is trained on images or sounds, and what it
    makes of held-out ones is written as a picture or as WAV files.
    """
    from models.errors import DataError, InvalidParams

    if suite == "families":
        if not prove(data or [], only or [], seeds, jobs, as_json):
            raise typer.Exit(1)
        return
    if suite not in ("retrieval", "sheets"):
        raise InvalidParams(f"there is no suite {suite[:64]!r}; known are retrieval, families, sheets")
    if data is not None and len(data) > 1:
        raise DataError(f"the suite {suite} takes one data set at a time")
    source = data[0] if data else "digits"
    if suite == "sheets":
        draw(source, family or [], out, 0)
        return
    items = load_data(source)
    if items.labels is None:
        raise DataError(f"{source!r} has no labels to judge retrieval by")
    rows = [_float_row(items, k)]
    rows += [_row(items, name, width, seeds, k) for width in bits or [32, 64] for name in family or _FAMILIES]
    if as_json:
        print_json({"data": source, "items": len(items), "protocol": "all-against-all, tie-aware", "rows": rows})
        return
    table = Table(
        "family", "bits", f"precision@{k}", "+-", "held out", "bit balance", "correlation", "distinct", "seconds",
        title=f"{items.name}: {len(items)} items, each against all others, ties in expectation, {seeds} seeds",
    )  # fmt: skip
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _relevance(items: Dataset) -> NDArray[np.bool_]:
    from models import measure

    labels = np.array(items.labels, np.str_)
    return measure.same_label(labels, labels)


def _float_row(items: Dataset, k: int) -> dict[str, Any]:
    """The ceiling of the raw features: Euclidean distance in input space."""
    from models.inputs import INPUTS
    from models.neighbours import nearest

    rows = INPUTS[items.kind].fit(items.items).rows(items.items)
    near = nearest(rows, rows, k, themselves=np.arange(len(rows)))
    precision = float(np.take_along_axis(_relevance(items), near, axis=1).mean())
    return _columns("float L2", None, [precision], None, None, None, None, None)


def _row(items: Dataset, family: str, bits: int, seeds: int, k: int) -> dict[str, Any]:
    from models import measure
    from models.base import build
    from models.inputs import INPUTS
    from models.train import TrainConfig, Trainer

    relevant, scores, held, healths, seconds = _relevance(items), [], [], [], 0.0
    for seed in range(seeds):
        started = time.perf_counter()
        model = build(family, INPUTS[items.kind].fit(items.items), bits, {}, seed=seed)
        trainer = Trainer(model, TrainConfig(seed=seed))
        follow(f"{family} {bits} bits, seed {seed}", trainer.fit(items.items, items.labels))
        seconds += time.perf_counter() - started
        codes = np.packbits(model.logits(items.items) > 0, axis=1)
        scores.append(
            measure.precision_at_k(codes, codes, relevant, k, leave_out=np.arange(len(codes), dtype=np.int64))
        )
        held.append(trainer.metrics["retrieval"])
        healths.append(measure.bit_health(codes))
    return _columns(
        family,
        bits,
        scores,
        float(np.mean(held)),
        float(np.mean([health.balance for health in healths])),
        float(np.mean([health.correlation for health in healths])),
        float(np.mean([health.distinct for health in healths])),
        seconds / seeds,
    )


def _columns(
    family: str,
    bits: int | None,
    scores: list[float],
    held_out: float | None,
    balance: float | None,
    correlation: float | None,
    distinct: float | None,
    seconds: float | None,
) -> dict[str, Any]:
    return {
        "family": family,
        "bits": bits,
        "precision": float(np.mean(scores)),
        "deviation": float(np.std(scores)) if len(scores) > 1 else None,
        "held_out": held_out,
        "bit_balance": balance,
        "bit_correlation": correlation,
        "distinct_codes": distinct,
        "seconds": seconds,
    }
