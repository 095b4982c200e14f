"""Data sets that come with Python and scikit-learn, so that everything can be tried without a download."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

from .readers import Found

# What is synthetic is imported where it is drawn: some of it needs torch, and files can be read without.

_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "ensurepip", "__pycache__"}
_SHORTEST = 40
"""Characters: a shorter docstring ("Return self.") says nothing a search could be about."""


def digits() -> Found:
    """scikit-learn's 1,797 real handwritten digits, 8 x 8, 16 grey levels spread over 0..255."""
    from sklearn.datasets import load_digits  # here, as it is slow to import and seldom needed

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[:, :, :, None]
    ids = [f"digit-{place:04d}" for place in range(len(images))]
    return Found("image", images, ids, [str(label) for label in data.target])


def python_docs() -> Found:
    """The docstrings of the running Python's standard library and its language topics; label = module."""
    texts: dict[str, str] = {}
    for name, text in (*_topics(), *_compiled(), *_source()):
        text = inspect.cleandoc(text)
        if len(text) >= _SHORTEST:
            texts.setdefault(name, f"{name}\n{text}")
    labels = [name.split(".")[0] for name in texts]
    payloads = [{"name": name, "text": text.split("\n", 1)[1][:400]} for name, text in texts.items()]
    return Found("text", list(texts.values()), list(texts), labels, payloads)


def _topics() -> Iterator[tuple[str, str]]:
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    for name, text in topics.items():
        yield f"topic.{name}", text


def _compiled() -> Iterator[tuple[str, str]]:
    """Modules without a source file: `builtins`, `math`, `time` and their like."""
    for module_name in sys.builtin_module_names:
        module = builtins if module_name == "builtins" else import_module(module_name)
        public = module_name.lstrip("_")
        if module.__doc__:
            yield public, module.__doc__
        for name, value in vars(module).items():
            if name.startswith("_") or not (inspect.isclass(value) or inspect.isroutine(value)):
                continue
            if isinstance(value.__doc__, str):
                yield f"{public}.{name}", value.__doc__
            for member, method in vars(value).items() if inspect.isclass(value) else ():
                if not member.startswith("_") and isinstance(method.__doc__, str):
                    yield f"{public}.{name}.{member}", method.__doc__


def _source() -> Iterator[tuple[str, str]]:
    """Modules with a source file, read without importing them."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = [part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"]
        if _SKIPPED & set(parts) or any(part.startswith("_") for part in parts):
            continue
        name = ".".join(parts)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # the library ships a few files that are broken on purpose
            continue
        yield from _docstrings(tree, name)


def _docstrings(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> Iterator[tuple[str, str]]:
    if text := ast.get_docstring(node):
        yield name, text
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield from _docstrings(child, f"{name}.{child.name}")


def lines() -> Found:
    """2,000 lines from the centre of a picture at angles drawn at random, 16 x 16; label = one of ten bins of angle.

    The task of Berthelot et al. (ICLR 2019) on which interpolations are measured (see `lines`).
    """
    from .synthetic.lines import draw

    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 2000)
    images = np.round((draw(angles, 16) + 1) * 127.5).astype(np.uint8)[:, :, :, None]
    ids = [f"line-{place:04d}" for place in range(len(angles))]
    labels = [str(int(angle / (2 * np.pi) * 10)) for angle in angles]
    return Found("image", images, ids, labels, [{"angle": round(float(angle), 4)} for angle in angles])


def tones() -> Found:
    """1,000 synthetic melodies of eight notes, about a second each; label = instrument, payload = the notes."""
    from .synthetic.tones import melodies

    sounds, labels, payloads = melodies(1000)
    return Found("audio", sounds, [f"melody-{place:04d}" for place in range(len(sounds))], labels, payloads)


def spiral() -> Found:
    """5,000 points of a noisy spiral in the plane (see `spiral`); label = the whole part of the curve's parameter."""
    from .synthetic.spiral import draw

    items, t = draw(5000, np.random.default_rng(0))
    ids = [f"point-{place:04d}" for place in range(len(items))]
    return Found("vector", items, ids, [str(int(value)) for value in t])


BUILTIN: Mapping[str, Callable[[], Found]] = {
    "digits": digits, "python-docs": python_docs, "lines": lines, "tones": tones, "spiral": spiral,
}  # fmt: skip
