"""Kernels that an image brings along: for levels of processors, taken where they run, else compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from index.processor import LEVELS, VARIABLE, levels_here
from index.warm import WIDTHS

OWN = {name for level in LEVELS for name in (*level.needs, *level.beyond)}
RUN = """
import json
{before}
from numba.core import config
import numpy as np
import index.contents as contents
keys, codes = np.arange(5), np.zeros((5, 8), np.uint8)
contents.contents_of(keys, codes)
compiled = [one for one in vars(contents).values() if hasattr(one, "stats")]
stats = [one.stats for one in compiled]
print(json.dumps([config.CPU_NAME, config.CACHE_DIR, sum(sum(s.cache_hits.values()) for s in stats),
                  sum(sum(s.cache_misses.values()) for s in stats)]))
"""
NONE_OF_THEM = """
import llvmlite.binding
Features = type(llvmlite.binding.get_host_cpu_features())
Features.get = lambda self, name, default=None: False
"""


def run(before: str = "", **environment: str) -> tuple[str | None, str, int, int, str]:
    """What a process settles for that compiles one kernel: processor, folder, kernels found and compiled; its log."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE and "NUMBA" not in name}
    program = [sys.executable, "-c", RUN.format(before=before)]
    done = subprocess.run(program, env={**inherited, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cpu, folder, found, compiled = json.loads(done.stdout)
    return cpu, folder, found, compiled, done.stderr


@pytest.mark.parametrize(
    ("lacks", "level"),
    [(set(), "x86-64-v4-popcount"), ({"avx512vpopcntdq"}, "x86-64-v3"), ({"avx512f"}, "x86-64-v3"), ({"avx2"}, None)],
)
def test_a_processor_gets_the_highest_level_that_it_can_run(lacks: set[str], level: str | None) -> None:
    has = {name: name not in lacks for name in OWN}
    can = [one.name for one in LEVELS if one.runs_on(has)]
    assert (can[0] if can else None) == level
    assert not [one for one in LEVELS if one.runs_on({})], "another kind of processor has none of these"


@pytest.mark.slow
@pytest.mark.skipif(not levels_here(), reason="this processor has none of the levels")
def test_kernels_that_are_brought_are_used_and_others_are_compiled(tmp_path: Path) -> None:
    level = levels_here()[0]
    brought, kept = tmp_path / "brought", tmp_path / "kept"
    building = {"NUMBA_CPU_NAME": level.cpu, "NUMBA_CPU_FEATURES": level.features}
    made = run(NUMBA_CACHE_DIR=str(brought / level.name), **building)
    assert made[2] == 0 < made[3]
    environment = {VARIABLE: str(brought), "NUMBA_CACHE_DIR": str(kept)}
    cpu, folder, found, compiled, _ = run(**environment)
    assert (cpu, folder, compiled) == (level.cpu, str(kept / level.name), 0)
    assert found > 0
    files = {file: file.stat().st_mtime_ns for file in kept.rglob("*.nb?")}
    assert run(**environment)[2:4] == (found, 0)
    assert files == {file: file.stat().st_mtime_ns for file in kept.rglob("*.nb?")}, "copied once"
    # A processor that has none of the levels compiles for itself, beside them, once.
    for expected in ((0, made[3]), (found, 0)):
        cpu, folder, *counts, _ = run(NONE_OF_THEM, **environment)
        assert (cpu, folder, tuple(counts)) == (None, str(kept), expected)
    # Where they cannot be copied, that is said.
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / level.name).write_text("in the way")
    *_, log = run(**{**environment, "NUMBA_CACHE_DIR": str(tmp_path / "full")})
    assert "cannot be copied to" in log


SERVE = """
import json, pathlib, sys
from fastapi.testclient import TestClient
from index.warm import compile_kernels
from service.app import create_app
from service.settings import Settings

bits = int(sys.argv[1])

def compiled():
    found = set()
    for name, module in list(sys.modules.items()):
        for key, one in vars(module).items() if name.startswith("index.") else ():
            if hasattr(one, "signatures") and getattr(one, "__module__", "") == name:
                found |= {f"{name}.{key} {signature}" for signature in one.signatures}
    return found

compile_kernels(bits)
before = compiled()
query = {"code": "0" * (bits // 4)}
items = [{"id": str(number), "code": f"{number:0{bits // 4}x}"} for number in range(100)]
with TestClient(create_app(Settings(data_dir=pathlib.Path(sys.argv[2])))) as client:
    for path, body in [
        ("/collections", {"name": "c", "bits": bits}),
        ("/ingest", {"collection": "c", "items": items}),
        ("/search", {"collection": "c", "query": query, "radius": 1}),
        ("/search", {"collection": "c", "query": {"id": "5"}, "k": 5}),
        ("/search/batch", {"searches": [{"collection": "c", "query": query, "k": 5}] * 20}),
        ("/collections/c/delete", {"ids": ["3"]}),
        ("/search", {"collection": "c", "query": query, "k": 5}),
        ("/ingest?on_duplicate=tag&radius=1", {"collection": "c", "items": items[:5]}),
    ]:
        reply = client.post(path, json=body)
        assert reply.status_code < 300, reply.text
    assert client.get("/collections/c/health").status_code == 200
print(json.dumps(sorted(compiled() - before)))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bits", WIDTHS)
def test_what_is_compiled_at_the_start_is_all_that_a_service_needs(bits: int, tmp_path: Path) -> None:
    program = [sys.executable, "-c", SERVE, str(bits), str(tmp_path / "data")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
