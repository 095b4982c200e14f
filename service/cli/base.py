"""What the commands share: the application, options, errors in one line, the two streams.

Heavy imports (torch, FAISS, FastAPI) happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

if TYPE_CHECKING:
    from models.data import Dataset

    from ..engine import Engine
    from ..settings import Settings

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143
"""Exit codes beside 0 and click's 2 for wrong usage; the last two are what shells expect of those signals."""

_EPILOG = (
    "Commands open --data-dir themselves, or ask the service at --url. Exit codes: 0 done, 1 refused or found wrong, "
    "2 wrong usage, 130 stopped by Ctrl-C. docs/cli.md describes every command."
)

_ORDER = (
    "serve", "demo", "train", "ingest", "search", "generate", "denoise", "models", "collections", "evaluate", "bench",
    "keys", "backup", "restore", "check",
)  # fmt: skip
"""As one meets them, rather than as they happen to be imported."""


class _Commands(TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:
        return sorted(self.commands, key=_ORDER.index)


app = typer.Typer(
    cls=_Commands,
    name="hammingbird",
    help="Learn binary codes from your own items, search them exactly, decode them back. First: hammingbird demo",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In a pipe a table is as wide as it needs to be, whoever reads it.
console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", envvar="HAMMINGBIRD_DATA_DIR", help="Folder that holds everything the service keeps."),
]
DEFAULT_DATA_DIR = Path("hammingbird-data")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]

P = ParamSpec("P")
R = TypeVar("R")


class CommandError(Exception):
    """What a command cannot do, and the way out, in a line."""


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Let the errors that we know end the command with one clear line and exit code 1, and Ctrl-C with 130."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            errors.print("interrupted", highlight=False)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if not isinstance(error, _known()):
                raise
            errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(FAILED) from None

    return run


def _known() -> tuple[type[Exception], ...]:
    """The errors that end a command in a line. One that was raised has its module loaded; no other is loaded for it."""
    places = (
        ("index.errors", "HammingIndexError"),
        ("models.errors", "ModelsError"),
        ("service.errors", "ServiceError"),
    )
    loaded = [getattr(sys.modules[module], name) for module, name in places if module in sys.modules]
    return (CommandError, *loaded)


def has_verb(ctx: typer.Context) -> bool:
    """Whether a group that does something itself was called with a verb. Raises `BadParameter` for options before it,
    which would not reach it.
    """
    if ctx.invoked_subcommand is None:
        return False
    for name in ctx.params:
        if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE":
            raise typer.BadParameter(f"options of {ctx.invoked_subcommand!r} come after that word")
    return True


def settings_for(data_dir: Path, **changes: Any) -> Settings:
    """Settings from the environment with what the command line says on top."""
    from ..settings import Settings

    return Settings(data_dir=data_dir, **changes)


def load_data(source: str, *, skip_bad: bool = False) -> Dataset:
    """The data set `source`, saying on standard error what was understood of it.

    skip_bad: without the items that cannot be read, which are listed.
    """
    from models.data import load, readable

    data = load(source)
    say(data.describe())
    if skip_bad:
        data, bad = readable(data)
        for id, why in bad.items():
            say(f"left out {id}: {why}")
    return data


@contextmanager
def open_engine(data_dir: Path, *, there: bool = False) -> Iterator[Engine]:
    """The engine over `data_dir`, which no other process may hold meanwhile and, if `there`, must exist."""
    import torch

    from index.errors import DataDirectoryError

    if there and not (data_dir / "collections").is_dir():
        raise DataDirectoryError(f"there is no data directory {data_dir}; name the right one with --data-dir")

    from ..engine import Engine

    settings = settings_for(data_dir)
    torch.set_num_threads(settings.threads)
    with Engine(settings) as engine:
        yield engine


def say(line: str) -> None:
    """A line for whoever watches, on standard error; nothing in it is markup."""
    errors.print(line, highlight=False, markup=False, soft_wrap=True)


def say_damaged(name: str, detail: str) -> None:
    """Name something that is damaged, on standard error."""
    errors.print(f"[red]damaged[/] {escape(name)}: {escape(detail)}", highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """`value` as JSON on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_line(line: str) -> None:
    """A line of the result on standard output; nothing in it is markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def write_file(path: Path, data: bytes) -> None:
    """Write the file `path` whole or not at all, and say so. Raises `CommandError`."""
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}; name another file") from None
    finally:
        draft.unlink(missing_ok=True)
    say(f"wrote {path}")


def width(text: str) -> int | Literal["auto"]:
    """What `--bits` says. Raises `InvalidParams`."""
    from models.errors import InvalidParams

    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise InvalidParams(f"bits is a number, a multiple of 8, or auto; got {text[:64]!r}") from None
