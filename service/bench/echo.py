"""The yardstick of `bench http`: the smallest FastAPI application that takes JSON and gives it back.

Run as `python -m service.bench.echo PORT`, under the settings of uvicorn that the service runs under.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

PATH = "/echo"


def main(port: int) -> None:
    """Serve on loopback until a signal."""
    app = FastAPI()

    @app.post(PATH)
    async def echo(body: dict[str, Any]) -> dict[str, Any]:
        return body

    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, server_header=False)
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
