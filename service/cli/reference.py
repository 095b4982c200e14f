"""docs/cli.md: written here, so that it can say nothing else than the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from .base import app

_INTRODUCTION = """# The command line

`hammingbird --help` lists the commands, `hammingbird <command> --help` describes one, with an example. This page has
both: how all of them work, then each. It is written by `tools/cli-reference`.

```sh
hammingbird train --data digits --name my-hash --family itq
hammingbird ingest --data digits --collection my-digits --model my-hash
hammingbird search --collection my-digits --id digit-0000 -k 3
hammingbird search --collection my-digits --id digit-0000 --radius 8 --filter '{"label": "0"}' --json
hammingbird search --collection my-digits --id digit-0000 -k 11 --sheet hits.png
hammingbird collections show my-digits
hammingbird check
```

`--data` takes a folder of images, sounds or texts (the folder that a file lies in is its label), an IDX pair (MNIST's
format), `.npy`, `.npz`, `.jsonl`, `.csv`, `.tsv`, `.parquet` (with the extra `parquet`), or a built-in name: `digits`,
`python-docs`, `lines`, `spiral`, `tones`.

## Beside a running service

A data directory has one owner at a time. While a service owns it (`make run`, `hammingbird serve`, a container),
commands ask the service, here or on another machine, through its REST API:

```sh
export HAMMINGBIRD_URL=http://127.0.0.1:8000
hammingbird search --collection digits --id digit-0000 --radius 8 --sheet hits.png
hammingbird generate --model digits-vae -n 16 --seed 7 --png digits.png
hammingbird denoise --model digits-denoise --collection digits --id digit-0000 --find digits --out clean.png
hammingbird train --data digits --name digits-itq --family itq
hammingbird models promote digits-itq
hammingbird collections
```

- `--url`, or `HAMMINGBIRD_URL`, says which service; without either a command opens `--data-dir` itself. `--data-dir` on
  the command line counts more than `HAMMINGBIRD_URL` in the environment; both on the command line are refused.
- Where keys are on, the key is read from `HAMMINGBIRD_API_KEY`. It is no option, since others on a machine can read the
  options of a process.
- `train` computes where it is called, and sends the finished model: a key of scope `admin` is needed, which is tried
  before the training. A model that is there already with the same fingerprint is not stored twice.
- A service that is too busy (429, 503) is asked again up to four times, after as long as it says.
- `ingest --workers` and several `--url` are for much data: [bulk ingest](operations.md#bulk-ingest).
- `check` and `keys` work on the files, so they have no `--url`; `keys` and `backup` may be used beside a service.

## What goes where

Standard output has the result and nothing else: with `--json` one JSON document, the reply of the REST API where there
is one. Progress, notes and errors go to standard error: on a terminal as a bar with rate and time left, elsewhere as a
plain line for each tenth. Tables are as wide as the terminal, in a pipe 160 columns (`COLUMNS` changes that).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | refused, failed or, by `check`, `evaluate --suite families` and `bench index`, found wrong; one line says why |
| 2 | wrong usage: an option that is missing, unknown or not what it takes |
| 130 | stopped by Ctrl-C (143: by SIGTERM) |

Ctrl-C leaves nothing half-done: `train` leaves no model, `ingest` stops between two batches of at most 500 items and
says how many are stored, pictures and backups are there whole or not at all. `ingest` run again goes on: what is stored
with the same content is not encoded again. `serve` finishes the requests in flight and ends with 0; a second Ctrl-C
cuts them off, with 130.

## Completion

```sh
hammingbird --install-completion
```

The next shell (bash, zsh or fish, whichever this is run in) completes commands, options and the names of families, and
of the collections and models in the data directory or at `HAMMINGBIRD_URL`.

`--help` and completion take a quarter of a second of processor time, half of it Python and its libraries for terminals;
a command that asks a service half a second; one that opens a data directory about four, most of it for torch.
"""


_TYPES = {"str": "text", "int": "number", "int range": "number", "float": "number", "float range": "number"}


def as_markdown() -> str:
    """The page of the documentation that describes every command."""
    sections = [_INTRODUCTION]
    for name, command in commands():
        paragraphs = "\n\n".join(_paragraphs(command.help or ""))
        sections.append(f"## `hammingbird {name}`\n\n{paragraphs}\n")
        rows = [row for param in command.params if (row := _row(param)) is not None]
        if rows:
            sections.append("| argument or option | what it is |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(sections)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its whole name, with those of groups after their group, as click knows them."""
    group: Any = typer.main.get_command(app)
    for name in group.list_commands(None):
        command = group.commands[name]
        yield name, command
        for verb, inner in getattr(command, "commands", {}).items():
            yield f"{name} {verb}", inner


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text, their command lines marked as such."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        line = " ".join(paragraph.split())
        yield re.sub(r"(?<=: )(hammingbird .*)$", r"`\1`", line)


def _row(param: Any) -> str | None:
    if param.name == "help" or getattr(param, "hidden", False):
        return None
    kind = getattr(param.type, "choices", None)
    value = "" if getattr(param, "is_flag", False) else " " + ("\\|".join(kind) if kind else _metavar(param))
    if param.param_type_name == "argument":
        names = f"`{param.name.upper()}`"
    else:
        names = ", ".join(f"`{name}{value}`" for name in (*param.opts, *param.secondary_opts))
    notes = []
    if param.required:
        notes.append("Required.")
    elif _has_default(param):
        notes.append(f"Default: `{param.default}`.")
    if getattr(param, "envvar", None):
        notes.append(f"Environment: `{param.envvar}`.")
    text = (param.help or "").replace("|", "\\|")
    return f"| {names} | {' '.join([text, *notes])} |"


def _metavar(param: Any) -> str:
    return str(param.metavar or _TYPES.get(param.type.name, param.type.name)).upper()


def _has_default(param: Any) -> bool:
    flag = getattr(param, "is_flag", False)
    return param.default not in (None, "", ()) and not flag and not callable(param.default)
