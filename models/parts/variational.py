"""The arithmetic of variational autoencoders, in nats, each term summed over an item and never over the batch.

Divergences from a posterior to its prior in closed form, the free-bits floor, pictures made black and white at random,
and the importance-weighted bound. Nothing here has weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of each dimension, in the shape of `mean`."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def bernoulli_kl(logits: Tensor) -> Tensor:
    """KL(Bernoulli(sigmoid(logit)) || Bernoulli(1/2)) of each bit: log 2 minus the bit's entropy."""
    p = logits.sigmoid()
    return math.log(2) + p * functional.logsigmoid(logits) + (1 - p) * functional.logsigmoid(-logits)


def free_bits(kl: Tensor, least: float) -> Tensor:
    """The sum over dimensions of the larger of `least` and the batch's mean of `kl` `(B, dim)`: a scalar.

    A dimension that costs less than `least` nats costs as much as one that costs just that, so nothing is gained by
    emptying it. The mean comes before the maximum (Kingma et al., "Improved Variational Inference with Inverse
    Autoregressive Flow", NIPS 2016): a single item may be cheap as long as the dimension is used.
    """
    return kl.mean(0).clamp_min(least).sum()


def reparameterised(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """z = mean + sigma * noise, through which gradients reach both."""
    return mean + (0.5 * log_variance).exp() * noise


def binarised(x: Tensor, thresholds: Tensor) -> Tensor:
    """Black and white pictures: a pixel is 1 where its grey value is above a threshold, uniform in [0, 1).

    So it is 1 with a probability of its grey value, and pictures that are black and white already stay as they are.
    """
    return (x > thresholds).to(x.dtype)


def gaussian_log_ratio(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(z; 0, I) - log N(z; mean, variance), summed over the last axis."""
    return 0.5 * ((z - mean).square() / log_variance.exp() + log_variance - z.square()).sum(-1)


def bernoulli_log_ratio(bits: Tensor, logits: Tensor) -> Tensor:
    """log of 2^-bits - log q(bits), q Bernoulli with `logits`, summed over the last axis."""
    return -(bits * functional.logsigmoid(logits) + (1 - bits) * functional.logsigmoid(-logits) + math.log(2)).sum(-1)


@dataclass(frozen=True)
class Gaussian:
    """Posteriors N(mean, variance) of n items, `(n, dim)`, with the prior N(0, 1)."""

    mean: Tensor
    log_variance: Tensor

    def kl(self) -> Tensor:
        """KL to the prior, `(n, dim)`."""
        return gaussian_kl(self.mean, self.log_variance)

    def draw(self, generator: Generator) -> Tensor:
        """A latent of each item, `(n, dim)`."""
        return reparameterised(self.mean, self.log_variance, self.from_prior(generator))

    def from_prior(self, generator: Generator) -> Tensor:
        """As many latents that belong to no item."""
        return normal(tuple(self.mean.shape), self.mean, generator)

    def log_densities(self, z: Tensor) -> Tensor:
        """log q(z_i | x_j), up to a constant, `(len(z), n)`."""
        precision = (-self.log_variance).exp()
        square = z.square() @ precision.T - 2 * z @ (self.mean * precision).T + (self.mean.square() * precision).sum(1)
        return -0.5 * (square + self.log_variance.sum(1))


@dataclass(frozen=True)
class Bernoulli:
    """Posteriors over bits of n items, by their logits `(n, bits)`, with the prior of fair coins."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def kl(self) -> Tensor:
        """KL to the prior, `(n, bits)`."""
        return bernoulli_kl(self.logits)

    def draw(self, generator: Generator) -> Tensor:
        """Bits of each item, `(n, bits)`."""
        return self.bits(uniform(tuple(self.logits.shape), self.logits, generator))

    def bits(self, noise: Tensor) -> Tensor:
        """Bits `(n, bits)` from noise uniform in [0, 1)."""
        return (noise < self.mean).to(self.logits.dtype)

    def from_prior(self, generator: Generator) -> Tensor:
        """As many bits that belong to no item."""
        return (uniform(tuple(self.logits.shape), self.logits, generator) < 0.5).to(self.logits.dtype)

    def log_densities(self, z: Tensor) -> Tensor:
        """log q(z_i | x_j), `(len(z), n)`."""
        return z @ functional.logsigmoid(self.logits).T + (1 - z) @ functional.logsigmoid(-self.logits).T


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """-log p(x) `(B,)` of pixels `x` under independent Bernoulli `logits`, both flattened to `(B, size)`.

    A likelihood only for pixels of 0 and 1: with grey values it is not normalised, and nats say nothing.
    """
    return functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def multinomial_nll(logits: Tensor, x: Tensor, words: Tensor) -> Tensor:
    """-log p(x) `(B,)` of texts of `words` words each, drawn in the proportions of the weights `x` `(B, vocabulary)`.

    Without the multinomial coefficient, a constant. All texts count as equally long, so that none outweighs others.
    """
    share = x / x.sum(1, keepdim=True).clamp_min(1e-9)
    return -words * (share * logits.log_softmax(1)).sum(1)


def words_in(x: Tensor) -> Tensor:
    """How many words the texts `(n, vocabulary)` have in the mean.

    Rows of tf-idf have unit length, which hides how long a text is; (sum x)^2 / sum x^2 is its number of distinct
    words where they all weigh the same, and fewer where some weigh more.
    """
    return (x.sum(1).square() / x.square().sum(1).clamp_min(1e-9)).mean().clamp_min(1)


def importance_weighted(log_weights: Iterable[Tensor]) -> Tensor:
    """log of the mean of p(x, z_k) / q(z_k | x) over the draws k, `(B,)`, from their logarithms `(B,)`.

    A bound on log p(x) that grows with the number of draws, from the ELBO at one (IWAE: Burda, Grosse and
    Salakhutdinov, ICLR 2016).
    """
    total, draws = None, 0
    for each in log_weights:
        total = each if total is None else torch.logaddexp(total, each)
        draws += 1
    if total is None:
        raise ValueError("the importance-weighted bound needs at least one draw")
    return total - math.log(draws)


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator) -> Tensor:
    """Standard normal noise, drawn on the generator's device in float32 and moved to where `like` is."""
    return torch.randn(shape, generator=generator, device=generator.device).to(like)


def uniform(shape: tuple[int, ...], like: Tensor, generator: Generator) -> Tensor:
    """Noise uniform in [0, 1), drawn and moved as in `normal`."""
    return torch.rand(shape, generator=generator, device=generator.device).to(like)
