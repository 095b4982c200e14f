"""What a benchmark found: rows, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant's answers to one kind of question.

    Ratios are of both on the same queries of the same run, and above 1 praises the one in their name: `p50_vs_flat` is
    FAISS Flat's median divided by this contestant's, `ours_p50` this contestant's divided by ours.
    """

    what: str
    contestant: str
    items: int
    bits: int
    queries: int  # calls: of a query each, or of a whole batch
    p50_us: float
    p99_us: float
    p50_vs_flat: float
    p99_vs_flat: float
    ours_p50: float | None  # None for ours, and where ours was not asked
    ours_p99: float | None
    exact: bool  # claims that every answer is right
    wrong: int  # answers that were not
    recall: float

    @property
    def broken(self) -> bool:
        """Whether it claims to be exact and is not."""
        return self.exact and self.wrong > 0

    @property
    def answers(self) -> str:
        if self.broken:
            return f"**WRONG** {self.wrong} of {self.queries}"
        return "exact" if self.exact else f"recall {self.recall:.3f}"


@dataclass(frozen=True, slots=True)
class Build:
    """What it took to build one contestant."""

    contestant: str
    items: int
    bits: int
    seconds: float
    bytes_per_item: float  # by which the process grew, codes included


@dataclass(frozen=True, slots=True)
class Report:
    """A whole benchmark."""

    facts: dict[str, str]  # of the machine, the libraries and the codes
    rows: Sequence[Row]
    builds: Sequence[Build]
    notes: Sequence[str]  # who is missing and why, and who was asked less

    @property
    def broken(self) -> list[Row]:
        """The rows of those who claim to be exact and are not."""
        return [row for row in self.rows if row.broken]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "facts": self.facts,
            "rows": [{**asdict(row), "broken": row.broken} for row in self.rows],
            "builds": [asdict(build) for build in self.builds],
            "notes": list(self.notes),
            "broken": bool(self.broken),
        }

    def markdown(self) -> list[str]:
        """Lines of GitHub's Markdown: a table for each question and number of items."""
        lines = [f"- {name}: {value}" for name, value in self.facts.items()]
        for what, items, bits in dict.fromkeys((row.what, row.items, row.bits) for row in self.rows):
            rows = [row for row in self.rows if (row.what, row.items, row.bits) == (what, items, bits)]
            lines += ["", f"### {what}; {items:,} x {bits} bits", "", *_answered(rows)]
        lines += ["", "### Memory and building", "", *_built(self.builds), ""]
        lines += [f"- {note}" for note in self.notes]
        broken = dict.fromkeys(f"{row.contestant} ({row.what})" for row in self.broken)
        if broken:
            lines += ["", f"**WRONG ANSWERS** by who claims to be exact: {', '.join(broken)}"]
        return lines


_HEAD = (
    "contestant | p50 us | p99 us | p50 faster than Flat | p99 | p50 of ours faster than it | p99 | queries | answers"
)
_BUILT = "contestant | items | bits | resident bytes an item | seconds to build"


def _answered(rows: Iterable[Row]) -> list[str]:
    cells = (
        (
            row.contestant,
            *(_number(micros) for micros in (row.p50_us, row.p99_us)),
            *(_times(ratio) for ratio in (row.p50_vs_flat, row.p99_vs_flat, row.ours_p50, row.ours_p99)),
            f"{row.queries:,}",
            row.answers,
        )
        for row in rows
    )
    return table(_HEAD, cells)


def _built(builds: Iterable[Build]) -> list[str]:
    cells = (
        (one.contestant, f"{one.items:,}", str(one.bits), f"{one.bytes_per_item:.1f}", f"{one.seconds:.2f}")
        for one in builds
    )
    return table(_BUILT, cells)


def table(head: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """The first column is text, all others are numbers."""
    aligned = ["---"] + ["---:"] * head.count("|")
    return [f"| {head} |", *(f"| {' | '.join(cells)} |" for cells in (aligned, *rows))]


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    digits = 0 if ratio >= 10 else 2 if ratio >= 0.1 else 4
    return f"{ratio:,.{digits}f}x"
