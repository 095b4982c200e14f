"""A process is killed at every point of a change of model; the collection opens and serves one model. (C1, C3, S3)"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import generating
import pytest
from generating import assert_holds, by_id, go_over, make, opened, put, some

# The script goes over from model 0 to model 2, which is wider, and gives up the old codes, while a thread writes. It
# says what it was told is stored. `die` is called at the point where it is to end.
SCRIPT = """
import os, signal, sys, threading
from pathlib import Path
from generating import BITS, fill, key_of, models_of, opened, put, some
from index import sidecar
from index.errors import GenerationChanged
from index.shadow import Shadow
from index.transaction import Transaction

root, point = Path(sys.argv[1]), sys.argv[2]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def at(owner, name, when):
    original = getattr(owner, name)
    def wrapped(*args, **kwargs):
        if when == "before":
            die()
        result = original(*args, **kwargs)
        die()
        return result
    setattr(owner, name, wrapped)

def here(name):
    if point == name:
        die()

collection = opened(root, merge_at=1 << 40, copy_from=10)
stop = threading.Event()

def write():
    number = 1000
    while not stop.is_set():
        items = some(3, first=number)
        try:
            put(collection, items, models_of(collection))
        except GenerationChanged:
            continue
        print(number, flush=True)
        number += 3

writer = threading.Thread(target=write)
writer.start()
if point == "beginning":
    at(Transaction, "begin", "after")
number = collection.generations.begin(key_of(2), BITS[2]).number
here("begun")
fill(collection, number, 2, most=100)
if point == "filling":
    at(Shadow, "fill", "after")
fill(collection, number, 2)
here("filled")
collection.generations.make_ready(number)
here("ready")
points = {
    "flip, before the commit": (Transaction, "flip", "after"),
    "flip, committed and not published": (collection._live._commits, "_publish", "before"),
    "flip, published": (sidecar, "discard", "before"),
    "flip, old copy removed": (sidecar, "discard", "after"),
    "flip, new copy written": (sidecar.os, "replace", "before"),
    "flip, new copy in place": (Transaction, "forget_removed", "before"),
}
if point == "flip, committed and not published":
    stop.set()
    writer.join()
if point in points:
    at(*points[point])
collection.generations.flip(number)
here("flipped")
if point == "dropping":
    at(Transaction, "drop", "after")
collection.generations.drop(0)
here("dropped")
"""
BEFORE = ["beginning", "begun", "filling", "filled", "ready", "flip, before the commit"]
AFTER = [
    "flip, committed and not published",
    "flip, published",
    "flip, old copy removed",
    "flip, new copy written",
    "flip, new copy in place",
    "flipped",
    "dropping",
    "dropped",
]
QUICK = {"flip, before the commit", "flip, committed and not published"}


@pytest.mark.parametrize(
    "point", [pytest.param(one, marks=[] if one in QUICK else [pytest.mark.slow]) for one in BEFORE + AFTER]
)
def test_a_kill_at(tmp_path: Path, point: str) -> None:
    """What was acknowledged is there and nothing else but the write in flight; before the commit the old model serves
    it, from then on the new one; and the collection can go over again."""
    collection = make(tmp_path, merge_at=1 << 40, copy_from=10)
    put(collection, some(300), [0])
    collection.merge()
    collection.close()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), point]
    paths = [str(Path(generating.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    child = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert child.returncode == -9, child.stderr
    written = [int(line) for line in child.stdout.split()]
    collection = opened(tmp_path, merge_at=1 << 40, copy_from=10)
    items = by_id(some(300) + [item for number in written for item in some(3, first=number)])
    flight = some(3, first=max(written, default=997) + 3)
    held = {item.id for item in collection.scan()}
    if held >= {item.id for item in flight}:  # committed, and killed before it was acknowledged
        items |= by_id(flight)
    model = 0 if point in BEFORE else 2
    assert_holds(collection, items, model)
    states = {one.state for one in collection.generations.all()} - {"serving"}
    if point in ("ready", "flip, before the commit"):
        assert states == {"ready"}
    else:
        assert states == (set() if point in BEFORE or point == "dropped" else {"kept"})
    if states == {"ready"}:
        collection.generations.drop(collection.generations.beside("ready").number)
    go_over(collection, 1)
    assert_holds(collection, items, 1)
    collection.generations.flip(collection.generations.beside("kept").number)
    assert_holds(collection, items, model)
    collection.close()
