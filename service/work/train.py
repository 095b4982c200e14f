"""Training: the child trains and saves a draft of the artefact, the service adds it to the registry."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from models.registry import Registry

from ..training import Training
from .base import Lines, Task, Work


class Train(Work):
    """One training."""

    kind = "train"

    def __init__(
        self,
        registry: Registry,
        training: Training,
        data: Mapping[str, str],
        store: AbstractContextManager[Path] | None = None,
    ) -> None:
        """data: `{"dataset": name}`, or `{"collection": name, "label": field}` for the kept inputs in its `store`."""
        self._registry, self._store = registry, store
        self._training = training
        self._data = data
        self._draft: Path | None = None

    @property
    def subject(self) -> Mapping[str, str]:
        source = {name: self._data[name] for name in ("collection", "dataset") if name in self._data}
        return {"model": self._training.name, "family": self._training.family, **source}

    def spec(self) -> Mapping[str, Any]:
        self._draft = self._registry.draft(self._training.name)
        self._draft.parent.mkdir(exist_ok=True)
        training = {**vars(self._training), "params": dict(self._training.params)}
        store = {} if self._store is None else {"store": str(self.hold(self._store).resolve())}
        return {"training": training, **self._data, **store, "draft": str(self._draft)}

    def finish(self, result: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
        assert self._draft is not None  # made by `spec`
        task.go_on()
        entry = self._registry.add(self._training.name, self._draft)
        model = {"name": entry.name, "version": entry.version, "fingerprint": entry.fingerprint}
        return {"model": model, "metrics": dict(entry.artefact.metrics)}

    def discard(self) -> None:
        if self._draft is not None:
            shutil.rmtree(self._draft, ignore_errors=True)


def run(spec: Mapping[str, Any]) -> Lines:
    """The child's part."""
    from models.data import load

    from ..kept import dataset_of
    from ..training import train

    with ExitStack() as stack:
        if "dataset" in spec:
            data = load(spec["dataset"])
        else:
            data = stack.enter_context(dataset_of(Path(spec["store"]), spec["collection"], spec["label"]))
        for progress in train(Training(**spec["training"]), data, Path(spec["draft"])):
            yield {"progress": progress.as_dict()}
    yield {"result": {}}
