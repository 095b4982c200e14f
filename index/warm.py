"""Compile the kernels for this processor, for every kind of word there is.

Done once, at installation or at the first start, and kept on disk by numba; after that it takes a second. Run as
`python -m index.warm`.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from .contents import contents_of
from .delta import Delta
from .drift import CodeProfile
from .health import measure
from .multihash import KeyBitmap, MultiHashIndex
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
    words = as_words(padded(codes, bits), bits)
    nearest_place(words, np.ones(len(keys), np.uint8), len(keys), as_query(codes[0], bits), 1)


if __name__ == "__main__":
    started = time.perf_counter()
    for width in WIDTHS:
        compile_kernels(width)
    sys.stdout.write(f"the search kernels are compiled for this processor ({time.perf_counter() - started:.0f} s)\n")
