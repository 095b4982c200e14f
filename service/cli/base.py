"""What the commands share: the application, the data directory option, errors in one line, progress bars.

Heavy imports (torch, FAISS) happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from models.data import Dataset
    from models.train import Progress as TrainingProgress
    from models.width import Width

    from ..engine import Engine
    from ..settings import Settings

app = typer.Typer(
    name="hammingbird",
    help="Learn binary codes from your own items, search them exactly, decode them back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# In a pipe a table is as wide as it needs to be, whoever reads it.
console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", envvar="HAMMINGBIRD_DATA_DIR", help="Folder that holds everything the service keeps."),
]
DEFAULT_DATA_DIR = Path("hammingbird-data")

P = ParamSpec("P")
R = TypeVar("R")


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Let the errors that we know end the command with one clear line and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from index.errors import HammingIndexError
        from models.errors import ModelsError

        from ..errors import ServiceError

        try:
            return command(*args, **kwargs)
        except (HammingIndexError, ModelsError, ServiceError) as error:
            errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None

    return run


def settings_for(data_dir: Path, **changes: Any) -> Settings:
    """Settings from the environment with what the command line says on top."""
    from ..settings import Settings

    return Settings(data_dir=data_dir, **changes)


def load_data(source: str) -> Dataset:
    """The data set `source`, saying on standard error what was understood of it."""
    from models.data import load

    data = load(source)
    errors.print(data.describe(), highlight=False, markup=False, soft_wrap=True)
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


def say_damaged(name: str, detail: str) -> None:
    """Name something that is damaged, on standard error."""
    errors.print(f"[red]damaged[/] {name}: {escape(detail)}", highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """`value` as JSON on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


@contextmanager
def bar(what: str, total: float) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on a terminal, a plain line every tenth elsewhere; call it with (done, note)."""
    if errors.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=errors) as progress:
            task = progress.add_task(what, total=total, note="")
            yield lambda done, note: progress.update(task, completed=done, note=note)
        return
    shown = -1

    def plain(done: float, note: str) -> None:
        nonlocal shown
        tenth = int(10 * done / max(total, 1))
        if tenth > shown:
            shown = tenth
            errors.print(f"{what} {min(100, 10 * tenth)}% {note}".rstrip(), highlight=False, soft_wrap=True)

    yield plain


def width(text: str) -> int | Literal["auto"]:
    """What `--bits` says. Raises `InvalidParams`."""
    from models.errors import InvalidParams

    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise InvalidParams(f"bits is a number, a multiple of 8, or auto; got {text[:64]!r}") from None


def follow(what: str, training: Iterator[TrainingProgress | Width]) -> None:
    """Run a training to its end under a progress bar."""
    steps = _told(training)
    first = next(steps, None)
    if first is None:  # fitted in closed form
        errors.print(f"{what}: fitted in closed form", highlight=False)
        return
    with bar(what, first.steps) as show:
        show(first.step, _note(first))
        step = first
        for step in steps:
            show(step.step, _note(step))
        show(step.steps, f"{_note(step)}, best epoch {step.best_epoch}")


def _told(training: Iterator[TrainingProgress | Width]) -> Iterator[TrainingProgress]:
    """The steps of a training; where it chooses a width, which and why is said at once."""
    from models.width import Width

    for step in training:
        if isinstance(step, Width):
            errors.print(step.why, highlight=False, markup=False, soft_wrap=True)
        else:
            yield step


def _note(progress: TrainingProgress) -> str:
    losses = ", ".join(f"{name} {value:.2f}" for name, value in progress.losses.items())
    retrieval = "" if progress.retrieval is None else f", found {progress.retrieval:.3f}"
    return f"epoch {progress.epoch}: {losses}{retrieval}, {progress.items_per_s:,.0f} items/s"
