"""The rows of an evaluation as pictures. Needs matplotlib, which comes with the extra `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import InvalidParams
from models.retrieval.oversampling import FACTORS

from .rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    _Draw = Callable[[Axes, Sequence[Row], int], None]

_SIZE = (7.0, 5.0)
_DPI = 120


def check() -> None:
    """Raise `InvalidParams`, saying what to install, where there is no matplotlib."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise InvalidParams("plots need matplotlib: pip install 'hammingbird[evaluate]'") from None


def draw(rows: Sequence[Row], k: int, title: str, folder: Path) -> list[Path]:
    """Write the pictures to `folder` as PNG and return their paths.

    With labels: precision against recall, against the radius and against bits. Without: the share of the nearest items
    in input space among the candidates, against how many are fetched, and against bits. Models trained with labels are
    in pictures of their own, whose names end in `-with-labels`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for labels, suffix in ((False, ""), (True, "-with-labels")):
        shown = [row for row in rows if row.bits is not None and row.labels == labels]
        if not shown:
            continue
        ceilings = [row for row in rows if row.bits is None]
        kinds = _BY_LABEL if shown[0].curves else _BY_NEIGHBOURS
        named = f"{title}, trained {'with' if labels else 'without'} labels"
        written += [
            _picture(folder / f"{name}{suffix}.png", named, draw_on, [*ceilings, *shown], k)
            for name, draw_on in kinds.items()
        ]
    return written


def _picture(path: Path, title: str, draw_on: _Draw, rows: Sequence[Row], k: int) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # pixels only: there may be no display
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_on(axes, rows, k)
    axes.set_title(title, fontsize="small", wrap=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, format="png")
    return path


def _precision_recall(axes: Axes, rows: Sequence[Row], k: int) -> None:
    for row in rows:
        style = "--" if row.bits is None else "-"
        axes.plot(row.curves["recall"], row.curves["precision"], style, label=_label(row))
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))


def _precision_radius(axes: Axes, rows: Sequence[Row], k: int) -> None:
    for row in _codes(rows):
        axes.plot(row.curves["radius_precision"], ".-", label=_label(row))
    axes.set(xlabel="Hamming radius", ylabel="precision within it (an empty answer counts 0)", ylim=(0, 1))


def _precision_bits(axes: Axes, rows: Sequence[Row], k: int) -> None:
    _against_bits(axes, rows, f"precision@{k}")
    for row, style in zip([row for row in rows if row.bits is None], cycle(("--", ":", "-.")), strict=False):
        axes.axhline(row.scores[f"precision@{k}"], linestyle=style, color="grey", label=row.name)
    axes.set(xlabel="bits", ylabel=f"precision@{k}, in expectation over ties")


def _recall_oversampling(axes: Axes, rows: Sequence[Row], k: int) -> None:
    for row in _codes(rows):
        for suffix, style in (("", ".-"), ("_soft", ".--")):
            values = [row.scores[f"neighbours@{factor}x{suffix}"] for factor in FACTORS]
            axes.plot(FACTORS, values, style, label=_label(row) + (", soft rerank" if suffix else ""))
    axes.set(xlabel="candidates fetched, in tens", ylabel="recall of the 10 nearest in input space", ylim=(0, 1))


def _recall_bits(axes: Axes, rows: Sequence[Row], k: int) -> None:
    _against_bits(axes, rows, "neighbours@4x")
    axes.set(xlabel="bits", ylabel="recall@10 at 4x oversampling")


def _against_bits(axes: Axes, rows: Sequence[Row], measure: str) -> None:
    """A line for each family, with the standard deviation over its trainings."""
    for name in dict.fromkeys(row.name for row in _codes(rows)):
        line = sorted((row for row in rows if row.name == name), key=lambda row: row.bits or 0)
        axes.errorbar(
            [row.bits or 0 for row in line],
            [row.scores[measure] for row in line],
            [row.deviations.get(measure, 0.0) for row in line],
            fmt=".-", capsize=3, label=name,
        )  # fmt: skip
    widths = sorted({row.bits or 0 for row in _codes(rows)})
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()


def _codes(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.bits is not None]


def _label(row: Row) -> str:
    return row.name + (f" {row.bits} bits" if row.bits else "")


_BY_LABEL = {
    "precision-recall": _precision_recall,
    "precision-radius": _precision_radius,
    "precision-bits": _precision_bits,
}
_BY_NEIGHBOURS = {"recall-oversampling": _recall_oversampling, "recall-bits": _recall_bits}
