"""hammingbird models"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from .base import (
    DEFAULT_DATA_DIR,
    AsJson,
    CommandError,
    DataDir,
    app,
    console,
    friendly,
    has_verb,
    print_json,
    print_line,
    say,
    say_damaged,
)
from .completion import a_model
from .places import Url, opened

models = typer.Typer(
    invoke_without_command=True,
)
app.add_typer(models, name="models")

Reference = Annotated[str, typer.Argument(help="Which one: name, name:3 or name@alias.", autocompletion=a_model)]


@models.callback()
@friendly
def list_all(
    ctx: typer.Context,
    families: Annotated[bool, typer.Option("--families", help="List what this program can train instead.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the trained models, or the families; show, promote or delete one.

    Example: hammingbird models --families
    """
    if has_verb(ctx):
        return
    if families:
        _list_families(as_json)
        return
    with opened(ctx, url, data_dir) as service:
        reply = service.models()
    for one in reply["damaged"]:
        say_damaged(one["name"], one["detail"])
    if as_json:
        print_json(reply["models"])
        return
    table = Table("model", "aliases", "family", "bits", "input", "retrieval", "fingerprint")
    for card in reply["models"]:
        table.add_row(
            _reference(card),
            ", ".join(card["aliases"]),
            card["family"],
            str(card["bits"]),
            card["input"]["kind"],
            _measured(card),
            card["fingerprint"][:12],
        )
    console.print(table)


def _list_families(as_json: bool) -> None:
    from ..routes.models import families as list_families

    found = list_families().families
    if as_json:
        print_json([family.model_dump() for family in found])
        return
    table = Table("family", "can", "parameters", "what it is")
    for family in found:
        can, params = ", ".join(family.capabilities), ", ".join(family.params["properties"])
        table.add_row(family.name, can, params, family.summary)
    console.print(table)


def _reference(card: dict[str, Any]) -> str:
    return f"{card['name']}:{card['version']}"


def _measured(card: dict[str, Any]) -> str:
    value = card["metrics"].get("retrieval")
    return "" if value is None else f"{value:.3f}"


@models.command()
@friendly
def show(
    ctx: typer.Context,
    reference: Reference,
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show one with its card.

    Example: hammingbird models show digits-hash
    """
    with opened(ctx, url, data_dir) as service:
        card = service.model(reference)
    if as_json:
        print_json(card)
        return
    print_line(f"{_reference(card)}: {card['family']}, {card['bits']} bits, {card['input']['kind']}")
    print_line(f"aliases: {', '.join(card['aliases']) or 'none'}; can: {', '.join(card['capabilities'])}")
    print_line(f"fingerprint: {card['fingerprint']}\n\n{card['card']}")


@models.command()
@friendly
def promote(
    ctx: typer.Context,
    reference: Reference,
    alias: Annotated[str, typer.Option(help="The alias that is to mean it; champion is what the bare name means.")] = (
        "champion"
    ),
    as_json: AsJson = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Let an alias mean this version.

    Example: hammingbird models promote photos-hash:3
    """
    with opened(ctx, url, data_dir) as service:
        card = service.model(reference)
        card = service.set_alias(card["name"], alias, card["version"])
    if as_json:
        print_json(card)
    else:
        print_line(f"{card['name']}@{alias} is {_reference(card)}")


@models.command()
@friendly
def delete(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(help="Which one, by its version: name:3.", autocompletion=a_model)],
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Delete a version that no collection was filled by.

    Example: hammingbird models delete photos-hash:2
    """
    if ":" not in reference:
        raise CommandError(f"say which version of {reference[:100]} to delete, such as {reference[:100]}:1")
    with opened(ctx, url, data_dir) as service:
        service.delete_model(reference)
    say(f"deleted {reference}")
