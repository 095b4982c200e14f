"""Codes on disk and in memory: durable collections with exact Hamming search. Knows no model and no HTTP."""

from .answer import Hit, Page
from .bits import Codes, from_hex, hamming, pack, to_hex, unpack
from .brute import BruteIndex
from .catalogue import Catalogue
from .collection import EmbeddedCollection
from .collections import Backend, Collections
from .flat import FlatIndex
from .interface import Collection, Generations, Trial
from .items import Item, new_id
from .multihash import MultiHashIndex
from .protocol import HammingIndex, Hits, Plan
from .records import CollectionConfig, Duplicate, Generation, ModelKey, PutResult, Report, Request, Screen
from .rerank import Logits
from .screen import MARK

__all__ = [
    "MARK",
    "Backend",
    "BruteIndex",
    "Catalogue",
    "Codes",
    "Collection",
    "CollectionConfig",
    "Collections",
    "Duplicate",
    "EmbeddedCollection",
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
    "Screen",
    "Trial",
    "from_hex",
    "hamming",
    "new_id",
    "pack",
    "to_hex",
    "unpack",
]
