"""The item that a command is given: one of several options, as an input of the REST API."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Annotated, Any

import typer

_FILE = {"exists": True, "dir_okay": False}

Text = Annotated[str | None, typer.Option("--text", help="The item: this text.", rich_help_panel="Item")]
Image = Annotated[
    Path | None,
    typer.Option("--image", help="The item: a picture, .png, .jpg or .webp.", rich_help_panel="Item", **_FILE),
]
Audio = Annotated[
    Path | None, typer.Option("--audio", help="The item: a sound, .wav or .flac.", rich_help_panel="Item", **_FILE)
]
Vector = Annotated[
    str | None, typer.Option("--vector", help="The item: a JSON list of numbers.", rich_help_panel="Item")
]
Code = Annotated[
    str | None, typer.Option("--code", help="The item: a ready-made code, hexadecimal.", rich_help_panel="Item")
]
Id = Annotated[str | None, typer.Option("--id", help="The item: one that is stored.", rich_help_panel="Item")]

NAMES = ("--text", "--image", "--audio", "--vector", "--code", "--id")


def given(
    *,
    text: str | None = None,
    image: Path | None = None,
    audio: Path | None = None,
    vector: str | None = None,
    code: str | None = None,
    id: str | None = None,
    needed: bool = True,
) -> dict[str, Any] | None:
    """The one input that the options say; None where there is none and none is needed. Raises `BadParameter`."""
    found: dict[str, Any] = {"text": text, "code": code, "id": id}
    for name, path in (("image", image), ("audio", audio)):
        if path is not None:
            found[name] = base64.b64encode(path.read_bytes()).decode()
    if vector is not None:
        found["vector"] = _numbers(vector)
    found = {name: value for name, value in found.items() if value is not None}
    if not found and not needed:
        return None
    if len(found) != 1:
        raise typer.BadParameter(f"give {'exactly' if needed else 'at most'} one of {', '.join(NAMES)}")
    return found


def from_json(text: str, option: str) -> Any:
    """The JSON in an option. Raises `BadParameter`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} must be JSON, in quotes for the shell: {error}") from None


def _numbers(text: str) -> list[float]:
    try:
        return [float(value) for value in json.loads(text)]
    except (ValueError, TypeError):
        raise typer.BadParameter("--vector must be a JSON list of numbers") from None
