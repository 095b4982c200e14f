"""Autoregressive models of discrete values: p(x) = prod_t p(x_t | x_<t), one categorical distribution a position.

`forward` gives the logits of all positions at once, for training; `sample` draws position by position and keeps what
it has computed, so that a sample costs as much for each position as for any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional


class Autoregressive(nn.Module, ABC):
    """A distribution over arrays of `size` positions with `values` possible values each."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = values

    @abstractmethod
    def forward(self, codes: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits `(B, values, *positions)` of codes `(B, *positions)`; those of a position depend on earlier ones.

        `condition` `(B, c)`, for a model built with one, is seen by every position.
        """

    @abstractmethod
    def sample(
        self,
        n: int,
        *,
        generator: Generator,
        temperature: float = 1.0,
        condition: Tensor | None = None,
        known: Tensor | None = None,
        redraw: Tensor | None = None,
    ) -> Tensor:
        """`n` arrays of codes `(n, *positions)`, drawn in order.

        With `known` `(n, *positions)` only the positions where `redraw` (bool, the same shape) holds are drawn.
        """

    def log_likelihood(self, codes: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(codes) in nats, `(B,)`."""
        chosen = functional.cross_entropy(self(codes, condition), codes, reduction="none")
        return -chosen.flatten(1).sum(1)


def draw(logits: Tensor, temperature: float, generator: Generator) -> Tensor:
    """One value `(n,)` a row of logits `(n, values)`; the likeliest one at temperature 0.

    The uniform numbers come from `generator`, which lives on the CPU wherever the model does.
    """
    if temperature == 0:
        return logits.argmax(1)
    uniform = torch.rand(len(logits), 1, generator=generator, dtype=torch.float64).to(logits.device)
    total = (logits.double() / temperature).softmax(1).cumsum(1)
    return (total[:, :-1] < uniform).sum(1)
