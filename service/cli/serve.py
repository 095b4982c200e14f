"""hammingbird serve"""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from .base import DEFAULT_DATA_DIR, DataDir, app, friendly, settings_for

if TYPE_CHECKING:
    from ..settings import Settings

_INTERRUPTED = 130

AllowOpen = Annotated[
    bool,
    typer.Option("--allow-open", envvar="HAMMINGBIRD_ALLOW_OPEN", help="Listen beyond loopback without keys."),
]


@app.command()
@friendly
def serve(
    host: Annotated[str, typer.Option(envvar="HAMMINGBIRD_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="HAMMINGBIRD_PORT", help="Port to listen on; 0 takes a free one.")] = 8000,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    allow_open: AllowOpen = False,
) -> None:
    """Serve the REST API.

    Example: hammingbird serve --port 8000 --data-dir ./hammingbird-data
    """
    run(host, port, data_dir, allow_open)


def check_guarded(settings: Settings) -> None:
    """Raise `ServiceError` where others could reach a service that asks for no key."""
    from ..errors import ServiceError
    from ..keys import read_keys

    if settings.allow_open or _is_loopback(settings.host) or read_keys(settings.keys_folder) is not None:
        return
    raise ServiceError(
        f"listening on {settings.host or 'every address'} without keys would let everybody who can reach this machine "
        "read, change and delete everything. Create a key first (hammingbird keys create me --scope admin), or listen "
        "on 127.0.0.1, or say --allow-open (HAMMINGBIRD_ALLOW_OPEN=true) where something else decides who may ask"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(host: str, port: int) -> str:
    """The address at which those on this machine can ask a service that listens on `host`."""
    if host in ("", "0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_free(host: str, port: int) -> None:
    """Raise `ServiceError` where `host` and `port` cannot be listened on."""
    from ..errors import ServiceError

    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port or HAMMINGBIRD_PORT"
        ) from None


@contextmanager
def warming() -> Iterator[subprocess.Popen[bytes]]:
    """Have the search kernels compiled meanwhile, in a process of its own; once for a processor, then it is nothing."""
    child = subprocess.Popen([sys.executable, "-P", "-m", "index.warm"], stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def run(host: str, port: int, data_dir: Path, allow_open: bool = False) -> None:
    """Serve until a signal ends it; requests in flight are finished.

    Ends with 0 where all of them were, with 1 where the time of grace was not enough, and with 130 where a second
    interrupt cut it short.
    """
    settings = settings_for(data_dir, host=host, port=port, allow_open=allow_open)
    check_guarded(settings)
    check_free(host, port)
    children: list[subprocess.Popen[bytes]] = []
    _end_at_a_signal(children)
    if code := _serve(settings, children):
        logging.shutdown()
        os._exit(code)  # threads that go on with what was cut off are not waited for


def _end_at_a_signal(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until it serves, a signal ends the process at once: it owes nobody an answer, and opening survives a kill.

    Without this the first process of a container, which is deaf to signals that it has no handler for, would be killed
    after the engine's patience.
    """

    def end(sig: int, frame: FrameType | None) -> None:
        for child in children:
            child.kill()
        os._exit(0)

    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, end)


def _serve(settings: Settings, children: list[subprocess.Popen[bytes]]) -> int:
    """Serve until told to stop; returns the exit code."""
    from ..heap import limit_arenas
    from ..opening import Opening

    limit_arenas()
    opening = Opening(settings)  # goes on beside the imports
    if settings.port:
        opening.directory.serves_at(address_of(settings.host, settings.port))

    import torch
    import uvicorn

    from ..app import create_app
    from ..observability import configure_logging

    torch.set_num_threads(settings.threads)
    configure_logging(settings.log_level)
    app = create_app(settings, opening)

    class Server(uvicorn.Server):
        """Tells the application of a stop at once, so that endless streams do not use up the grace time.

        uvicorn would end the process by the signal that stopped it, which looks like a failure to who sent it.
        """

        finished = False

        async def _wait_tasks_to_complete(self) -> None:
            await super()._wait_tasks_to_complete()
            self.finished = True  # not where the time of grace was over before

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # A second SIGTERM changes nothing: some send one to the process and one to its group.
            self.force_exit = self.force_exit or (self.should_exit and sig == signal.SIGINT)
            self.should_exit = True
            app.state.runner.stop()
            app.state.engine.stopping.begin()

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    server = Server(config)
    with warming() as child:
        children.append(child)
        server.run()
    if server.force_exit:
        return _INTERRUPTED
    return 0 if server.finished else 1
