"""A worker process of a bulk ingest: `python -m service.bulk.worker DESCRIPTOR`.

It takes tasks from the connection that it was given and answers each, in order. It changes nothing anywhere, so it may
be ended at any time. When the other end of the connection closes it ends, and so does not outlive who started it.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch

from index import pack
from index.errors import HammingIndexError
from models.artefact import load_model
from models.base import Model
from models.errors import ModelsError

from ..batching import Encoders
from ..codecs import Decoder
from ..errors import ServiceError
from .reading import read
from .task import Made, Spec, Task, Told


class Maker:
    """Makes codes of items, as an ingest in the writer's process would."""

    def __init__(self, spec: Spec) -> None:
        self._settings = spec.settings
        self._models = {fingerprint: load_model(folder) for fingerprint, folder in spec.models.items()}
        self._encoders = Encoders(
            lambda model: model.family,
            most_waiting=spec.settings.max_encode_waiting,
            timeout_s=spec.settings.request_timeout_s,
        )

    def __call__(self, task: Task) -> list[Told]:
        """What comes of each item of a task, in order."""
        found: list[bytes | str] = list(task.items) if task.read else read(task.kind, task.items)
        kept = [one for one in found if isinstance(one, bytes)]
        codes: list[dict[str, bytes]] = [{} for _ in kept]
        for fingerprint, model in self._models.items():
            if model.input.kind == task.kind:
                for place, code in self._codes(model, kept).items():
                    codes[place][fingerprint] = code
        made = map(Made, kept, codes)
        return [next(made) if isinstance(one, bytes) else one for one in found]

    def _codes(self, model: Model, kept: Sequence[bytes]) -> dict[int, bytes]:
        """The codes of the items that the model takes, by place."""
        items = {}
        for place, data in enumerate(kept):
            # One decoder an item: the limits of a whole request are none here.
            with suppress(HammingIndexError, ModelsError):
                items[place] = Decoder(self._settings, model.input).file(data).item
        try:
            told = self._encoders.of(model).each(list(items.values()))
        except ServiceError:  # it hangs, as it will in the writer's process, which says so
            return {}
        return {
            place: pack(row[None])[0].tobytes()
            for place, row in zip(items, told, strict=True)
            if not isinstance(row, Exception)
        }


def main() -> None:
    """Answer tasks until the other end closes."""
    torch.set_num_threads(1)
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    spec: Spec = connection.recv()
    tasks: queue.SimpleQueue[tuple[int, Task]] = queue.SimpleQueue()

    def take() -> None:
        # On a thread of its own: else who sends a task and who answers one might each wait for the other to read.
        while True:
            try:
                tasks.put(connection.recv())
            except (EOFError, OSError):
                os._exit(0)

    threading.Thread(target=take, daemon=True).start()
    make = Maker(spec)
    while True:
        number, task = tasks.get()
        answer = make(task)
        with suppress(OSError):  # nobody is there any more, which the thread hears too
            connection.send((number, answer))


if __name__ == "__main__":
    main()
