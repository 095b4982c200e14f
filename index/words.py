"""Codes as machine words, and the popcount instruction over them.

A kernel wants whole words, so codes of up to 32 bits are widened to one uint32 and all others to a multiple of 64
bits, as uint64 in the machine's byte order. The bits added are zero in every code and change no distance. A query is
a tuple of words where there are few, so that the compiler knows their number and unrolls the loop over them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from .bits import Codes
from .processor import settle

settle()
log = logging.getLogger("hammingbird.index")

Words = NDArray[Any]
"""Flat words of n codes, `(n * words,)`, uint32 or uint64."""
Query = Any
"""One code as words: a tuple of numpy scalars, or an array where there are more than `_UNROLLED`."""

_UNROLLED = (1, 2, 4)
"""Numbers of words that get kernels of their own: 32, 64, 128 and 256 bits. Other widths share one."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compiled when it is first called, kept on disk, and run without the interpreter's lock."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:
        # Nowhere to keep it: neither beside the source, nor in the user's cache, nor in NUMBA_CACHE_DIR.
        log.warning("kernel %s is compiled anew at every start; set NUMBA_CACHE_DIR to a folder", function.__name__)
        return njit(nogil=True)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """A part of a kernel, put in its place: a call with a dozen arrays costs as much as looking at a few codes."""
    return njit(nogil=True, inline="always")(function)


def _inline(function: Callable[..., Any]) -> Any:
    return intrinsic(function)


@_inline
def popcount(typing_context: Any, word: Any) -> Any:
    """Number of ones in an unsigned word, as int64: LLVM's `ctpop`, which vectorises to VPOPCNT where there is one."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, builder.ctpop(arguments[0]), signature.args[0], signature.return_type)

    return types.int64(word), codegen


@_inline
def prefetch(typing_context: Any, array: Any, place: Any) -> Any:
    """Ask for the cache line of `array[place]` before it is needed."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(view.data, [arguments[1]])
        address = builder.bitcast(address, ir.IntType(8).as_pointer())
        integer = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, integer, integer, integer])
        function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, kind, "llvm.prefetch.p0"
        )
        read, keep_longest, data = integer(0), integer(3), integer(1)
        builder.call(function, [address, read, keep_longest, data])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


def query_at(queries: Words, i: int, like: Query) -> Query:
    """Row `i` of `queries` `(q, words)` in the form of `like`; for kernels only."""
    raise NotImplementedError


@overload(query_at)
def _query_at(queries, i, like):  # type: ignore[no-untyped-def]  # numba compares it with what it returns
    if not isinstance(like, types.UniTuple):
        return lambda queries, i, like: queries[i]
    if like.count == 1:
        return lambda queries, i, like: (queries[i, 0],)
    if like.count == 2:
        return lambda queries, i, like: (queries[i, 0], queries[i, 1])
    return lambda queries, i, like: (queries[i, 0], queries[i, 1], queries[i, 2], queries[i, 3])


def word_type(bits: int) -> type[np.uint32] | type[np.uint64]:
    """The type of the words that codes of `bits` bits are held in."""
    return np.uint32 if bits <= 32 else np.uint64


def words_of(bits: int) -> int:
    """How many words a code of `bits` bits takes."""
    return max(1, -(-bits // 64))


def padded(codes: Codes, bits: int) -> Codes:
    """Codes `(n, bits / 8)` with zeros behind, `(n, bytes of whole words)`; the same array where nothing is added."""
    size = words_of(bits) * np.dtype(word_type(bits)).itemsize
    if codes.shape[1] == size:
        return np.ascontiguousarray(codes)
    wide = np.zeros((len(codes), size), np.uint8)
    wide[:, : codes.shape[1]] = codes
    return wide


def unpadded(words: Words, bits: int) -> Codes:
    """The codes `(n, bits / 8)` that flat words hold; a view of the same memory."""
    size = words_of(bits) * words.itemsize
    return words.view(np.uint8).reshape(words.nbytes // size, size)[:, : bits // 8]


def as_words(wide: Codes, bits: int) -> Words:
    """The flat words of padded codes; a view of the same memory that cannot be written.

    Numba compiles a kernel once for arrays that can be written and once for those that cannot, and of codes there are
    both: so that one is enough, those that come from outside never can be.
    """
    return _read_only(wide.reshape(-1).view(word_type(bits)))


def as_query(code: Codes, bits: int) -> Query:
    """One code `(bits / 8,)` as the kernels take it."""
    if bits % 64:
        code = padded(code[None, :], bits)[0]
    words: Words = code.view(np.uint32 if bits <= 32 else np.uint64)
    return tuple(words) if bits <= 128 or len(words) in _UNROLLED else _read_only(words)


def _read_only(words: Words) -> Words:
    view = words.view()
    view.flags.writeable = False
    return view
