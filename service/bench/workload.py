"""What `bench scale` asks of a collection, where that is kept, and what is measured."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path

from index import Catalogue
from index.milvus import Connection, MilvusCatalogue
from index.milvus.connection import Consistency

RADIUS = 3
K = 10
QUERIES = 20_000
LABELS = 10
COUNTED = 20
"""Queries whose distances to every code are counted while these are made, to check the answers by."""

_TOKEN = "HAMMINGBIRD_MILVUS_TOKEN"
_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage is told."""

    folder: str  # of the collections
    name: str  # of the collection
    items: int
    bits: int
    seed: int
    seconds: float  # for each question
    payloads: bool
    shuffled: bool  # ids come in no order
    milvus_uri: str | None = None  # where the collection is, if not in the folder
    milvus_pid: int | None = None  # of its server, where that runs on this machine

    @property
    def threads(self) -> tuple[int, ...]:
        """How many ask at a time: in one process they share the interpreter, before Milvus most of the time is spent
        on waiting."""
        return (1, 2) if self.milvus_uri is None else (1, 8)


def opened_catalogue(
    work: Work, consistency: Consistency = "strong"
) -> AbstractContextManager[Catalogue | MilvusCatalogue]:
    """The catalogue that the collection is in. consistency: of searches in Milvus."""
    if work.milvus_uri is None:
        return closing(Catalogue(Path(work.folder)))
    return closing(MilvusCatalogue(connected(work.milvus_uri, consistency), owner=work.name))


def connected(uri: str, consistency: Consistency = "strong") -> Connection:
    return Connection(uri, os.environ.get(_TOKEN, ""), timeout_s=_TIMEOUT_S, consistency=consistency)


@dataclass(frozen=True, slots=True)
class Filled:
    """What it took to store the items; the codes and ids were made outside of the time."""

    seconds: float
    cpu_seconds: float  # of the processor, upkeep included
    merge_seconds: float  # until what was written last was merged, of `seconds`
    peak_bytes: int  # by which the process had grown at the most
    written_bytes: int  # to the disk, logs and merges included
    distances: list[list[int]]  # for each counted query, how many codes are at each distance


@dataclass(slots=True)
class Asked:
    """How one kind of question was answered; times in microseconds."""

    what: str
    threads: int
    per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float
    found: float | None = None  # items in all, of which an answer shows at most a page; None over HTTP
    server_us: float | None = None  # of the processor, by a Milvus on this machine


@dataclass(slots=True)
class Opened:
    """What a process needs to open the collection, and how it then answers."""

    seconds: float
    grown_bytes: int  # resident memory beside that of the same process before
    peak_bytes: int  # the same at the most
    index_bytes: int | None  # where it is in this process
    first_filter_seconds: float | None
    asked: list[Asked] = field(default_factory=list)
    server_bytes: int | None = None  # resident, of a Milvus on this machine
    wrong: int = 0  # of COUNTED answers to each of two questions
