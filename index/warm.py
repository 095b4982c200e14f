"""Compile the kernels for this processor, for every kind of word there is.

Done once, at installation or at the first start, and kept on disk by numba; after that it takes a second. Run as
`python -m index.warm`. `python -m index.warm FOLDER` compiles them for all the levels that this processor can run, into
a folder each: what an image brings along (see `processor`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from .contents import contents_of
from .delta import Delta
from .drift import CodeProfile
from .health import measure
from .multihash import KeyBitmap, MultiHashIndex
from .processor import VARIABLE, levels_here
from .screen import nearest_place
from .words import as_query, as_words, padded

WIDTHS = (64, 128, 256, 32, 512)
"""One width for each number of words that has kernels of its own (see `words`), the likeliest first."""


def compile_kernels(bits: int) -> None:
    """Have everything compiled that a collection of codes of `bits` bits can need."""
    rng = np.random.default_rng(0)
    keys, codes = np.arange(100), rng.integers(0, 256, (100, bits // 8)).astype(np.uint8)
    index = MultiHashIndex.build(bits, keys, codes, hashed_from=0)  # which warms itself
    some = KeyBitmap(0, np.full(13, 0xFF, np.uint8))
    index.without(keys[:3], codes[:3]).only(some).search(codes[0], 1)
    index.only(KeyBitmap(0, np.ones(1, np.uint8))).search(codes[0], 1)
    Delta.empty(bits).extended(keys, codes).only(some).find(codes[0], 1, 1)
    contents_of(keys, codes)
    measure(codes, CodeProfile.of(codes))
    words = as_words(padded(codes, bits), bits).copy()  # as the screen has them, which puts others in their place
    nearest_place(words, np.ones(len(keys), np.uint8), len(keys), as_query(codes[0], bits), 1)


def compile_levels(folder: Path) -> None:
    """Compile them into `folder`, for every level that this processor can run, in a process each.

    Raises `CalledProcessError` where one fails, which has said why.
    """
    for level in levels_here():
        place = folder / level.name
        place.mkdir(parents=True)
        own = {
            "NUMBA_CACHE_DIR": str(place),
            "NUMBA_CPU_NAME": level.cpu,
            "NUMBA_CPU_FEATURES": level.features,
        }
        rest = {name: value for name, value in os.environ.items() if name != VARIABLE}
        sys.stdout.write(f"{level.name}: ")
        sys.stdout.flush()
        subprocess.run([sys.executable, "-P", "-m", "index.warm"], env=rest | own, check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        compile_levels(Path(sys.argv[1]))
        sys.exit()
    started = time.perf_counter()
    for width in WIDTHS:
        compile_kernels(width)
    sys.stdout.write(f"the search kernels are compiled for this processor ({time.perf_counter() - started:.0f} s)\n")
