"""Binary-code autoencoder: semantic hashing (Salakhutdinov and Hinton, IJAR 2009) that learns from neighbours.

The code layer is batch-normalised without scale or shift, which keeps every bit balanced. In training each bit is a
Bernoulli draw with a straight-through gradient; the draw's probability is sharp, so that training sees nearly the bits
that search will see. Two things make the codes retrieve better than the input they are learned from:

- half of the items are decoded towards one of their nearest neighbours instead of themselves (pairwise reconstruction,
  PairRec: Hansen et al., SIGIR 2020), so bits are spent on what neighbours share;
- the code of an item is pulled towards that of a neighbour and away from the rest of the batch (NT-Xent on codes,
  CIBHash: Qiu et al., IJCAI 2021, with neighbours in place of augmented views, as NNCLR: Dwibedi et al., ICCV 2021).

Neighbours are those in input space; no label is used. At test a bit is 1 where its logit is > 0.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..base import Batch, FamilyParams, Model, Terms
from ..inputs import InputSpec, Rows
from ..parts.layers import bernoulli_bits, dense, reconstruction_loss

_SHARPNESS = 3.0
"""Logits are multiplied by this before a bit is drawn. Digits at 64 bits: precision@10 .953 at 1, .970 at 3."""
_TEMPERATURE = 0.3


class BinaryAutoencoderParams(FamilyParams):
    hidden: int = Field(384, ge=8, le=8192, description="width of the hidden layer on either side")
    neighbours: int = Field(10, ge=0, le=1000, description="nearest items that an item learns from; 0: none")
    pairing: float = Field(0.5, ge=0, le=1, description="share of items decoded towards a neighbour")
    contrast: float = Field(0.3, ge=0, le=100, description="weight of the contrastive term")


class BinaryAutoencoder(Model):
    """Bits learned end to end from items and their neighbours; codes decode back into items."""

    family = "binary-autoencoder"
    Params = BinaryAutoencoderParams
    params: BinaryAutoencoderParams
    steps = 900
    encodes_at_once = True
    variance: Tensor

    def __init__(self, input: InputSpec, bits: int, params: BinaryAutoencoderParams) -> None:
        super().__init__(input, bits, params)
        self._words = input.likelihood == "multinomial"
        self.encoder = dense([input.size, params.hidden, bits])
        self.balance = nn.BatchNorm1d(bits, affine=False)
        # Words are decoded by one linear layer, which gives every bit its words (NASH: Shen et al., ACL 2018).
        self.decoder = dense([bits, input.size] if self._words else [bits, params.hidden, input.size])
        self.register_buffer("variance", torch.ones(()))

    @property
    def neighbours(self) -> int:
        return self.params.neighbours

    @property
    def learning_rate(self) -> float:
        return 4e-3 if self._words else 1e-3

    def prepare(self, rows: Rows) -> None:
        x = rows.sample(2000).flatten(1)
        if not self._words:
            self.variance.fill_(float(x.var(0).mean().clamp_min(1e-6)))
            return
        with torch.no_grad():  # the decoder starts from how often each word is used
            first, last = self.encoder[0], self.decoder[-1]
            assert isinstance(first, nn.Linear)
            assert isinstance(last, nn.Linear)
            last.bias.copy_((x.sum(0) / x.sum() + 1e-6).log())
            last.weight.mul_(0.3)
            first.weight.normal_(0, 10**-0.5)  # rows of unit length with few words need a larger start

    def encode(self, x: Tensor) -> Tensor:
        return self.balance(self.encoder(x.flatten(1)))

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        codes = self._signs(batch.x)
        target = batch.x
        if batch.neighbour is not None:
            paired = torch.rand(len(target), *[1] * (target.dim() - 1), device=target.device) < self.params.pairing
            target = torch.where(paired, batch.neighbour, target)
        reconstruction = self._reconstruction(codes, target)
        if batch.neighbour is None or self.params.contrast == 0:
            return reconstruction, {"reconstruction": reconstruction}
        contrast = nt_xent(codes, self._signs(batch.neighbour), _TEMPERATURE)
        total = reconstruction + self.params.contrast * contrast
        return total, {"reconstruction": reconstruction, "contrast": contrast}

    def _signs(self, x: Tensor) -> Tensor:
        """Drawn bits `(B, bits)` as -1 and 1."""
        return 2 * bernoulli_bits(_SHARPNESS * self.encode(x)) - 1

    def _reconstruction(self, codes: Tensor, x: Tensor) -> Tensor:
        out = self.decoder(codes)
        if self._words:
            return reconstruction_loss("multinomial", out, x)
        return functional.mse_loss(out, x.flatten(1)) / self.variance

    def decode(self, bits: Tensor) -> Tensor:
        out = self.decoder(2 * bits - 1)
        if self._words:
            return functional.normalize(out.softmax(1), dim=1)
        out = out.unflatten(1, self.input.shape)
        return out.clamp(0, 1) if self.input.likelihood == "bernoulli" else out


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """The normalised-temperature cross-entropy between paired rows of `a` and `b`, both `(B, bits)`: a scalar.

    Each of the 2 B rows must tell its partner from all the others (SimCLR: Chen et al., ICML 2020).
    """
    rows = functional.normalize(torch.cat([a, b]), dim=1)  # (2 B, bits)
    similarity = (rows @ rows.T / temperature).fill_diagonal_(-1e9)
    partner = torch.arange(2 * len(a), device=a.device).roll(len(a))
    return functional.cross_entropy(similarity, partner)
