"""Collections in Milvus, for when one machine is not enough: the same `Collection`, for any number of processes."""

from .catalogue import MilvusCatalogue
from .collection import MilvusCollection
from .connection import Connection

__all__ = ["Connection", "MilvusCatalogue", "MilvusCollection"]
