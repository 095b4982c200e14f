"""Names that try to leave the data directory, or to be another one's. (reliability.md H9)"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from bodies import BODIES, NAMES, target
from support import assert_problem
from wire import Served

import service

HOSTILE = [
    "..",
    ".",
    "...",
    "%2e%2e%2f",
    "..%2f..%2fetc%2fpasswd",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/../b",
    "a\\..\\b",
    "CON",
    "con",
    "nul.txt",
    "aux",
    "x" * 10_000,
    "x" * 64,
    "",
    " ",
    "a b",
    "A",
    "\u0430",
    "digits\u200b",
    "ｄigits",
    "dig\u0131ts",
    "-digits",
    "_digits",
    ".digits",
    "digits.",
    "digits/",
    "digits\n",
    "\0",
    "a\0b",
    "~",
    "~root",
    "$HOME",
    "`id`",
    "file:///etc/passwd",
    "digits;x",
    "digits?x=y",
    "digits#x",
    "items.db",
    "lock",
    "{collection}",
    "*",
    "é",
    "\u202esitigid",
]
PARAMETERS = ("collection", "reference", "name", "alias")


def asked(served: Served, document: dict[str, object], hostile: str) -> int:
    """Ask for `hostile` wherever a name may stand; how often it was."""
    count = 0
    for route, methods in document["paths"].items():  # type: ignore[attr-defined]
        for method in methods:
            body = json.dumps(BODIES[route]).encode() if route in BODIES and method in ("post", "put") else None
            for parameter in PARAMETERS:
                if f"{{{parameter}}}" in route:
                    names = NAMES | {parameter: quote(hostile, safe="")}
                    if parameter == "alias" and hostile in ("con", "aux", "lock"):
                        continue  # good names for an alias
                    reply = served.send(method.upper(), target(route, **names), body)
                    count += 1
                    if reply.status_code == 307:  # to the route without the slash
                        assert hostile in ("", "digits/"), hostile
                        continue
                    assert reply.status_code in (404, 405, 422), (method, route, parameter, hostile, reply.text)
                    assert_problem(reply, reply.status_code)
                    assert "root:x:" not in reply.text
                    assert len(reply.content) < 2_000
    for field, route in (
        ("collection", "/ingest"),
        ("collection", "/search"),
        ("model", "/generate"),
        ("name", "/train"),
    ):
        if field == "name" and re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", hostile):
            continue  # a good name for a model, which would be trained
        reply = served.post(route, {**BODIES[route], field: hostile})
        assert reply.status_code in (404, 422), (route, hostile, reply.text)
        count += 1
    for value in ({"name": hostile, "bits": 64}, {"name": "new", "model": hostile}):
        reply = served.post("/collections", value)
        if reply.status_code == 201:
            assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", hostile)
            assert served.send("DELETE", f"/collections/{hostile}").status_code == 204
        else:
            assert reply.status_code in (404, 422), reply.text
        count += 1
    reply = served.send(
        "POST", f"/ingest?collection={quote(hostile, safe='')}&model=docs-hash", b"{}\n", "application/x-ndjson"
    )
    assert reply.status_code in (404, 422)
    return count


def files(root: Path) -> set[str]:
    """What lies there, but for what SQLite makes and takes away, and the log."""
    return {str(path) for path in root.rglob("*") if not re.search(r"-(wal|shm)$|\.log$|/jobs(/|$)", str(path))}


def test_no_name_reaches_a_file_of_its_own(served: Served) -> None:
    """H9: on every route with a name, in every body and address; 404 or 422, and no file appears or goes anywhere."""
    document = served.get("/openapi.json").json()
    before = files(served.root.parent)
    tried = sum(asked(served, document, hostile) for hostile in HOSTILE)
    assert tried > 500
    assert files(served.root.parent) == before
    assert served.get("/collections/digits").json()["items"] >= 300


@pytest.mark.slow
def test_only_the_data_directory_is_opened(prepared: Path, tmp_path: Path) -> None:
    """H9: as the system sees it: what is opened, made, renamed or removed for these names lies where it may."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    from support import free_port, wait_ready

    root = Path(shutil.copytree(prepared, tmp_path / "data"))
    port, trace = free_port(), tmp_path / "trace"
    calls = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,link"
    command = ["strace", "-f", "-qq", "-s", "4096", "-e", f"trace={calls}", "-o", str(trace)]
    command += [sys.executable, "-m", "service", "serve", "--port", str(port), "--data-dir", str(root)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, start_new_session=True)
        try:
            try:
                wait_ready(f"http://127.0.0.1:{port}", process, timeout_s=100)
            except AssertionError:
                if process.poll() is not None and b"ptrace" in (tmp_path / "log").read_bytes():
                    pytest.skip("strace may not trace here")
                raise
            served = Served(port, process.pid, root)
            document = served.get("/openapi.json").json()
            served.get("/metrics")
            time.sleep(0.5)
            start = trace.stat().st_size
            for hostile in HOSTILE[::3]:
                asked(served, document, hostile)
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # strace passes none on
            process.wait(60)
    seen = trace.read_bytes()[start:].decode(errors="replace")
    paths = re.findall(
        r'\b(?:open|openat|creat|mkdir|mkdirat|rename\w*|unlink\w*|rmdir|symlink|link)\([^"]*"([^"]*)"', seen
    )
    # What Python, its libraries and the C library look up for themselves, none of which a name could lead to.
    code = Path(service.__file__).resolve().parent.parent
    own = (
        sys.prefix,
        sys.base_prefix,
        str(code),
        "/proc/",
        "/sys/",
        "/dev/",
        "/usr/",
        "/lib",
        "/etc/ld.so",
        "/etc/localtime",
    )
    outside = [path for path in paths if path.startswith("/") and not path.startswith((str(root), *own))]
    assert not outside, outside[:20]
    named = [path for path in paths if path.startswith(str(root))]
    assert named, "something of the data directory was opened"
    assert not [path for path in named if ".." in Path(path).parts or "\\" in path]
    assert '"/etc/passwd"' not in seen
