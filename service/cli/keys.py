"""hammingbird keys"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from ..scopes import Scope
from .base import DEFAULT_DATA_DIR, AsJson, DataDir, app, console, errors, friendly, print_json, settings_for

keys = typer.Typer(
    no_args_is_help=True,
    help="Create, list and revoke API keys; a running service knows within a second.\n\n"
    "Example: hammingbird keys create search-page --scope read",
)
app.add_typer(keys, name="keys")

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@keys.command()
@friendly
def create(
    name: Annotated[str, typer.Argument(help="What it is for, so that it can be told from others and revoked.")],
    scope: Annotated[Scope, typer.Option(help="What it may do; each includes those before it.")] = "read",
    expires: Annotated[str | None, typer.Option(help="When it ends: 90m, 12h, 30d. Without it, never.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a key and print it, this once.

    Example: hammingbird keys create search-page --scope read --expires 90d
    """
    from ..keys import KeyFile, as_dict

    lifetime = None if expires is None else _lifetime(expires)
    key, text = KeyFile(settings_for(data_dir).keys_folder).create(name, scope, lifetime)
    if as_json:
        print_json({**as_dict(key), "key": text})
        return
    sys.stdout.write(f"{text}\n")
    ends = f", until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else ""
    errors.print(
        f"{key.name} ({key.id}): {key.scope}{ends}. It is not shown again; send it as `Authorization: Bearer <key>`.",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


@keys.command("list")
@friendly
def list_keys(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the keys, without their texts.

    Example: hammingbird keys list
    """
    from ..keys import KeyFile, as_dict

    found = KeyFile(settings_for(data_dir).keys_folder).all()
    if as_json:
        print_json([as_dict(key) for key in found])
        return
    table = Table("id", "name", "scope", "created", "expires")
    for key in found:
        ends = "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}"
        ended = " (expired)" if key.expired(datetime.now(UTC).timestamp()) else ""
        table.add_row(key.id, key.name, key.scope, f"{key.created_at:%Y-%m-%d %H:%M}", ends + ended)
    console.print(table)


@keys.command()
@friendly
def revoke(
    key: Annotated[str, typer.Argument(help="Its id or name.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Revoke a key.

    Example: hammingbird keys revoke search-page
    """
    from ..keys import KeyFile

    file = KeyFile(settings_for(data_dir).keys_folder)
    gone = file.revoke(key)
    errors.print(f"revoked {gone.name} ({gone.id})", highlight=False, markup=False, soft_wrap=True)
    if not file.all():
        errors.print(
            "no key is left: the service goes on asking for one until it is restarted without keys.json",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _lifetime(text: str) -> timedelta:
    from ..errors import InvalidRequest

    found = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if found is None:
        raise InvalidRequest("--expires takes a number and a unit: 90m, 12h, 30d")
    return int(found[1]) * _UNITS[found[2]]
