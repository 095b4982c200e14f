"""The command line. Each group of commands has a file; importing them registers the commands."""

from . import check, collections, demo, evaluate, items, models, serve, train
from .base import app

__all__ = ["app", "check", "collections", "demo", "evaluate", "items", "models", "serve", "train"]
