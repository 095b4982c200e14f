"""A row for each family and width, over several seeds, and for each model that is there already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from index.errors import DataDirectoryError
from models.base import build, families
from models.data import Dataset
from models.errors import DataError, InvalidParams
from models.registry import Registry
from models.retrieval import lsa
from models.retrieval.judge import Judge, Verdict
from models.retrieval.protocol import Protocol
from models.specs import InputParams, fit_input
from models.train import Progress, Trainer
from models.width import Width, propose

from ..settings import Settings
from ..training import Training, check

Follow = Callable[[str, Iterator[Progress]], None]
"""Runs a training to its end, telling of it under a name."""


@dataclass(frozen=True)
class Row:
    """What was measured of one thing: a verdict for each training. `labels` says that training saw labels."""

    name: str
    family: str | None
    bits: int | None
    verdicts: Sequence[Verdict]
    labels: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """The mean of each measure."""
        return {name: float(np.mean(self.of(name))) for name in self.verdicts[0].scores}

    @property
    def deviations(self) -> dict[str, float]:
        """The standard deviation of each measure over the trainings; nothing of a single one."""
        if len(self.verdicts) < 2:
            return {}
        return {name: float(np.std(self.of(name), ddof=1)) for name in self.verdicts[0].scores}

    @property
    def curves(self) -> dict[str, list[float]]:
        """The mean of each curve."""
        found = self.verdicts[0].curves
        return {name: np.mean([one.curves[name] for one in self.verdicts], axis=0).tolist() for name in found}

    def of(self, name: str) -> list[float]:
        """The measure `name` in each training."""
        return [one.scores[name] for one in self.verdicts]

    def as_dict(self) -> dict[str, Any]:
        runs = [dict(one.scores) for one in self.verdicts]
        return {
            "name": self.name, "family": self.family, "bits": self.bits, "labels": self.labels, **self.about,
            "scores": self.scores, "deviations": self.deviations, "runs": runs, "curves": self.curves,
        }  # fmt: skip


def ceilings(judge: Judge) -> list[Row]:
    """What the float input itself finds."""
    return [Row(name, None, None, [verdict]) for name, verdict in judge.ceilings.items()]


def on_lsa(judge: Judge, plans: Sequence[Sequence[Training]], follow: Follow) -> list[Row]:
    """ITQ of texts as the literature has it, on LSA: for each of `plans` that is of ITQ a row, and one for as many
    leading dimensions of LSA as it has bits, ranked exactly.
    """
    plans = [plan for plan in plans if plan[0].family == "itq"]
    if judge.protocol.database.kind != "text" or not plans:
        return []
    form = lsa.as_vectors(judge.protocol)
    name, rows = f"LSA-{lsa.DIMENSIONS}", []
    for plan in plans:
        bits = plan[0].width
        if judge.ceilings:
            part = replace(form, database=lsa.leading(form.database, bits), queries=lsa.leading(form.queries, bits))
            rows.append(Row(f"float LSA-{bits}", None, None, [judge.ceiling(part)]))
        row = trained(judge, plan, follow, labels=False, form=form)
        rows.append(replace(row, name=f"itq on {name}"))
    return rows


def trained(
    judge: Judge, trainings: Sequence[Training], follow: Follow, *, labels: bool, form: Protocol | None = None
) -> Row:
    """Train on the database of the protocol, once with each of `trainings`, which differ in their seed.

    labels: let a family that can learn from them do so; the others never see them. form: the items of the protocol in
    another form, to be trained on and encoded instead.
    """
    data, first = (form or judge.protocol).database, trainings[0]
    seen = data.labels if labels and families()[first.family].supervised else None
    verdicts = []
    for training in trainings:
        started = time.perf_counter()
        input = fit_input(data.kind, data.items, training.input_params() if form is None else InputParams())
        model = build(training.family, input, training.width, training.family_params(), seed=training.seed)
        trainer = Trainer(model, training.config())
        steps = trainer.fit(data.items, seen, learn_labels=seen is not None)
        follow(f"{training.family} {training.width} bits, seed {training.seed}", steps)
        seconds = time.perf_counter() - started
        found = judge.judge(model, form=form)
        own = {name: float(trainer.metrics[name]) for name in ("best_epoch", "retrieval") if name in trainer.metrics}
        scores = {**found.scores, "training_s": seconds, **{f"trainer_{name}": value for name, value in own.items()}}
        verdicts.append(Verdict(scores, found.curves))
    about = {"params": dict(first.params), "epoch_chosen_by": trainer.metrics.get("epoch_chosen_by")}
    return Row(first.family, first.family, first.width, verdicts, seen is not None, about)


def settled(plans: Sequence[list[Training]], data: Dataset) -> tuple[list[list[Training]], Width | None]:
    """`plans` with the width that is proposed for `data` where it is to be chosen, and why; each width once."""
    if all(plan[0].bits != "auto" for plan in plans):
        return list(plans), None
    width = propose(data.items, fit_input(data.kind, data.items, plans[0][0].input_params()))
    numbers = [[replace(one, bits=width.bits) if one.bits == "auto" else one for one in plan] for plan in plans]
    return list({(plan[0].family, plan[0].width): plan for plan in numbers}.values()), width


def loaded(judge: Judge, data_dir: Path, reference: str) -> Row:
    """The model `reference` of the registry in `data_dir`. Raises `DataDirectoryError`, `UnknownModel`, `DataError`."""
    models = Settings(data_dir=data_dir).models_path
    if not models.is_dir():
        raise DataDirectoryError(f"there is no data directory {data_dir}; name the right one with --data-dir")
    registry = Registry(models, tidy=False)  # a service may be using it
    entry = registry.get(reference)
    artefact = entry.artefact
    kind, wanted = artefact.config["input"]["kind"], judge.protocol.database.kind
    if kind != wanted:
        raise DataError(f"{entry.reference} takes {kind} items; the data are {wanted} items")
    found = judge.judge(registry.load(entry))
    metrics, training = artefact.metrics, artefact.config["training"]
    scores = {**found.scores, "training_s": float(metrics["seconds"])}
    # Of a model that does not say what chose its epoch, labels did where its figure is by label.
    chosen_by = metrics.get("epoch_chosen_by", metrics["retrieval_measure"] if "best_epoch" in metrics else None)
    about = {
        "params": artefact.config["params"], "epoch_chosen_by": chosen_by,
        "fingerprint": entry.fingerprint, "trained_on": training.get("data"),
    }  # fmt: skip
    labels = "supervised" in metrics or "label" in str(chosen_by)
    verdicts = [Verdict(scores, found.curves)]
    return Row(entry.reference, artefact.config["family"], artefact.config["bits"], verdicts, labels, about)


def plan(
    names: Sequence[str],
    widths: Sequence[int | Literal["auto"]],
    params: Mapping[str, Any],
    seeds: int,
    *,
    labels: bool,
) -> list[list[Training]]:
    """The trainings of each row. Raises `InvalidParams` where a family, a width or a parameter is wrong, or where there
    are `labels` to learn from and no family that can.
    """
    rows = [
        [Training("evaluated", name, width, params, seed) for seed in range(seeds)]
        for width in widths
        for name in names
    ]
    for row in rows:
        check(row[0])
    able = sorted(name for name, family in families().items() if family.supervised)
    if labels and not set(names) & set(able):
        raise InvalidParams(f"with --labels at least one family that learns from them is needed: {', '.join(able)}")
    return rows


@contextmanager
def threads(number: int | None) -> Iterator[int]:
    """Let torch and the libraries under numpy use `number` threads, or as many as they like; yields how many."""
    before = torch.get_num_threads()
    if number is None:
        yield before
        return
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield number
    finally:
        torch.set_num_threads(before)
