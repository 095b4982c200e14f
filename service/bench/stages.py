"""What `bench scale` has a process of its own do, so that its memory is that of the collection.

Run as `python -m service.bench.stages fill|ask`, with the arguments as JSON on standard input; says what it measured
as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from .asking import ask
from .filling import fill
from .workload import Work


def main() -> None:
    stage, told = sys.argv[1], json.load(sys.stdin)
    work = Work(**told.pop("work"))
    done = fill(work) if stage == "fill" else ask(work, **told)
    sys.stdout.write(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
