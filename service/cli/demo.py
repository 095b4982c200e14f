"""hammingbird demo"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..examples import DIGIT, QUESTION
from .base import (
    DEFAULT_DATA_DIR,
    DataDir,
    app,
    console,
    errors,
    friendly,
    open_engine,
    say_damaged,
    settings_for,
)
from .ingest import ingest_through
from .progress import follow
from .serve import AllowOpen, address_of, check_free, check_guarded, run, warming

if TYPE_CHECKING:
    from .local import Local


@dataclass(frozen=True)
class _Part:
    model: str
    family: str
    bits: int
    data: str
    params: dict[str, Any]
    collection: str | None = None


# Epochs that make a first look in two minutes of one core; left to themselves vae trains 150, denoising 70, docs 82.
_PARTS = (
    _Part("digits-hash", "binary-autoencoder", 64, "digits", {}, "digits"),
    _Part("digits-vae", "vae", 64, "digits", {"epochs": 100}),
    _Part("digits-denoise", "denoising-autoencoder", 64, "digits", {"epochs": 30}),
    _Part("docs-hash", "binary-autoencoder", 128, "python-docs", {"epochs": 20}, "python-docs"),
)


@app.command()
@friendly
def demo(
    host: Annotated[str, typer.Option(envvar="HAMMINGBIRD_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="HAMMINGBIRD_PORT", help="Port to listen on.")] = 8000,
    serve: Annotated[bool, typer.Option(help="Serve afterwards, or only prepare the data directory.")] = True,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    allow_open: AllowOpen = False,
) -> None:
    """Train on handwritten digits and Python's documentation, ingest both, and serve.

    Example: hammingbird demo

    What is already there is kept, so a second start serves at once.
    """
    from models.data import load
    from models.errors import UnknownModel

    from .local import Local

    if serve:
        check_guarded(settings_for(data_dir, host=host, port=port, allow_open=allow_open))
        check_free(host, port)  # before minutes of training
    with warming(), open_engine(data_dir) as engine:
        service = Local(engine)
        filled = _Filled(data_dir / "demo.json")
        for part in _PARTS:
            try:
                engine.registry.get(part.model)
            except UnknownModel:
                _train(service, part)
            if part.collection is None or part.collection in engine.catalogue.damaged or filled.has(part.collection):
                continue
            ingest_through(service, load(part.data), part.collection, part.model)
            filled.add(part.collection)
        for name, detail in engine.catalogue.damaged.items():
            say_damaged(name, detail)
    if serve:
        _say_what_to_try(host, port)
        run(host, port, data_dir, allow_open)


def _train(service: Local, part: _Part) -> None:
    from models.data import load

    from ..training import Training, train

    training = Training(part.model, part.family, part.bits, part.params)
    data = load(part.data)
    service.add_model(part.model, lambda draft: follow(f"training {part.model}", train(training, data, draft)))


class _Filled:
    """Which collections were filled to the end: a broken-off one is completed, what a user did to one is left alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[str] = json.loads(path.read_bytes()) if path.exists() else []

    def has(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        self._names.append(name)
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(self._names))
        os.replace(draft, self._path)


def _say_what_to_try(host: str, port: int) -> None:
    address = address_of(host, port)
    search = {"collection": "digits", "query": {"image": DIGIT}, "k": 5}
    question = {"collection": "python-docs", "query": {"text": QUESTION}, "k": 5}
    sixteen = {"model": "digits-vae", "n": 16, "seed": 7}
    lines = [
        ("Find digits like this one", _curl(address, "search", search)),
        (f'Find documentation about "{QUESTION}"', _curl(address, "search", question)),
        ("Generate sixteen digits", f"{_curl(address, 'generate', sixteen)} -H 'accept: image/png' -o digits.png"),
    ]
    errors.print(f"\nServing on {address}, its API described at {address}/docs. Try:", highlight=False, soft_wrap=True)
    for what, line in lines:
        # Not wrapped and not coloured, so that it can be pasted.
        console.print(f"\n# {what}\n{line}", highlight=False, markup=False, soft_wrap=True)


def _curl(address: str, route: str, body: dict[str, Any]) -> str:
    return f"curl -s {address}/{route} -H 'content-type: application/json' -d '{json.dumps(body)}'"
