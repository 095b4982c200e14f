"""A moving average of a network's weights: smoother than the last ones, and what adversarial networks sample from.

Yazıcı et al., "The Unusual Effectiveness of Averaging in GAN Training" (ICLR 2019).
"""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn


def decay_for(half_life: float) -> float:
    """The decay an update at which a weight's share of the average halves in `half_life` steps."""
    return float(0.5 ** (1 / half_life))


class Average(nn.Module):
    """A frozen copy of a module whose weights follow those of the original; called like it, always in eval mode."""

    updates: Tensor

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(source).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.train(False)

    @torch.no_grad()
    def update(self, source: nn.Module, decay: float) -> None:
        """One step of average <- decay * average + (1 - decay) * source; buffers are copied.

        The first steps decay faster, so that the weights drawn at the start are soon forgotten.
        """
        seen = int(self.updates)
        weight = 1 - min(decay, (1 + seen) / (10 + seen))
        for mean, now in zip(self.module.parameters(), source.parameters(), strict=True):
            mean.lerp_(now, weight)
        for kept, fresh in zip(self.module.buffers(), source.buffers(), strict=True):
            kept.copy_(fresh)
        self.updates += 1

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: an average is used, never trained."""
        return super().train(False)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.module(*inputs, **named)
