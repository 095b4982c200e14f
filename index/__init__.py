"""Codes on disk and in memory: durable collections with exact Hamming search. Knows no model and no HTTP."""

from .answer import Hit, Page
from .bits import Codes, from_hex, hamming, pack, to_hex, unpack
from .brute import BruteIndex
from .catalogue import Catalogue
from .collection import Collection
from .flat import FlatIndex
from .generations import Generations, Trial
from .items import Item, new_id
from .multihash import MultiHashIndex
from .protocol import HammingIndex, Hits, Plan
from .records import CollectionConfig, Generation, ModelKey, PutResult, Report, Request
from .rerank import Logits

__all__ = [
    "BruteIndex",
    "Catalogue",
    "Codes",
    "Collection",
    "CollectionConfig",
    "FlatIndex",
    "Generation",
    "Generations",
    "HammingIndex",
    "Hit",
    "Hits",
    "Item",
    "Logits",
    "ModelKey",
    "MultiHashIndex",
    "Page",
    "Plan",
    "PutResult",
    "Report",
    "Request",
    "Trial",
    "from_hex",
    "hamming",
    "new_id",
    "pack",
    "to_hex",
    "unpack",
]
