"""p(x | z) for every kind of input, in nats: what a decoder's output says of an item, and what that is worth.

- images, sounds and vectors: a Gaussian of one variance, always the best one (Rybkin, Daniilidis and Levine, "Simple
  and Effective VAE Training with Calibrated Decoders", ICML 2021): with a fixed one, or with Bernoulli pixels on grey
  values, the KL outweighs the picture and samples are blurs. Likelihoods are densities and may exceed 1;
- images that are `binarised`: Bernoulli pixels. On grey values they would be no normalised likelihood;
- texts: words drawn one by one, as many as a text of the training data has in the mean (`variational.words_in`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import InvalidParams
from ..inputs import InputSpec
from .layers import expectation, start_from_word_use
from .variational import bernoulli_nll, multinomial_nll, words_in


class Observation(nn.Module):
    """The likelihood of items under a decoder's outputs `(B, size)`; the decoder itself is elsewhere."""

    variance: Tensor
    words: Tensor

    def __init__(self, input: InputSpec, *, binarised: bool = False) -> None:
        super().__init__()
        if binarised and input.likelihood != "bernoulli":
            raise InvalidParams(f"binarise is for images; the input is of kind {input.kind!r}")
        self.likelihood, self.shape, self.size = input.likelihood, input.shape, input.size
        self.binarised = binarised
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("words", torch.ones(()))

    def prepare(self, x: Tensor, last: nn.Module) -> None:
        """Learn from training items `x` what the decoder's last layer should start from."""
        if self.likelihood == "multinomial":
            self.words.copy_(words_in(x))
            assert isinstance(last, nn.Linear)
            start_from_word_use(last, x)

    def expected(self, out: Tensor) -> Tensor:
        """The expected item `(B, *shape)`."""
        return expectation(self.likelihood, out).unflatten(1, self.shape)

    def nll(self, out: Tensor, x: Tensor) -> Tensor:
        """-log p(x | out) in nats, `(B,)`; of a density where the decoder is Gaussian."""
        x = x.flatten(1)
        if self.likelihood == "multinomial":
            return multinomial_nll(out, x, self.words)
        if self.binarised:
            return bernoulli_nll(out, x)
        error = (expectation(self.likelihood, out) - x).square().sum(1)
        if self.training:  # the best variance for this batch; its running mean is the model's own
            variance = (error.mean() / self.size).clamp_min(1e-6)
            self.variance.lerp_(variance.detach(), 0.05)
        else:
            variance = self.variance
        return 0.5 * (error / variance + self.size * (2 * math.pi * variance).log())

    def perfect(self, x: Tensor) -> float:
        """The mean nll of items `x` under a decoder that is never wrong."""
        if self.likelihood == "multinomial":  # the logits that best explain a text are its own logarithms
            return float(multinomial_nll(x.clamp_min(1e-30).log(), x, self.words).mean())
        if self.binarised:
            return 0.0
        return 0.5 * self.size * math.log(2 * math.pi * float(self.variance))
