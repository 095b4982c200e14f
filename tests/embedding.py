"""A package of a tiny sentence embedding, laid out as the real one is, for tests that want no download."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models import sentences
from models.parts.bert import Shape
from models.sentences import Source

NAME, PACKAGE = "tiny", "tiny-embedding"
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *"abcdefghijklmnopqrstuvwxyz.",
    *(f"##{x}" for x in "abcdefghijklmnopqrstuvwxyz"),
]
SOURCE = Source(PACKAGE, Shape(len(WORDS), 40, 16, 2, 4), 32)


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in SOURCE.shape.tensors().items()}


def install(root: Path, *, seed: int = 0, version: str = "1.2.3") -> Path:
    """Install the package in `root`; returns the folder of its files. Its code must never run."""
    package = root / PACKAGE.replace("-", "_")
    model = package / "model"
    model.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("raise RuntimeError('the code of the package was run')")
    (model / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    save_file(weights(seed), model / "model.safetensors")
    about = root / f"{PACKAGE.replace('-', '_')}-{version}.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n")
    return model


@contextmanager
def known(monkeypatch: pytest.MonkeyPatch, *roots: Path, name: str = NAME) -> Iterator[None]:
    """Within, `name` is an embedding that may be asked for and is not loaded; its package may be in `roots` only."""
    with monkeypatch.context() as patch:
        patch.setattr(sentences, "SOURCES", {name: SOURCE})
        patch.setattr(sentences, "_loaded", {})
        others = [path for path in sys.path if not (Path(path) / PACKAGE.replace("-", "_")).exists()]
        patch.setattr(sys, "path", [*map(str, roots), *others])
        yield
