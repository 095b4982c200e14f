"""The command line. Each group of commands has a file; importing them registers the commands."""

from . import (
    backup,
    bench,
    check,
    collections,
    demo,
    denoise,
    evaluate,
    generate,
    ingest,
    keys,
    models,
    search,
    serve,
    train,
    upkeep,
)
from .base import app

__all__ = [
    "app",
    "backup",
    "bench",
    "check",
    "collections",
    "demo",
    "denoise",
    "evaluate",
    "generate",
    "ingest",
    "keys",
    "models",
    "search",
    "serve",
    "train",
    "upkeep",
]
