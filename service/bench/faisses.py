"""FAISS's binary indexes as peers. Its radius is exclusive, so the radius + 1 is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss

from index.bits import Codes


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for FAISS: two are slower for a single query and spin."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


class Flat:
    """`IndexBinaryFlat`: the scan that everything is compared with, and whose answers are the right ones."""

    name = "FAISS Flat"
    exact = True

    def __init__(self, bits: int, codes: Codes) -> None:
        self._index = faiss.IndexBinaryFlat(bits)
        self._index.add(codes)

    def nearest(self, code: Codes, k: int) -> Any:
        return self._index.search(code[None, :], k)[1][0]

    def within(self, code: Codes, radius: int) -> Any:
        return self._index.range_search(code[None, :], radius + 1)[2]

    def batch(self, codes: Codes, k: int) -> Any:
        return self._index.search(codes, k)[1]

    def close(self) -> None:
        del self._index


class MultiHash:
    """`IndexBinaryMultiHash` of `layout` = (chunks, bits a chunk). Its k-NN is approximate, so it has none here."""

    exact = True

    def __init__(self, layout: tuple[int, int], bits: int, codes: Codes) -> None:
        self._chunks, self._width = layout
        self.name = f"FAISS MultiHash {self._chunks}x{self._width}"
        self._index = faiss.IndexBinaryMultiHash(bits, self._chunks, self._width)
        self._index.add(codes)

    def within(self, code: Codes, radius: int) -> Any:
        # A code within the radius differs from the query by no more than this in at least one of the chunks.
        # FAISS never comes back when it is to flip more bits than there are.
        self._index.nflip = min(radius // self._chunks, self._width)
        return self._index.range_search(code[None, :], radius + 1)[2]

    def close(self) -> None:
        del self._index


def layouts(bits: int) -> list[tuple[int, int]]:
    """(chunks, bits a chunk): chunks of 16 bits, good to a million codes, and of 21, good to ten; they need not
    cover every bit."""
    return [(bits // width, width) for width in (16, 21) if bits >= width] or [(1, bits)]
