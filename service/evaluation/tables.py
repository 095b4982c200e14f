"""The rows of an evaluation as two tables that fit 160 columns: what is ranked first, and what lies within a radius."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from models.retrieval.judge import RADII

from .rows import Row


def tables(rows: Sequence[Row], ks: Sequence[int], title: str) -> Iterator[Table]:
    """Measures of `rows` side by side; those that could not be had of any row are left out."""
    ranked = _table(title)
    firsts = {name: label for k in ks for name, label in ((f"precision@{k}", f"P@{k}"), (f"tie {k}", "worst-best"))}
    firsts |= {"map@1000": "mAP@1000", "map@all": "mAP@all"}
    firsts |= {"neighbours@4x": "recall@10 4x", "neighbours@4x_soft": "after soft rerank"}
    firsts |= {"training_s": "training s", "bits_per_s": "Mbit/s"}
    known = {name for row in rows for name in row.scores}
    known |= {f"tie {k}" for k in ks if f"precision@{k}_worst" in known}
    shown = [name for name in firsts if name in known]
    for name in shown:
        ranked.add_column(firsts[name], justify="right")
    radii = [radius for radius in RADII if f"precision_at_radius_{radius}" in known]
    heading = "within a Hamming radius: precision, recall, share of empty answers; " if radii else ""
    within = _table(f"{heading}health of the bits")
    for radius in radii:
        within.add_column(f"radius {radius}", justify="right")
    for label in ("balance", "correlation", "distinct"):
        within.add_column(label, justify="right")
    for row in rows:
        head = row.name, str(row.bits or "")
        ranked.add_row(*head, *(_cell(row, name) for name in shown))
        if row.bits is not None:
            health = [_share(row.scores[name]) for name in ("bit_balance", "bit_correlation", "distinct_codes")]
            within.add_row(*head, *(_within(row, radius) for radius in radii), *health)
    yield ranked
    if within.row_count:
        yield within


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), title_style="bold")
    table.add_column("family or model")
    table.add_column("bits", justify="right")
    return table


def _cell(row: Row, name: str) -> str:
    scores, deviations = row.scores, row.deviations
    if name.startswith("tie "):
        k = name.removeprefix("tie ")
        ends = [scores.get(f"precision@{k}_{end}") for end in ("worst", "best")]
        return "" if None in ends else "-".join(_share(end) for end in ends if end is not None)
    if name not in scores:
        return ""
    if name == "training_s":
        return f"{scores[name]:.2g}" if scores[name] < 10 else f"{scores[name]:.0f}"
    if name == "bits_per_s":
        return f"{scores[name] / 1e6:.3g}"
    return _share(scores[name]) + (f" ±{_share(deviations[name])}" if name in deviations else "")


def _within(row: Row, radius: int) -> str:
    precision, recall, empty = (row.scores[f"{name}_at_radius_{radius}"] for name in ("precision", "recall", "empty"))
    return f"{_share(precision)} {_share(recall)} {100 * empty:4.1f}%"


def _share(value: float) -> str:
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text
