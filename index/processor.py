"""Which processor the kernels are compiled for, and kernels that an image brings along.

Numba compiles for the very processor it runs on, which takes half a minute, and keeps the result in a folder. An image
runs on any processor and cannot know which; but the kernels gain from a few instructions only, and two levels of the
architecture have them. So an image brings kernels for those levels (`python -m index.warm FOLDER` compiles them when it
is built), and `settle` has this process use those of the highest level that its processor has. Where it has none of
them, or the image brings none, the kernels are compiled for the processor itself, at its first start.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llvmlite import binding
from numba.core import config

log = logging.getLogger("hammingbird.index")

_NUMBA: Any = config  # it makes its attributes of the environment, when it is imported

VARIABLE = "HAMMINGBIRD_KERNELS"
"""The environment variable that names the folder of kernels compiled beforehand: a folder for each level."""


@dataclass(frozen=True)
class Level:
    """Instructions that many processors share, as LLVM calls them."""

    name: str
    cpu: str
    beyond: tuple[str, ...]
    """Instructions that it has beyond those of `cpu`."""
    needs: tuple[str, ...]
    """What tells that a processor has all of it."""

    @property
    def features(self) -> str:
        return ",".join(f"+{name}" for name in self.beyond)

    def runs_on(self, has: Mapping[str, bool]) -> bool:
        """Whether a processor with these features can run it."""
        return all(has.get(name, False) for name in (*self.needs, *self.beyond))


_AVX2 = ("sse4.2", "popcnt", "cx16", "sahf", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
LEVELS = (
    Level("x86-64-v4-popcount", "x86-64-v4", ("avx512bitalg", "avx512vpopcntdq"), (*_AVX2, *_AVX512)),
    Level("x86-64-v3", "x86-64-v3", (), _AVX2),
)
"""The fastest first. Servers have the first since 2019 (Ice Lake, Zen 4), and the second since 2013."""


def levels_here() -> list[Level]:
    """Those that this processor can run, the fastest first."""
    has = binding.get_host_cpu_features()
    return [level for level in LEVELS if level.runs_on(has)]


def settle() -> None:
    """Take the kernels that are brought along, if there are any for this processor; before the first is defined.

    Numba keeps what it compiles beside what it finds, so they are copied to where it may write (`NUMBA_CACHE_DIR`), to
    a folder of their level.
    """
    brought, kept = os.environ.get(VARIABLE), _NUMBA.CACHE_DIR
    if not brought or not kept:
        return
    for level in levels_here():
        if (Path(brought) / level.name).is_dir():
            own = Path(kept) / level.name
            try:
                _copy(Path(brought) / level.name, own)
            except OSError as error:
                log.warning("kernels are compiled anew: those of %s cannot be copied to %s: %s", brought, own, error)
                return
            _NUMBA.CPU_NAME, _NUMBA.CPU_FEATURES, _NUMBA.CACHE_DIR = level.cpu, level.features, str(own)
            return


def _copy(source: Path, target: Path) -> None:
    """Have every file of `source` in `target`, unless what is there is newer.

    An index (`.nbi`) tells which code (`.nbc`) is of which source file. It comes last, so that none is ever beside code
    of another version.
    """
    for file in sorted(source.rglob("*.nb?")):
        own = target / file.relative_to(source)
        if own.exists() and own.stat().st_mtime >= file.stat().st_mtime:
            continue
        own.parent.mkdir(parents=True, exist_ok=True)
        fresh = own.with_name(f"{own.name}.{os.getpid()}")
        shutil.copy2(file, fresh)
        fresh.replace(own)
