"""Large pages for large arrays: a search reads memory at random, and each small page is one more thing to look up."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from numpy.typing import NDArray

_LARGE = 2 << 20
_COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1; other systems and kernels refuse it, and nothing is lost but some speed
_libc = ctypes.CDLL(None)


def use_large_pages(array: NDArray[Any]) -> None:
    """Ask the system to hold `array` in pages of 2 MiB. Advice: where it is not taken, nothing changes.

    numpy asks for its own arrays; this is for memory that others have allocated and filled.
    """
    start = -(-array.ctypes.data // _LARGE) * _LARGE
    end = (array.ctypes.data + array.nbytes) // _LARGE * _LARGE
    if end > start and hasattr(mmap, "MADV_HUGEPAGE"):
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _COLLAPSE)
