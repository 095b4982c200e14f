"""The encoder of BERT (Devlin et al., NAACL 2019) as a function of its weights, for any float type.

Written out rather than taken from a library: it is a page, it reaches for no network, it starts in a tenth of the time,
and the same weights serve in float32 for speed and in float64 where a sign has to be settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_LAYER_NORM_EPS = 1e-12


@dataclass(frozen=True)
class Shape:
    """How large the network is; its feed-forward layers are four times as wide."""

    words: int
    positions: int
    width: int
    layers: int
    heads: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The tensors that `Bert` reads, and their shapes."""
        wide, d = 4 * self.width, self.width
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.words, d),
            "embeddings.position_embeddings.weight": (self.positions, d),
            "embeddings.token_type_embeddings.weight": (2, d),
        }
        linear = {"output.dense": (d, wide), "intermediate.dense": (wide, d), "attention.output.dense": (d, d)}
        linear |= {f"attention.self.{part}": (d, d) for part in ("query", "key", "value")}
        norms = ["embeddings.LayerNorm"]
        for layer in range(self.layers):
            at = f"encoder.layer.{layer}"
            norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
            for name, shape in linear.items():
                shapes |= {f"{at}.{name}.weight": shape, f"{at}.{name}.bias": shape[:1]}
        for name in norms:
            shapes |= {f"{name}.weight": (d,), f"{name}.bias": (d,)}
        return shapes


class Bert:
    """The states that tokens have after the last layer."""

    def __init__(self, shape: Shape, weights: Mapping[str, Tensor]) -> None:
        """weights: at least `shape.tensors()`, in float32."""
        self._shape = shape
        # Queries, keys and values in one product; copies, as what is mapped from a file may lie at odd places.
        self._weights = {name: weights[name].clone() for name in shape.tensors() if ".self." not in name}
        for layer in range(shape.layers):
            for kind in ("weight", "bias"):
                parts = (f"encoder.layer.{layer}.attention.self.{part}.{kind}" for part in ("query", "key", "value"))
                self._weights[f"encoder.layer.{layer}.qkv.{kind}"] = torch.cat([weights[part] for part in parts])

    @torch.inference_mode()
    def states(self, tokens: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """States `(n, length, width)` of `tokens` `(n, length)`, int64, all of one length: nothing is padded."""
        n, length = tokens.shape
        embeddings = (
            functional.embedding(tokens, self._weights["embeddings.word_embeddings.weight"]).to(dtype)
            + self._weights["embeddings.position_embeddings.weight"][:length].to(dtype)
            + self._weights["embeddings.token_type_embeddings.weight"][0].to(dtype)
        )
        x = self._norm("embeddings.LayerNorm", embeddings)
        for layer in range(self._shape.layers):
            at = f"encoder.layer.{layer}"
            qkv = self._linear(f"{at}.qkv", x).view(n, length, 3, self._shape.heads, -1).permute(2, 0, 3, 1, 4)
            attended = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
            attended = attended.transpose(1, 2).reshape(n, length, -1)
            x = self._norm(
                f"{at}.attention.output.LayerNorm", x + self._linear(f"{at}.attention.output.dense", attended)
            )
            wide = functional.gelu(self._linear(f"{at}.intermediate.dense", x))
            x = self._norm(f"{at}.output.LayerNorm", x + self._linear(f"{at}.output.dense", wide))
        return x

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.linear(x, weight.to(x.dtype), bias.to(x.dtype))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), _LAYER_NORM_EPS)
