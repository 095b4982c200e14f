"""Where a command works: at a service, through its REST API, or in a data directory that this process opens itself.

What a command asks for is said once, in the bodies of the REST API; only this file, `local` and `remote` know which of
the two answers.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .base import open_engine

KEY_VARIABLE = "HAMMINGBIRD_API_KEY"
"""Not an option, since others on the machine can read the command line of a process."""

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="HAMMINGBIRD_URL",
        help=f"Ask the service at this address (its key in {KEY_VARIABLE}) instead of opening --data-dir.",
        metavar="ADDRESS",
    ),
]
Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--url",
        envvar="HAMMINGBIRD_URL",
        help=f"Ask the service at this address (its key in {KEY_VARIABLE}) instead of opening --data-dir. Several "
        "of them, or with commas: replicas over one Milvus, which take the batches in turn.",
        metavar="ADDRESS",
    ),
]
Job = Literal["train", "reencode", "calibrate", "duplicates"]
Body = Mapping[str, Any]
Reply = dict[str, Any]


class Service(ABC):
    """What answers a command. Bodies and replies are those of the REST API; refusals end the command in a line."""

    @abstractmethod
    def search(self, body: Body) -> Reply: ...

    @abstractmethod
    def ingest(self, body: Body, duplicates: tuple[str, int] | None = None) -> Reply:
        """Store items, leaving out bad ones, which the reply lists. duplicates: (tag or reject, radius)."""

    @abstractmethod
    def generate(self, body: Body) -> Reply: ...

    @abstractmethod
    def denoise(self, body: Body) -> Reply: ...

    @abstractmethod
    def item(self, collection: str, id: str) -> Reply:
        """A stored item, with its input where inputs are kept."""

    @abstractmethod
    def collections(self) -> Reply: ...

    @abstractmethod
    def collection(self, name: str) -> Reply: ...

    @abstractmethod
    def health(self, name: str) -> Reply:
        """How good the codes of a collection are."""

    @abstractmethod
    def create_collection(self, body: Body) -> Reply: ...

    @abstractmethod
    def delete_collection(self, name: str) -> None: ...

    @abstractmethod
    def models(self) -> Reply: ...

    @abstractmethod
    def model(self, reference: str) -> Reply: ...

    @abstractmethod
    def set_alias(self, name: str, alias: str, version: int) -> Reply: ...

    @abstractmethod
    def delete_model(self, reference: str) -> None: ...

    @abstractmethod
    def add_model(self, name: str, train: Callable[[Path], None]) -> Reply:
        """Let `train` write an artefact into the new folder that it is told, and make it the next version of `name`.

        The reply is the model's card.
        """

    @abstractmethod
    def begin(self, kind: Job, body: Body, collection: str = "") -> Reply:
        """Begin a job, of the kinds other than train on `collection`; the reply is the job."""

    @abstractmethod
    def job(self, id: str) -> Reply: ...

    @abstractmethod
    def cancel(self, id: str) -> None: ...

    @abstractmethod
    def rollback(self, collection: str) -> Reply:
        """Let the codes of the model before serve again."""

    @abstractmethod
    def restore(self, file: Path, name: str | None, replace: bool, progress: Callable[[float, str], None]) -> Reply:
        """Bring back what the archive `file` holds. progress: told the bytes that are read."""


@contextmanager
def opened(ctx: typer.Context, url: str | None, data_dir: Path, *, there: bool = True) -> Iterator[Service]:
    """What answers the command `ctx`: the service at `url`, or else this process over `data_dir`.

    there: a data directory is not made where there is none.
    """
    address = _address(ctx, url)
    if address is not None:
        from .remote import Remote

        with Remote(address, os.environ.get(KEY_VARIABLE)) as service:
            yield service
        return
    with open_engine(data_dir, there=there) as engine:
        from .local import Local

        with Local(engine) as here:
            yield here


def addresses(ctx: typer.Context, urls: Sequence[str] | None) -> list[str]:
    """The addresses in options, each of which may have several with commas between them; none for a data directory."""
    given = [part.strip() for url in urls or () for part in url.split(",") if part.strip()]
    found = [address for url in given if (address := _address(ctx, url)) is not None]
    if len(set(found)) < len(found):
        twice = next(address for address in found if found.count(address) > 1)
        raise typer.BadParameter(f"--url has {twice} twice")
    return found


def _address(ctx: typer.Context, url: str | None) -> str | None:
    """The address to ask, if any: what stands on the command line counts more than the environment."""
    if not url:
        return None
    if "," in url:
        raise typer.BadParameter(f"--url is one address here; only ingest takes several; got {url[:200]!r}")
    sources = {name: getattr(ctx.get_parameter_source(name), "name", "") for name in ("url", "data_dir")}
    if sources["data_dir"] == "COMMANDLINE":
        if sources["url"] == "COMMANDLINE":
            raise typer.BadParameter("--url and --data-dir are two places to work in; give one of them")
        return None
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"--url is an address such as http://127.0.0.1:8000; got {url[:100]!r}")
    return url.rstrip("/")
