"""What the shell may complete besides commands and options: names that can be had without loading anything heavy.

Names of collections and models are those of the data directory, or of the service that the command is for; where
neither answers at once, nothing is completed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import typer

from .base import DEFAULT_DATA_DIR

_PATIENCE_S = 1.0

FAMILIES = (
    "acai", "alae", "autoencoder", "bernoulli-vae", "binary-autoencoder", "contractive-autoencoder",
    "denoising-autoencoder", "gan", "itq", "lsh", "nvae", "pca-sign", "vae", "vae-gan", "vq-vae",
)  # fmt: skip
"""As registered; named here too, since the registry is not to be had without torch."""


def a_family(incomplete: str) -> list[str]:
    """Families that begin so."""
    return _beginning(incomplete, FAMILIES)


def a_collection(ctx: typer.Context, incomplete: str) -> list[str]:
    """Collections that begin so."""
    return _beginning(incomplete, _names(ctx, "collections"))


def a_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Models that begin so, by their bare names: what a shell takes for a word may end at a colon."""
    return _beginning(incomplete, _names(ctx, "models"))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in set(names) if name.startswith(incomplete))


def _names(ctx: typer.Context, what: str) -> list[str]:
    given, data_dir = ctx.params.get("url"), ctx.params.get("data_dir")
    first = given[0] if isinstance(given, Sequence) and given and not isinstance(given, str) else given
    url = first.split(",")[0] if first else None
    if url and Path(data_dir or DEFAULT_DATA_DIR) == DEFAULT_DATA_DIR:
        return _asked(url, what)
    folder = Path(data_dir or DEFAULT_DATA_DIR) / what
    if not folder.is_dir():
        return []
    return [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _asked(url: str, what: str) -> list[str]:
    import httpx2

    from .places import KEY_VARIABLE

    key = os.environ.get(KEY_VARIABLE)
    # Whatever is wrong, a shell in the middle of a line is no place to say so.
    with suppress(httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError):
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        reply = httpx2.get(f"{url.rstrip('/')}/{what}", headers=headers, timeout=_PATIENCE_S).json()
        return [str(one["name"]) for one in reply[what]]
    return []
