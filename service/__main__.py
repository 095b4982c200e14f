"""The command `hammingbird`, also as `python -m service`."""

from __future__ import annotations

import os


def main() -> None:
    """Set the OpenMP policy, which must happen before torch or FAISS are loaded, then run the command line."""
    # Threads that spin while they wait cost a request a hundred times its own work on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OTEL_SERVICE_NAME", "hammingbird")  # read only where tracing was asked for

    from .cli import app
    from .cli.interrupts import end_cleanly_when_told

    end_cleanly_when_told()
    app(prog_name="hammingbird")


if __name__ == "__main__":
    main()
