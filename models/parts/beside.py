"""A wide code that is learned beside a narrow one, for what the layer before both learns from it."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import start_from_word_use
from .precision import quickly


class WideCode(nn.Module):
    """Logits `(B, bits)` of a hidden layer `(B, hidden)`, and a decoder of words from their bits.

    Of use in training alone. A narrow code passes little on to the layer that it is read from; what only a wide one can
    tell is learned by that layer all the same, and the narrow code is chosen from more. Objectives put at a side of the
    network to teach what comes before it are those of deeply-supervised nets (Lee et al., AISTATS 2015).
    """

    def __init__(self, hidden: int, bits: int, words: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden, bits)
        self.balance = nn.BatchNorm1d(bits, affine=False)
        self.decoder = nn.Linear(bits, words)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.balance(self.head(hidden))
        return out

    def prepare(self, x: Tensor) -> None:
        """x: `(n, words)`, texts that tell how often each word is used."""
        start_from_word_use(self.decoder, x)

    def decode(self, bits: Tensor) -> Tensor:
        """Logits of words `(B, words)` of bits `(B, bits)` from -1 to 1."""
        return quickly(self, bits, self.decoder, nn.Identity())
