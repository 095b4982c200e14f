"""Bernoulli VAE: variational semantic hashing, bits as latents.

Shen et al., "NASH: Toward End-to-End Neural Architecture for Generative Semantic Hashing" (ACL 2018), after VDSH
(Chaidaroon and Fang, SIGIR 2017) and Salakhutdinov and Hinton, "Semantic Hashing" (IJAR 2009). Maximises the bound

    E_q(b|x) log p(x|b) - beta KL(q(b|x) || Bernoulli(1/2)),   q(b_j = 1 | x) = sigmoid(logit_j)

with the KL in closed form, log 2 less each bit's entropy, and gradients through the drawn bits by the straight-through
estimator. A bit of a code is 1 where q(b = 1) > 1/2. What p(x|b) is depends on the input (see `observation`); words
are decoded by one linear layer and a softmax, which gives every bit its words.

Bits that are always 0 or 1 are the disease of the family (`proofs.semantic_hashing` has a control). Logits are so
batch-normalised, without a shift, so that each is positive for half of the items, and without a free scale, which sets
how many nats a bit may carry: with little noise neighbours no longer share codes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from ..base import Batch, Model, Terms
from ..inputs import InputSpec, Rows
from ..objectives.hashing import Hashing, HashingParams, Recipe, weighed
from ..objectives.neighbourhood import paired
from ..parts.collapse import CollapseReport, examine
from ..parts.layers import dense
from ..parts.observation import Observation
from ..parts.variational import Bernoulli, bernoulli_log_ratio, free_bits, importance_weighted, uniform

RECIPES: Mapping[str, Recipe] = {
    kind: Recipe(sharpness=1.0 if kind == "text" else 3.0, supervision=30.0)
    for kind in ("image", "text", "vector", "audio")
}
"""The bound itself and nothing else. Sharpness is the spread of the logits:
MNIST-10k at 16 bits, held-out precision@10: .63 at 1, .75 at 2; Python's docs at 24 bits: .61 at 1, .60 at 2."""
_SCORE_DRAWS = 16
_EXAMINED = 1000
"""Items that posterior collapse is diagnosed on; information cannot exceed the logarithm of it, 6.9 nats."""


class BernoulliVaeParams(HashingParams):
    hidden: int = Field(384, ge=8, le=8192, description="width of the hidden layers")
    beta: float = Field(1.0, ge=0, le=100, description="weight of the KL term; 1 is the bound itself")
    free_bits: float = Field(0.0, ge=0, le=0.69, description="nats that each bit may cost for nothing")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of hidden units left out in training")


class BernoulliVae(Model):
    """Bits as the latent itself; codes sample, vary, decode, and tell ordinary items from strange ones."""

    family = "bernoulli-vae"
    scored_by = "importance-weighted bound on log p(x) in nats, of a density where values are not words"
    Params = BernoulliVaeParams
    supervised = True
    params: BernoulliVaeParams
    steps = 1500

    def __init__(self, input: InputSpec, bits: int, params: BernoulliVaeParams) -> None:
        super().__init__(input, bits, params)
        self._words = input.likelihood == "multinomial"
        width = params.hidden
        self.observation = Observation(input)
        self.encoder = dense(
            [input.size, width, bits] if self._words else [input.size, width, width, bits], dropout=params.dropout
        )
        self.balance: nn.Module = nn.BatchNorm1d(bits, affine=False)
        self.decoder = dense([bits, input.size] if self._words else [bits, width, width, input.size])
        self.hashing = Hashing(params.over(RECIPES[input.form]))

    @property
    def neighbours(self) -> int:
        return self.hashing.neighbours

    @property
    def views(self) -> bool:
        return self.hashing.views

    @property
    def kindred(self) -> float:
        return self.hashing.kindred

    @property
    def learning_rate(self) -> float:
        return 4e-3 if self._words else 1e-3

    def prepare(self, rows: Rows) -> None:
        self.observation.prepare(rows.sample(2000).to(self.device), self.decoder[-1])
        if self._words:
            with torch.no_grad():  # rows of unit length with few words need a larger start
                first = self.encoder[0]
                assert isinstance(first, nn.Linear)
                first.weight.normal_(0, 10**-0.5)

    # -- the model -----------------------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        return self.hashing.recipe.sharpness * self._normalised(x)

    def _normalised(self, x: Tensor) -> Tensor:
        """The logits before their spread is set."""
        return self.balance(self.encoder(x.flatten(1)))

    def outputs(self, bits: Tensor) -> Tensor:
        """What the decoder says of each number, `(B, size)`, given bits `(B, bits)` from 0 to 1."""
        return self.decoder(2 * bits - 1)

    def nll(self, bits: Tensor, x: Tensor) -> Tensor:
        """-log p(x|b) in nats, `(B,)`."""
        return self.observation.nll(self.outputs(bits), x)

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        normalised = self._normalised(batch.x)
        bits = self.hashing.bits(normalised)
        target = batch.x
        if batch.neighbour is not None:
            target = paired(target, batch.neighbour, self.hashing.recipe.pairing)
        reconstruction = self.nll(bits, target).mean()
        kl = Bernoulli(self.hashing.recipe.sharpness * normalised).kl()  # (B, bits)
        more, terms = weighed(self.hashing.terms(normalised, bits, batch, self._normalised))
        total = reconstruction + self.params.beta * free_bits(kl, self.params.free_bits) + more
        return total, {"reconstruction": reconstruction, "kl": kl.sum(1).mean(), **terms}

    # -- how likely items are --------------------------------------------------------------------------------------

    def log_weights(self, x: Tensor, noise: Tensor) -> Tensor:
        """log p(x, b) - log q(b|x) `(B,)` for bits drawn with noise uniform in [0, 1)."""
        logits = self.encode(x)
        bits = Bernoulli(logits).bits(noise)
        return bernoulli_log_ratio(bits, logits) - self.nll(bits, x)

    def log_likelihood(self, x: Tensor, samples: int, generator: Generator) -> Tensor:
        """The importance-weighted bound on log p(x) in nats, `(B,)`, from `samples` draws for each item."""
        each = (len(x), self.bits)
        return importance_weighted(self.log_weights(x, uniform(each, x, generator)) for _ in range(samples))

    def score(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)  # the same draws for every item, whatever batch it comes in
        return importance_weighted(
            self.log_weights(x, uniform((1, self.bits), x, generator)) for _ in range(_SCORE_DRAWS)
        )

    def examine(self, x: Tensor) -> CollapseReport:
        """Whether the bits are used, on items `x` `(n, *input.shape)`."""
        return examine(x, Bernoulli(self.encode(x)), self.nll, perfect=self.observation.perfect(x))

    def diagnose(self, rows: Rows) -> Mapping[str, float | str]:
        return self.examine(rows.sample(_EXAMINED).to(self.device)).metrics()

    # -- what it makes ---------------------------------------------------------------------------------------------

    def decode(self, bits: Tensor) -> Tensor:
        return self.observation.expected(self.outputs(bits))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode((self.encode(x) > 0).to(x.dtype))

    def interpolate(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        """A walk through Hamming space: the bits that differ are flipped one after the other.

        First those that `a` holds weakly and `b` firmly, so that the way back passes through the same codes.
        """
        start, end = self.encode(a)[0], self.encode(b)[0]
        first = (start > 0).to(a.dtype)
        differ = ((start > 0) != (end > 0)).nonzero().flatten()
        order = differ[(start.abs() - end.abs())[differ].argsort()]
        codes = first.repeat(steps, 1)
        for step in range(steps):
            flipped = order[: round(step * len(order) / (steps - 1))]
            codes[step, flipped] = 1 - first[flipped]
        return self.decode(codes)

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Fair coins; with less temperature they are drawn towards 1/2, which all codes have in common."""
        coins = (torch.rand(n, self.bits, generator=generator) < 0.5).to(next(self.parameters()))
        return self.decode(0.5 + temperature * (coins - 0.5))

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Bits drawn from the posterior: those that it is least sure of flip most often."""
        logits = self.encode(x)
        if temperature == 0:
            return self.reconstruct(x).repeat(n, *[1] * len(self.input.shape))
        noise = uniform((n, self.bits), logits, generator)
        return self.decode(Bernoulli(logits / temperature).bits(noise))
