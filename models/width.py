"""How many bits: a width proposed from the size of the data and what its neighbourhoods are like.

Items of a sample are hashed in closed form (ITQ) at several widths, and held-out ones search the others: how many of
their 10 nearest in input space are among the 40 nearest codes. Proposed is the least width of which no larger one finds
1 more in a hundred for each further byte an item, and which tells as many items apart as there are: going by the share
of pairs in the sample that have one code, at most one other item has that of an item. Where labels are to be learned
from, codes are to find items of the same label instead.

A learned hash finds more than this linear one at every width, and needs rather fewer bits than are proposed: what was
measured stands in `docs/training.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch import Tensor
from torch.nn.functional import pad

from . import measure, neighbours
from .inputs import InputSpec, Rows
from .parts.rotation import itq
from .readers import Items

WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256)
WORTH = 0.01
"""What a further byte an item must bring: 1 more in a hundred of what is to be found."""

_SAMPLE, _QUERIES = 6000, 1000
_NUMBERS = 64_000_000
"""Numbers of a sample in memory at once: fewer items are taken where each has many."""
_K, _AMONG = 10, 40
_ROUNDS = 25
_FEWEST = 10
"""Labelled queries, under which a figure by label would be chance."""

Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class Width:
    """A proposed number of bits, and what it comes from.

    found: by width, the share of what is to be found that is found in the sample. sharing: how many others of all the
    items have the code of an item, on average. dimension: of neighbourhoods, None where too few items are distinct.
    """

    bits: int
    why: str
    items: int
    sampled: int
    measure: str
    found: dict[int, float]
    sharing: float
    dimension: float | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        found = {str(width): round(share, 4) for width, share in self.found.items()}
        dimension = None if self.dimension is None else round(self.dimension, 1)
        return {**vars(self), "found": found, "sharing": round(self.sharing, 6), "dimension": dimension}


def propose(items: Items, input: InputSpec, labels: Sequence[str | None] | None = None, *, seed: int = 0) -> Width:
    """The width for `items`, which `input` takes: the same for the same seed, in seconds whatever their number.

    labels: what codes are to find, one an item, None where it has none; None: what is nearest in input space.
    """
    order = np.random.default_rng(seed)
    most = min(len(items), _SAMPLE, max(_QUERIES, _NUMBERS // input.size))
    places = order.choice(len(items), most, replace=False)
    rows = input.rows(items[places] if isinstance(items, np.ndarray) else [items[place] for place in places])
    asked = min(_QUERIES, max(1, len(rows) // 5))
    queries, database = rows.subset(np.arange(asked)), rows.subset(np.arange(asked, len(rows)))
    latents = _latents(rows, asked, seed)
    by_label = None if labels is None else _by_label([labels[place] for place in places], asked)
    name, judge = by_label or _by_neighbours(queries, database)
    found: dict[int, float] = {}
    alike: dict[int, float] = {}
    for width in WIDTHS:
        codes = _codes(latents, asked, width, seed)
        found[width] = judge(codes[:asked], codes[asked:])
        alike[width] = _alike(codes[asked:], latents[asked:])
    sharing = {width: (len(items) - 1) * share for width, share in _carried_on(alike).items()}
    bits = _least(found, sharing)
    dimension = _dimension(queries, database)
    why = _why(bits, found, sharing, len(items), len(rows), dimension, by_label is not None)
    return Width(bits, why, len(items), len(rows), name, found, sharing[bits], dimension)


def _least(found: dict[int, float], sharing: dict[int, float]) -> int:
    """The least width that is worth its bytes and tells the items apart."""
    apart = max(1.0, 2 * sharing[WIDTHS[-1]])  # what no width tells apart asks for no bits
    for width in WIDTHS[:-1]:
        worth = any((found[more] - found[width]) / ((more - width) / 8) >= WORTH for more in WIDTHS if more > width)
        if not worth and sharing[width] <= apart:
            return width
    return WIDTHS[-1]


def _why(
    bits: int,
    found: dict[int, float],
    sharing: dict[int, float],
    items: int,
    sampled: int,
    dimension: float | None,
    by_label: bool,
) -> str:
    what = "of what is found has the same label" if by_label else "of the nearest items are found"
    more = next((width for width in WIDTHS if width > bits), None)
    crowded = any(sharing[width] > 1 for width in WIDTHS[: WIDTHS.index(bits)][-1:])
    like = "" if dimension is None else f" in neighbourhoods of about {dimension:.0f} dimensions"
    return (
        f"{bits} bits, {bits // 8} bytes an item: {found[bits]:.0%} {what}"
        + (f", with {more} bits {found[more]:.0%}, and none finds 1 % more for each further byte" if more else "")
        + f", by a linear hash among {sampled:,} items. Of all {items:,}{like}, {_few(sharing[bits])} others have "
        + "the code of an item on average"
        + (", and more than one with fewer bits." if crowded else ".")
    )


def _few(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}" if number >= 0.01 else "less than 0.01"


# -- a linear hash at every width ----------------------------------------------------------------------------------


def _latents(rows: Rows, asked: int, seed: int) -> Tensor:
    """The rows `(n, k)` along the principal axes of those that are searched, as many as the largest width has bits."""
    most = min(WIDTHS[-1], len(rows) - asked, rows.data[:1].size if not issparse(rows.data) else rows.data.shape[1])
    if issparse(rows.data):
        from sklearn.utils.extmath import randomized_svd  # here, as it is slow to import and only texts need it

        _, _, axes = randomized_svd(rows.data[asked:], n_components=most, n_iter=2, random_state=seed % 2**32)
        latents = torch.from_numpy(np.asarray(rows.data @ axes.T, np.float32))
        return latents - latents[asked:].mean(0)
    x = rows.take(np.arange(len(rows))).flatten(1)
    x = x - x[asked:].mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, _, axes = torch.svd_lowrank(x[asked:], q=most, niter=3)
    return x @ axes


def _codes(latents: Tensor, asked: int, width: int, seed: int) -> Codes:
    """The packed codes `(n, width / 8)` of ITQ, its rotation found on those that are searched."""
    z = pad(latents[:, :width], (0, max(0, width - latents.shape[1])))
    rotation = itq(z[asked:], torch.Generator().manual_seed(seed), rounds=_ROUNDS)
    return np.packbits((z @ rotation > 0).numpy(), axis=1)


# -- what is found -------------------------------------------------------------------------------------------------

Judge = Callable[[Codes, Codes], float]


def _by_label(labels: Sequence[str | None], asked: int) -> tuple[str, Judge] | None:
    known = np.array([label is not None for label in labels])
    queries, database = np.flatnonzero(known[:asked]), np.flatnonzero(known[asked:])
    if len(queries) < min(_FEWEST, asked) or not len(database):
        return None
    names = np.array([label or "" for label in labels])
    relevant = measure.same_label(names[:asked][queries], names[asked:][database])
    return (
        f"precision@{_K} by label",
        lambda q, d: measure.precision_at_k(q[queries], d[database], relevant, _K),
    )


def _by_neighbours(queries: Rows, database: Rows) -> tuple[str, Judge]:
    near = neighbours.nearest(queries, database, min(_K, len(database)))
    relevant = np.zeros((len(queries), len(database)), np.bool_)
    np.put_along_axis(relevant, near, True, axis=1)
    among = min(_AMONG, len(database))
    return (
        f"share of the {_K} nearest in input space among the {_AMONG} nearest codes",
        lambda q, d: measure.precision_at_k(q, d, relevant, among) * among / near.shape[1],
    )


# -- telling items apart -------------------------------------------------------------------------------------------


def _alike(codes: Codes, latents: Tensor) -> float:
    """The share of pairs of items that are not the same but have the same code."""
    _, of = np.unique(latents.numpy().round(5), axis=0, return_inverse=True)
    distinct = len(of) ** 2 - float(np.square(np.bincount(of.ravel())).sum())
    _, of_code = np.unique(codes, axis=0, return_inverse=True)
    pairs = float(np.square(np.bincount(of_code.ravel())).sum()) - float(np.square(np.bincount(of.ravel())).sum())
    return pairs / distinct if distinct else 0.0


def _carried_on(alike: dict[int, float]) -> dict[int, float]:
    """Where no pair was seen, what is to be expected: each further bit halves as it did up to there, on average."""
    out: dict[int, float] = {}
    seen = 0, 1.0
    for width, share in alike.items():
        if share > 0:
            seen = width, share
            out[width] = share
        else:
            at, last = seen
            out[width] = last ** (width / at) if at else 0.0
    return out


def _dimension(queries: Rows, database: Rows) -> float | None:
    """How many dimensions neighbourhoods have, by how much farther the second nearest is than the nearest.

    The maximum likelihood of TwoNN (Facco et al., Scientific Reports 7, 2017).
    """
    near = neighbours.nearest(queries, database, 2)
    if near.shape[1] < 2:
        return None
    x = queries.take(np.arange(len(queries))).flatten(1)
    d = torch.stack([(database.take(near[:, at]).flatten(1) - x).norm(dim=1) for at in (0, 1)]).sort(0).values.double()
    apart = (d[0] > 1e-6) & (d[1] > d[0])
    return float(apart.sum() / (d[1] / d[0])[apart].log().sum()) if int(apart.sum()) >= _FEWEST else None
