"""Binary-code autoencoder: semantic hashing (Salakhutdinov and Hinton, IJAR 2009) that learns from neighbours.

The code layer is batch-normalised without scale or shift, which keeps every bit balanced. In training each bit is a
Bernoulli draw with a straight-through gradient; the draw's probability is sharp, so that training sees nearly the bits
that search will see. What makes the codes retrieve better than the input they are learned from is in `objectives`:

- items are decoded towards one of their nearest neighbours instead of themselves (`objectives.neighbourhood`);
- the code of an item is pulled towards that of a neighbour, or of an augmented view of itself, and away from the rest
  of the batch (`objectives.contrast`; with neighbours in place of views as NNCLR: Dwibedi et al., ICCV 2021).

Neighbours are those in input space; no label is used. At test a bit is 1 where its logit is > 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..base import Batch, Model, Terms
from ..inputs import InputSpec, Rows
from ..objectives.hashing import Hashing, HashingParams, Recipe, weighed
from ..objectives.neighbourhood import paired
from ..parts.layers import dense, reconstruction_loss

_NEIGHBOURS = Recipe(neighbours=10, pairing=0.5, contrast=0.3)
"""Digits at 64 bits: precision@10 .953 at a sharpness of 1, .970 at 3."""
RECIPES: Mapping[str, Recipe] = dict.fromkeys(("image", "text", "vector", "audio"), _NEIGHBOURS)
"""By the kind of input."""


class BinaryAutoencoderParams(HashingParams):
    hidden: int = Field(384, ge=8, le=8192, description="width of the hidden layer on either side")


class BinaryAutoencoder(Model):
    """Bits learned end to end from items and their neighbours; codes decode back into items."""

    family = "binary-autoencoder"
    Params = BinaryAutoencoderParams
    supervised = True
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
        self.hashing = Hashing(params.over(RECIPES[input.form]))

    @property
    def neighbours(self) -> int:
        return self.hashing.neighbours

    @property
    def views(self) -> bool:
        return self.hashing.views

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
        logits = self.encode(batch.x)
        bits = self.hashing.bits(logits)
        target = batch.x
        if batch.neighbour is not None:
            target = paired(target, batch.neighbour, self.hashing.recipe.pairing)
        reconstruction = self._reconstruction(bits, target)
        more = self.hashing.terms(logits, bits, batch, self.encode)
        return weighed({"reconstruction": (1.0, reconstruction), **more})

    def _reconstruction(self, bits: Tensor, x: Tensor) -> Tensor:
        out = self.decoder(2 * bits - 1)
        if self._words:
            return reconstruction_loss("multinomial", out, x)
        return functional.mse_loss(out, x.flatten(1)) / self.variance

    def decode(self, bits: Tensor) -> Tensor:
        out = self.decoder(2 * bits - 1)
        if self._words:
            return functional.normalize(out.softmax(1), dim=1)
        out = out.unflatten(1, self.input.shape)
        return out.clamp(0, 1) if self.input.likelihood == "bernoulli" else out
