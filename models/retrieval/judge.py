"""A model put through a protocol: one number for each measure, and the curves behind them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import measure
from ..base import Model
from ..readers import Items
from ..specs import InputParams, fit_input
from . import exact
from .oversampling import FACTORS, NEIGHBOURS, POOL, by_hamming, by_soft_rerank
from .protocol import Protocol
from .ranking import Ranking

RADII = (0, 1, 2, 3, 4)
_TIE_SEED = 0
_ENCODED = 1024
"""Items encoded at a time."""
_POINTS = 40
"""Points of a precision-recall curve."""

DEFINITIONS: Mapping[str, str] = {
    "precision@k": "share of items of the query's label among the k nearest, in expectation over every way of breaking "
    "ties; _worst and _best are those of the unluckiest and the luckiest way (McSherry and Najork, ECIR 2008)",
    "map@1000": "average precision over the 1,000 nearest, divided by the relevant items among them; ties in the order "
    "of the database shuffled once with seed 0",
    "map@all": "the same over the whole database",
    "precision_at_radius_r": "share of relevant items within Hamming distance r, inclusive; an empty answer counts 0",
    "recall_at_radius_r": "share of all relevant items that are within it",
    "empty_at_radius_r": "share of queries with nothing within it",
    "neighbours@mx": f"recall@{NEIGHBOURS}: share of the {NEIGHBOURS} nearest items by Euclidean distance of the "
    f"float input among the {NEIGHBOURS} m nearest codes, in expectation over ties",
    "neighbours@mx_soft": f"the same among the best {NEIGHBOURS} m of the {NEIGHBOURS * POOL} m nearest codes, in the "
    "order of the sum of |logit of the query| over the bits that differ (Gordo et al., TPAMI 2014)",
    "bit_balance": "mean over bits of 2 min(p, 1 - p), p the share of ones in the database; 1 at best",
    "bit_correlation": "mean |r| between pairs of bits of the database; 0 at best",
    "distinct_codes": "distinct codes over items of the database",
    "bits_per_s": "items encoded a second, preprocessing included, times bits",
    "training_s": "seconds from items in memory to a trained model",
}


@dataclass(frozen=True)
class Verdict:
    """What was measured of one model. `scores` has a number for each measure of `DEFINITIONS` that can be had."""

    scores: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]
    """`cutoffs`, and the mean `precision` and `recall` among so many nearest; `radius_precision` from radius 0 on."""


class Judge:
    """Everything of a protocol that is the same for all models: relevance, the order of ties, the true neighbours."""

    def __init__(self, protocol: Protocol, ks: Sequence[int], params: InputParams | None = None) -> None:
        """ks: precision among so many nearest. params: how the protocol's items are made the float input."""
        database, queries = protocol.database, protocol.queries
        self.protocol, self.ks, self._params = protocol, tuple(ks), params or InputParams()
        self._order = np.random.default_rng(_TIE_SEED).permutation(len(database))
        place = np.argsort(self._order)  # where each item of the database went
        self._leave_out = None if protocol.leave_out is None else place[protocol.leave_out]
        self._none = np.full(len(queries), -1, np.int64) if self._leave_out is None else self._leave_out
        self._labels: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        if database.labels is not None and queries.labels is not None:
            names = np.array([*queries.labels, *database.labels], np.str_)
            numbers = np.unique(names, return_inverse=True)[1].astype(np.int64)
            self._labels = numbers[: len(queries)], numbers[len(queries) :][self._order]
        others = len(database) - (self._leave_out is not None)
        self._cutoffs = (
            np.unique([*np.geomspace(1, others, _POINTS).round(), *np.minimum(ks, others)]).astype(int).tolist()
        )
        by_input = self._exact(protocol)
        self._near = by_input[0].nearest
        self.ceilings: Mapping[str, Verdict] = {}
        """What the float input itself finds, by Euclidean distance and by the cosine; empty without labels."""
        if self._labels is not None:
            names_of = ("float L2", "float cosine")
            self.ceilings = {name: self._ceiling(one) for name, one in zip(names_of, by_input, strict=True)}

    def ceiling(self, form: Protocol) -> Verdict:
        """What exact search by the cosine finds in `form`: the same items as the protocol's, in another form."""
        return self._ceiling(self._exact(form)[1])

    def judge(self, model: Model, *, form: Protocol | None = None) -> Verdict:
        """Encode database and queries with `model`, search, measure. Raises `InvalidInput` for another kind of item.

        form: the same items as the protocol's, in another form that the model takes.
        """
        form = form or self.protocol
        started = time.perf_counter()
        codes = _logits(model, form.database.items)[1]
        seconds = time.perf_counter() - started
        health = measure.bit_health(codes)
        logits, queries = _logits(model, form.queries.items)
        scores, curves = self._search(codes[self._order], queries, logits)
        scores |= {
            "bit_balance": health.balance,
            "bit_correlation": health.correlation,
            "distinct_codes": health.distinct,
            "encoded_items_per_s": len(codes) / seconds,
            "bits_per_s": model.bits * len(codes) / seconds,
        }
        return Verdict(scores, curves)

    def _search(
        self, codes: NDArray[np.uint8], queries: NDArray[np.uint8], logits: NDArray[np.float32]
    ) -> tuple[dict[str, float], dict[str, list[float]]]:
        bits = logits.shape[1]
        signs = np.unpackbits(codes, axis=1).astype(np.int8) * 2 - 1
        near: dict[str, list[NDArray[np.float64]]] = {}
        rankings = []
        for block in measure.blocks(len(queries), len(codes)):
            d = measure.distances(queries[block], codes)
            relevant = np.zeros(d.shape, np.bool_)
            if self._labels is not None:
                relevant = self._labels[0][block][:, None] == self._labels[1][None, :]
            leave_out = None if self._leave_out is None else self._leave_out[block]
            ranking = Ranking.of(d, relevant, bits, leave_out)
            rankings.append(ranking)
            soft = by_soft_rerank(logits[block], signs, d, self._near[block], self._none[block])
            for factor in FACTORS:
                hamming = by_hamming(ranking, d, self._near[block], factor)
                near.setdefault(f"neighbours@{factor}x", []).append(hamming)
                near.setdefault(f"neighbours@{factor}x_soft", []).append(soft[factor])
        scores = {name: float(np.concatenate(parts).mean()) for name, parts in near.items()}
        if self._labels is None:
            return scores, {}
        ranking = Ranking.joined(rankings)
        found, curves = self._by_label(ranking)
        return found | scores, curves | {
            "radius_precision": [float(ranking.within(radius)[0].mean()) for radius in range(bits + 1)]
        }

    def _by_label(self, ranking: Ranking) -> tuple[dict[str, float], dict[str, list[float]]]:
        scores: dict[str, float] = {}
        for k in self.ks:
            for suffix, share in zip(("", "_worst", "_best"), ranking.precision(k), strict=True):
                scores[f"precision@{k}{suffix}"] = float(share.mean())
        scores |= {"map@1000": float(ranking.average_first.mean()), "map@all": float(ranking.average_all.mean())}
        for radius in RADII:
            for name, values in zip(("precision", "recall", "empty"), ranking.within(radius), strict=True):
                scores[f"{name}_at_radius_{radius}"] = float(values.mean())
        precision, recall = ranking.curve(self._cutoffs)
        return scores, {"cutoffs": self._cutoffs, "precision": precision, "recall": recall}

    def _exact(self, form: Protocol) -> tuple[exact.Exact, exact.Exact]:
        database, queries = form.database, form.queries
        params = self._params if form is self.protocol else InputParams()
        input = fit_input(database.kind, database.items, params)
        return exact.rank(
            exact.features(input, queries.items),
            exact.features(input, database.items)[self._order],
            self._labels,
            self._cutoffs,
            min(NEIGHBOURS, self._cutoffs[-1]),
            self._leave_out,
        )

    def _ceiling(self, found: exact.Exact) -> Verdict:
        precision = (found.found / np.array(self._cutoffs)).mean(0).tolist()
        recall = (found.found / np.maximum(found.relevant, 1)[:, None]).mean(0).tolist()
        among = dict(zip(self._cutoffs, precision, strict=True))
        scores = {f"precision@{k}": among[min(k, self._cutoffs[-1])] for k in self.ks}
        scores |= {"map@1000": float(found.average_first.mean()), "map@all": float(found.average_all.mean())}
        return Verdict(scores, {"cutoffs": self._cutoffs, "precision": precision, "recall": recall})


def _logits(model: Model, items: Items) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Logits `(n, bits)` and packed codes `(n, bits / 8)`, a part of the items in memory as floats at a time."""
    starts = range(0, len(items), _ENCODED)
    logits = np.concatenate([model.logits(items[start : start + _ENCODED]) for start in starts])
    return logits, np.packbits(logits > 0, axis=1)
