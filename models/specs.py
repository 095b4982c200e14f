"""Which input a model has: by the kind of its items, and by what its user asks of the preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .embedded_text import EmbeddedText
from .errors import ArtefactDamaged, InvalidParams
from .inputs import INPUTS, InputSpec
from .readers import Items
from .sentences import EXTRA, SOURCES, embedder, find


class InputParams(BaseModel):
    """The choices that preprocessing leaves to the user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: str | None = Field(
        None,
        description=f"texts by their sentence embeddings in place of their words: {', '.join(SOURCES)}; needs {EXTRA}",
    )

    def check(self) -> None:
        """Raise `InvalidParams` for an embedding that there is not, `EmbeddingUnavailable` for one not installed."""
        if self.embedding is not None:
            find(self.embedding)

    def remembering(self) -> AbstractContextManager[None]:
        """Within, what preprocessing takes long for is done once for every item: see `Embedder.remembering`."""
        return nullcontext() if self.embedding is None else embedder(self.embedding).remembering()


def fit_input(kind: str, items: Items, params: InputParams) -> InputSpec:
    """The preprocessing for `items` of `kind`. Raises `InvalidParams` where what is asked is not for this kind."""
    if params.embedding is None:
        return INPUTS[kind].fit(items)
    if kind != "text":
        raise InvalidParams(f"embedding: sentence embeddings are of texts; these are items of kind {kind}")
    return EmbeddedText.fit(items, embedding=params.embedding)


def spec_of(config: Mapping[str, Any]) -> type[InputSpec]:
    """The class of the input that `config` describes. Raises `ArtefactDamaged`."""
    kind = config.get("kind")
    if not isinstance(kind, str) or kind not in INPUTS:
        raise ArtefactDamaged(f"unknown input kind {kind!r}; this program knows {', '.join(INPUTS)}")
    return EmbeddedText if kind == EmbeddedText.kind and "embedding" in config else INPUTS[kind]


def input_from_config(config: Mapping[str, Any]) -> InputSpec:
    """The input module that `config` describes. Raises `ArtefactDamaged`, `EmbeddingUnavailable`."""
    return spec_of(config).from_config(config)
