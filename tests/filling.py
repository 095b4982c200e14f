"""A data directory with trained models and filled collections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.data import Dataset
from service.cli.ingest import ingest_dataset
from service.engine import Engine
from service.settings import Settings
from service.training import Training, train


def fill(
    root: Path,
    datasets: Mapping[str, Dataset],
    models: Iterable[tuple[str, str, int, str, Mapping[str, Any]]],
    collections: Iterable[tuple[str, str]],
) -> None:
    """Train `models` (name, family, bits, data set, params) into `root`, and ingest data sets by models of it."""
    with Engine(Settings(data_dir=root)) as engine:
        for name, family, bits, data, params in models:
            draft = engine.registry.draft(name)
            for _ in train(Training(name, family, bits, dict(params)), datasets[data], draft):
                pass
            engine.registry.add(name, draft)
        for collection, model in collections:
            ingest_dataset(engine, datasets[collection], collection, model)
