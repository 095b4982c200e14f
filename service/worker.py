"""The child process of a job: `python -m service.worker`.

Reads one JSON object from standard input (the kind of job and its spec) and writes one JSON object a line to standard
output: progress, then a result or a problem. Its input stays open for as long as the service lives; when it closes, the
worker ends, so that no job outlives a service that died.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from importlib import import_module
from typing import Any

INTERRUPTED = 3


def main() -> None:
    """Run the one job that standard input describes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for who started the job, and ends it
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from index.errors import HammingIndexError
    from models.errors import ModelsError

    from .errors import ServiceError, describe_error
    from .work import CHILDREN

    try:
        for line in import_module(CHILDREN[job["kind"]]).run(job["spec"]):
            _say(line)
    except (HammingIndexError, ModelsError, ServiceError) as error:
        _say({"error": describe_error(error) or {"title": "The job failed", "detail": str(error), "status": 500}})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
