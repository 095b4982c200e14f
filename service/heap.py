"""The C library's heap, told to stay small.

glibc gives up to eight arenas a core to threads that allocate at once, and each keeps what its busiest moment took. A
service whose threads take turns at large arrays grows by that for hours. Two arenas serve it as fast, since Python lets
one thread allocate at a time but for the kernels.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 2


def limit_arenas() -> None:
    """Bound the arenas of this process, where its C library has any. To be called before it starts threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
