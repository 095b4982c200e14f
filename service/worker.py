"""The child process of a training job: `python -m service.worker`.

Reads one JSON object from standard input (the training, where its data is, where to save) and writes one JSON object
a line to standard output: progress, then a result or a problem. Its input stays open for as long as the service lives;
when it closes, the worker ends, so that no training outlives a service that died.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

INTERRUPTED = 3


def main() -> None:
    """Run the one job that standard input describes."""
    spec = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from index.errors import HammingIndexError
    from models.errors import ModelsError

    from .errors import describe_error

    try:
        _run(spec)
    except (HammingIndexError, ModelsError) as error:
        body = describe_error(error) or {"title": "The training failed", "detail": str(error), "status": 500}
        _say({"error": body})


def _run(spec: dict[str, Any]) -> None:
    from models.data import load

    from .kept import dataset_of
    from .training import Training, train

    with ExitStack() as stack:
        if "dataset" in spec:
            data = load(spec["dataset"])
        else:
            data = stack.enter_context(dataset_of(Path(spec["store"]), spec["collection"]))
        for progress in train(Training(**spec["training"]), data, Path(spec["draft"])):
            _say({"progress": progress.as_dict()})
    _say({"result": {"draft": spec["draft"]}})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
