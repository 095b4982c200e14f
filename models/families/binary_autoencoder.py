"""Binary-code autoencoder: semantic hashing (Salakhutdinov and Hinton, IJAR 2009) with modern means.

The code layer is batch-normalised without scale or shift, which keeps every bit balanced, and in training each bit
is a Bernoulli draw with a straight-through gradient, the noise that makes the logits move away from zero. At test a
bit is 1 where its logit is > 0.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from ..base import FamilyParams, Model, Terms
from ..inputs import InputSpec
from ..layers import bernoulli_bits, corrupt, dense, expectation, reconstruction_loss


class BinaryAutoencoderParams(FamilyParams):
    hidden: int = Field(512, ge=8, le=8192, description="width of the hidden layer on either side")
    corruption: float = Field(0.2, ge=0, lt=1, description="share of the input hidden in training")


class BinaryAutoencoder(Model):
    """Bits learned end to end; codes decode back into items."""

    family = "binary-autoencoder"

    Params = BinaryAutoencoderParams

    params: BinaryAutoencoderParams

    def __init__(self, input: InputSpec, bits: int, params: BinaryAutoencoderParams) -> None:
        super().__init__(input, bits, params)
        self.encoder = nn.Sequential(
            dense([input.size, params.hidden, bits]), nn.BatchNorm1d(bits, affine=False, momentum=0.05)
        )
        # Words are reconstructed by one linear layer, which gives every bit its words (NASH; Shen et al., ACL 2018).
        widths = [bits, input.size] if input.likelihood == "multinomial" else [bits, params.hidden, input.size]
        self.decoder = dense(widths)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x.flatten(1))

    def loss(self, x: Tensor, role: str) -> tuple[Tensor, Terms]:
        noisy = corrupt(x, self.input.likelihood, self.params.corruption)
        bits = bernoulli_bits(self.encode(noisy))
        reconstruction = reconstruction_loss(self.input.likelihood, self.decoder(bits), x)
        return reconstruction, {"reconstruction": reconstruction}

    def decode(self, bits: Tensor) -> Tensor:
        return expectation(self.input.likelihood, self.decoder(bits)).unflatten(1, self.input.shape)
