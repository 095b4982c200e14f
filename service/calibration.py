"""What a radius means: of what a search finds within it, how much is right, and how much of what is right it finds.

Each query is a cluster: what it finds is not independent, so a share of all results pooled has the variance of a ratio
of sums over queries, not that of so many coin tosses. The interval is Clopper and Pearson's with the effective number
of results in place of the number (Korn and Graubard, Survey Methodology 24, 1998): exact where results are independent,
wider where they are not. Where all results are right, or none, each query counts as one.

The radii are chosen by one half of the queries; the other half says how the choice holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from index import Collection

from .errors import NoCalibration, NotCalibrated, PrecisionOutOfReach

CONFIDENCE = 0.95
"""Of the two-sided intervals: the lower bound alone holds at 0.975."""

Counts = NDArray[np.int64]


def interval(right: Counts, found: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The share of right results and its interval: low and high.

    right, found: `(queries, radii)`, of each query at each radius. Returns three arrays `(radii,)`, NaN where nothing
    was found.
    """
    clusters = (found > 0).sum(axis=0)
    n, x = found.sum(axis=0), right.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = x / n
        spread = ((right - share * found) ** 2).sum(axis=0)
        variance = clusters / (clusters - 1) * spread / n.astype(float) ** 2
        effective = share * (1 - share) / variance
        tail = 1 - (1 - CONFIDENCE) / 2
        effective *= (stdtrit(n - 1, tail) / stdtrit(clusters - 1, tail)) ** 2
        effective = np.where(np.isfinite(effective), np.clip(effective, 1, n), clusters)
        hits = share * effective
        low = np.where(hits > 0, betaincinv(hits, effective - hits + 1, 1 - tail), 0.0)
        high = np.where(hits < effective, betaincinv(hits + 1, effective - hits, tail), 1.0)
    return share, np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def curve_of(
    right: Counts, found: Counts, relevant: Counts, results: Counts, half: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """One row a radius, up to the least at which nothing more is found.

    right, found: `(queries, radii)`, the right results of each query within each radius, and all of which it is known
    whether they are. relevant: `(queries,)`, what is right at any distance. results: `(any queries, radii)`, all that
    a search finds. half `(queries,)`: the queries that the curve comes from; the others check it.
    """
    share, low, high = interval(right[half], found[half])
    everything = np.broadcast_to(relevant[half][:, None], right[half].shape)
    recall, recall_low, recall_high = interval(right[half], everything)
    checked, checked_low, checked_high = interval(right[~half], found[~half])
    mean = results.mean(axis=0)
    last = int(np.argmax((found == found[:, -1:]).all(axis=0) & (mean == mean[-1])))
    return [
        {
            "radius": radius,
            "precision": _rounded(share[radius]),
            "precision_low": _rounded(low[radius]),
            "precision_high": _rounded(high[radius]),
            "recall": _rounded(recall[radius]),
            "recall_low": _rounded(recall_low[radius]),
            "recall_high": _rounded(recall_high[radius]),
            "results": round(float(mean[radius]), 3),
            "pairs": int(found[half][:, radius].sum()),
            "held_out": {
                "precision": _rounded(checked[radius]),
                "precision_low": _rounded(checked_low[radius]),
                "precision_high": _rounded(checked_high[radius]),
                "pairs": int(found[~half][:, radius].sum()),
            },
        }
        for radius in range(last + 1)
    ]


def _rounded(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


NOTE = "calibration"


def note_of(fingerprint: str | None) -> str:
    """The name under which a collection keeps the calibration for the model of that fingerprint."""
    return f"{NOTE}/{fingerprint}"


def known(collection: Collection) -> Mapping[str, Any] | None:
    """The calibration for the model that serves, where there is one."""
    model = collection.config.model
    return collection.noted(note_of(model.fingerprint if model else None))


def kept(collection: Collection) -> Mapping[str, Any]:
    """The same. Raises `NoCalibration`."""
    found = known(collection)
    if found is None:
        raise NoCalibration(
            f"collection {collection.name!r} has no calibration for the model that serves; "
            "POST /collections/{collection}/calibrate makes one"
        )
    return found


def radius_for(collection: Collection, target: float) -> tuple[int, str | None]:
    """The largest radius whose precision is, by the lower bound of its interval, at least `target`; and the fingerprint
    of the model for which that was measured.

    Raises `NotCalibrated`, or `PrecisionOutOfReach` naming the best that there is.
    """
    model = collection.config.model
    fingerprint = model.fingerprint if model else None
    calibration = collection.noted(note_of(fingerprint))
    if calibration is None:
        raise NotCalibrated(
            f"collection {collection.name!r} is not calibrated for the model that serves, so nobody knows what "
            "precision a radius has; POST /collections/{collection}/calibrate measures it, or search by radius"
        )
    found = best_radius(calibration["curve"], target)
    if found is None:
        best = max(_certain(calibration["curve"]), key=lambda row: float(row["precision_low"]))
        raise PrecisionOutOfReach(
            f"no radius of collection {collection.name!r} has a precision of {target} for certain; the best is radius "
            f"{best['radius']} with {best['precision']:.3f} (at least {best['precision_low']:.3f} at {CONFIDENCE:.0%} "
            "confidence). Ask for less, calibrate with more queries, search by radius, or train a better model",
            [("/target_precision", f"at most {best['precision_low']:.3f}")],
        )
    return found, fingerprint


def best_radius(curve: Sequence[Mapping[str, Any]], target: float) -> int | None:
    """The largest radius whose precision is, by the lower bound of its interval, at least `target`."""
    return max((int(row["radius"]) for row in _certain(curve) if row["precision_low"] >= target), default=None)


def _certain(curve: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in curve if row["precision_low"] is not None]
