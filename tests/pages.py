"""The blocks of the documents, and how they are run: in the order of their page, as one bash script, in one folder.

A fence says what becomes of its block, after the language:

```sh            a script that is run
```sh serve      the same in the background, until it is ready
```sh install    nothing but targets of the Makefile, and the virtual environment that they make
```python        run by python
```json          what the block before prints: its keys are among those that were printed
```text          what the block before prints: its words are among those that were printed
```text example  what it printed once, with names that are not in other data

`hammingbird` is answered by the process that tests, which has torch loaded, but for `serve`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import free_port
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("sh", "python", "json", "text")
MARKS = ("serve", "install", "example")
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_ADDRESS = "127.0.0.1:8000"
_MARK = "=-=-= block"
_FEWER = {"train": ["--set", "epochs=1"], "evaluate": ["--set", "epochs=1", "--seeds", "1"]}
"""What is added to commands that would take minutes, unless a page is followed in earnest."""


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is where it begins in its page."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python") and self.mark != "install"


def pages() -> list[Path]:
    """README and every page of docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        language, _, mark = match["info"].partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page.relative_to(ROOT).as_posix(), line, language, mark, match["text"]))
    return found


def follow(
    found: Sequence[Block], folder: Path, *, demo: str | None = None, earnest: bool = False, timeout_s: float = 100
) -> dict[int, str]:
    """Run the blocks of a page in `folder`; what each printed, by its line.

    demo: a data directory there that is served from the beginning. earnest: as a reader would, with the real command
    and for as long as it takes.
    """
    port = free_port()
    script = ["set -euo pipefail"]
    if demo is not None:
        script += [f"hammingbird serve --data-dir {demo} >serve.log 2>&1 &", _until_ready(port)]
    for block in (block for block in found if block.runs):
        script.append(f"echo '{_MARK} {block.line}'; echo '{_MARK} {block.line}' >&2")
        if block.language == "python":
            name = f".block-{block.line}.py"
            (folder / name).write_text(block.text.replace(_ADDRESS, f"127.0.0.1:{port}"))
            script.append(f"python {name}")
        elif block.mark == "serve":
            script.append(f"{{\n{block.text}}} >serve.log 2>&1 &")
            script.append(_until_ready(port))
        else:
            script.append(block.text.replace(_ADDRESS, f"127.0.0.1:{port}"))
    bin = Path(sys.executable).parent
    with answering(folder) as stand_in:
        path = os.pathsep.join([*([] if earnest else [str(stand_in)]), str(bin), os.environ["PATH"]])
        python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PATH": path, "HAMMINGBIRD_PORT": str(port), "PYTHONPATH": python_path}
        process = subprocess.Popen(
            ["bash", "-c", "\n".join(script)],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        finally:
            with suppress(ProcessLookupError):  # what was left to serve, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    log = (folder / "serve.log").read_text()[-2000:] if (folder / "serve.log").exists() else ""
    assert process.returncode == 0, f"{stdout[-3000:]}\n{stderr[-3000:]}\n{log}"
    out: dict[int, str] = {}
    for stream in (stdout, stderr):
        for part in stream.split(f"{_MARK} ")[1:]:
            line, _, said = part.partition("\n")
            out[int(line)] = out.get(int(line), "") + said
    return out


def _until_ready(port: int) -> str:
    ready = f"curl -sf -o /dev/null http://127.0.0.1:{port}/readyz"
    fail = "{ cat serve.log; exit 1; }"
    wait = f"for _ in $(seq 1200); do {ready} && break; kill -0 $! || {fail}; sleep 0.1; done"
    return f"{wait}; {ready} || {fail}"


# -- what stands for the reader's command ---------------------------------------------------------------------------

_CLIENT = """#!{python} -IS
import json, os, socket, sys
if sys.argv[1:2] == ["serve"]:
    os.execv({python!r}, [{python!r}, "-m", "service", *sys.argv[1:]])
with socket.create_connection({address!r}) as asked:
    settings = {{name: value for name, value in os.environ.items() if name.startswith("HAMMINGBIRD_")}}
    asked.sendall(json.dumps([sys.argv[1:], os.getcwd(), settings]).encode() + b"\\n")
    code, out, err = json.loads(asked.makefile("rb").read())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@contextmanager
def answering(folder: Path) -> Iterator[Path]:
    """A folder with a `hammingbird` whose commands this process runs, one at a time, with little training."""
    bin = folder / ".bin"
    bin.mkdir(exist_ok=True)
    _make(bin / "pip", "#!/bin/sh\n")  # what a test needs is there, or the test is skipped
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        _make(bin / "hammingbird", _CLIENT.format(python=sys.executable, address=address))
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield bin
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _make(command: Path, text: str) -> None:
    command.write_text(text)
    command.chmod(command.stat().st_mode | stat.S_IEXEC)


def _serve(listener: socket.socket) -> None:
    from service.cli import app

    ours = [name for name in os.environ if name.startswith("HAMMINGBIRD_")]
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            arguments, folder, settings = json.loads(connection.makefile("rb").readline())
            here = Path.cwd()
            os.chdir(folder)
            try:
                done = CliRunner().invoke(
                    app,
                    [*arguments, *_FEWER.get(arguments[0] if arguments else "", [])],
                    env={"COLUMNS": "200", **dict.fromkeys(ours), **settings},
                )
            finally:
                os.chdir(here)
            said = "" if done.exception is None or done.exit_code == 2 else f"{done.exception!r}"
            connection.sendall(json.dumps([done.exit_code, done.stdout, done.stderr + said]).encode())


# -- what is printed ------------------------------------------------------------------------------------------------


def keys(value: Any) -> set[str]:
    """Every key of nested JSON."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set[str]().union(*map(keys, value)) if isinstance(value, list) else set()


def words(text: str) -> set[str]:
    """The words of an output: what is no number and no example."""
    return set(re.findall(r"[A-Za-z][A-Za-z_@+-]{2,}", text))
