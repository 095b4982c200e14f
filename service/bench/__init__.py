"""Our Hamming indexes beside others, timed in one run and checked answer by answer."""

from .codes import clustered
from .peers import PEERS, Batches, IndexPeer, Maker, Nearest, Peer, Within
from .run import index_benchmark
from .table import Build, Report, Row

__all__ = [
    "PEERS",
    "Batches",
    "Build",
    "IndexPeer",
    "Maker",
    "Nearest",
    "Peer",
    "Report",
    "Row",
    "Within",
    "clustered",
    "index_benchmark",
]
