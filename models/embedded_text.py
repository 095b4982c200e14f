"""Texts by their sentence embeddings: text from outside, vectors within."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .errors import ArtefactDamaged, InvalidInput
from .inputs import VectorInput
from .readers import Items
from .sentences import Embedder, as_recorded, embedder

_ROUNDING = 1e-5
"""What numbers of an embedding may differ by with the batch, thirty times what was seen."""


class EmbeddedText(VectorInput):
    """Texts as vectors of a pretrained network, which are centred and scaled like any others."""

    kind = "text"
    restores = False
    at_once = False

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder.dim)
        self._embedder = embedder

    @classmethod
    def fit(cls, items: Items, *, embedding: str = "all-minilm-l6-v2") -> Self:
        """Raises `InvalidParams` for an unknown embedding, `EmbeddingUnavailable` where it is not installed."""
        spec = cls(embedder(embedding))
        spec.load_state_dict(VectorInput.fit(spec._embedder.embed(list(items))).state_dict())
        return spec

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        recorded = config.get("embedding")
        if not isinstance(recorded, dict) or not isinstance(recorded.get("name"), str):
            raise ArtefactDamaged(f"the config's embedding must say which it is; it is {recorded!r}")
        return cls(as_recorded(recorded))

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "embedding": self._embedder.identity()}

    def shrink(self, item: str) -> str:
        return self._embedder.cut(item)

    @property
    def near_zero(self) -> float:
        return _ROUNDING / float(self.scale)  # of texts that are all alike a difference is a greater part

    @property
    def form(self) -> str:
        return VectorInput.kind

    def example(self) -> str:  # type: ignore[override]
        return "an example of a text"

    def rest(self, items: Items) -> NDArray[np.float32]:
        return self._embedder.embed(list(items))

    def exact(self, x: Tensor, items: Items) -> Tensor:
        return self.to_tensor(self._embedder.exactly(list(items)).numpy())

    def restore(self, x: Tensor) -> Any:
        raise InvalidInput("the embedding of a text cannot be turned back into a text")
