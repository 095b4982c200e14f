"""VQ-VAE: van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning" (NIPS 2017).

First the autoencoder. Each position of the encoder's output z becomes the nearest of K codebook entries e_k, and
gradients pass straight through to the encoder:

    L = -log p(x | e_k) + beta |z - sg(e_k)|^2,   z_q = z + sg(e_k - z)

with the mean over positions and numbers in both terms, so beta is the same for any size of batch. The first term is
the squared error over the variance of the data; for texts, the negative log-likelihood of the words. The codebook
follows by moving averages, from k-means, with restarts (`codebook`); it keeps .9 of them at a step, not the paper's
.99, with which it lags behind an encoder that has minutes to learn. Then the prior p(codes) = prod_t p(c_t | c_<t) on
the codes of the same items: a gated PixelCNN over the map of codes (`pixelcnn`) or a WaveNet over its sequence
(`wavenet`), with its own best epoch on held-out codes, since a prior overfits long before the autoencoder.

Codes are hash keys too: every code is written as a word of bits such that near entries differ in few of them
(`index_assignment`), and the words of all positions, -1 and 1, are a latent that a rotation turns into as many bits as
are asked for (ITQ: Gong and Lazebnik, CVPR 2011).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import Parameter, functional

from ..base import Batch, FamilyParams, Stage, Terms
from ..inputs import InputSpec, Rows
from ..latent import LatentModel
from ..parts.autoregressive import Autoregressive
from ..parts.code_maps import code_map
from ..parts.codebook import Codebook
from ..parts.convolution import is_picture
from ..parts.index_assignment import Words
from ..parts.layers import expectation, reconstruction_loss
from ..parts.pixelcnn import PixelCnn
from ..parts.variational import multinomial_nll, words_in
from ..parts.wavenet import WaveNet

_START = 8192
"""Vectors that the codebook starts from."""
_ROUNDING = 1e-5
"""A margin between two entries that rounding could close, against the lengths of the vectors."""
_REDRAWN = 0.25
"""The share of its codes that a variation does not keep."""


class VqVaeParams(FamilyParams):
    codes: int = Field(128, ge=2, le=1024, description="entries of the codebook")
    dim: int = Field(16, ge=1, le=256, description="numbers in an entry")
    halvings: int = Field(2, ge=0, le=5, description="how often the sides of a picture, or the time of a sound, halve")
    frame_codes: int = Field(4, ge=1, le=32, description="codes for each (halved) frame of a sound")
    positions: int = Field(16, ge=1, le=128, description="codes for a vector or a text")
    channels: int = Field(64, ge=4, le=1024, description="channels of the convolutions")
    hidden: int = Field(256, ge=8, le=8192, description="width of the dense layers, for vectors and texts")
    commitment: float = Field(0.25, ge=0, le=10, description="beta, which holds the encoder to its entries")
    decay: float = Field(0.9, gt=0, lt=1, description="what a codebook entry keeps of its average at each step")
    restart: int = Field(50, ge=0, description="batches after which an unused entry starts again; 0: never")
    prior: Literal["auto", "pixelcnn", "wavenet"] = Field(
        "auto", description="what models the codes; auto: pixelcnn for images, wavenet for everything else"
    )
    prior_channels: int = Field(64, ge=4, le=1024, description="channels of the prior")
    prior_layers: int = Field(6, ge=1, le=64, description="layers of the prior; a wavenet has enough to see all")
    prior_dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the layers of the prior")
    prior_share: float = Field(0.5, gt=0, lt=1, description="share of the epochs that the prior is trained for")


class VqVae(LatentModel):
    """Discrete codes with a learned prior over them: reconstructs, samples, varies, scores."""

    family = "vq-vae"
    Params = VqVaeParams
    params: VqVaeParams
    roles = ("autoencoder", "prior")
    chosen_by = "loss"
    steps = 3000
    scored_by = "log-likelihood bound in nats: the prior of the codes plus the reconstruction"
    variance: Tensor
    noise: Tensor
    words_a_text: Tensor

    def __init__(self, input: InputSpec, bits: int, params: VqVaeParams) -> None:
        p = params
        maps = code_map(
            input, p.dim, halvings=p.halvings, channels=p.channels, hidden=p.hidden, groups=p.frame_codes,
            positions=p.positions,
        )  # fmt: skip
        words = Words(p.codes)
        super().__init__(input, bits, params, maps.rows * maps.columns * words.width)
        self.maps, self.words = maps, words
        self.codebook = Codebook(p.codes, p.dim, decay=p.decay, restart=p.restart)
        self.prior = self._prior()
        self.register_buffer("variance", torch.ones(()))  # of the data
        self.register_buffer("noise", torch.ones(()))  # of the data given the codes
        self.register_buffer("words_a_text", torch.ones(()))

    def _prior(self) -> Autoregressive:
        p = self.params
        kind = p.prior
        if kind == "auto":
            kind = "pixelcnn" if is_picture(self.input) and self.input.kind != "audio" else "wavenet"
        rows, columns = self.maps.rows, self.maps.columns
        if kind == "pixelcnn":
            return PixelCnn(
                p.codes, rows, columns, channels=p.prior_channels, layers=p.prior_layers, dropout=p.prior_dropout
            )
        length = rows * columns
        layers = max(p.prior_layers, (length - 1).bit_length())
        return WaveNet(p.codes, length, channels=p.prior_channels, layers=layers, dropout=p.prior_dropout)

    @property
    def learning_rate(self) -> float:
        return 3e-3

    @property
    def stages(self) -> Sequence[Stage]:
        share = self.params.prior_share
        return Stage(("autoencoder",), 1 - share), Stage(("prior",), share)

    def parameters_of(self, role: str) -> Iterable[Parameter]:
        return (self.maps if role == "autoencoder" else self.prior).parameters()

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        x = rows.sample(2048)
        self.maps.start(x.to(self.device))
        if self.input.likelihood == "multinomial":
            self.words_a_text.copy_(words_in(x))
        self.variance.fill_(float(x.flatten(1).var(0).mean().clamp_min(1e-6)))
        z = self.maps.encode(x.to(self.device)).flatten(0, 2)
        chosen = torch.randperm(len(z))[:_START].to(z.device)
        self.codebook.start(z[chosen], epoch=len(rows) * self.maps.rows * self.maps.columns)

    # -- codes -------------------------------------------------------------------------------------------------------

    def codes(self, x: Tensor) -> Tensor:
        """The codes `(B, rows, columns)` of `x` `(B, *input.shape)`."""
        return self._quantise(self.maps.encode(x))

    def _quantise(self, z: Tensor) -> Tensor:
        """The codes `(B, rows, columns)` of the encoder's vectors `(B, rows, columns, dim)`."""
        return self.codebook.nearest(z.flatten(0, 2)).view(z.shape[:3])

    def expected(self, codes: Tensor) -> Tensor:
        """The expected `x` `(B, *input.shape)` given codes `(B, rows, columns)`."""
        out = self.maps.decode(self.codebook(codes))
        if self.input.likelihood == "bernoulli":  # trained by squared error, so these are means already
            return out.clamp(0, 1)
        return expectation(self.input.likelihood, out)

    def latent(self, x: Tensor) -> Tensor:
        """The words of the codes, -1 and 1, `(B, rows * columns * width)`."""
        return self.words.spell(self.codes(x).flatten(1))

    def encode(self, x: Tensor) -> Tensor:
        z = self.maps.encode(x)
        logits = self.rotation.logits(self.words.spell(self._quantise(z).flatten(1)))
        # Where a code is a matter of rounding, all bits hang on it: logits next to zero tell the caller so.
        margin = self.codebook.margin(z.flatten(0, 2)).view(len(z), -1).amin(1, keepdim=True)
        return torch.where(margin < _ROUNDING, 1e-9 * logits, logits)

    def fit_hash(self, rows: Rows) -> None:
        self.words.fit(self.codebook.vectors)
        super().fit_hash(rows)

    # -- training ----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        if role == "prior":
            with torch.no_grad():
                codes = self.codes(batch.x)
            bits = -self.prior.log_likelihood(self.ordered(codes)).mean() / (codes[0].numel() * math.log(2))
            return bits, {"bits_per_code": bits}
        z = self.maps.encode(batch.x)
        codes = self._quantise(z)
        entries = self.codebook(codes).to(z.dtype)
        commitment = functional.mse_loss(z, entries)
        reconstruction = self._reconstruction(self.maps.decode(z + (entries - z).detach()), batch.x)
        if self.training:
            self.codebook.learn(z.flatten(0, 2), codes.flatten())
        perplexity, used = self.codebook.usage()
        total = reconstruction + self.params.commitment * commitment
        return total, {
            "reconstruction": reconstruction, "commitment": commitment, "perplexity": perplexity, "used_codes": used,
        }  # fmt: skip

    def _reconstruction(self, out: Tensor, x: Tensor) -> Tensor:
        if self.input.likelihood == "multinomial":
            return reconstruction_loss("multinomial", out, x)
        error = functional.mse_loss(out, x)
        if self.training:
            self.noise.lerp_(error.detach().to(self.noise.dtype).clamp_min(1e-6), 0.02)
        return error / self.variance

    def ordered(self, codes: Tensor) -> Tensor:
        """Codes `(B, rows, columns)` in the shape that the prior takes."""
        return codes if isinstance(self.prior, PixelCnn) else codes.flatten(1)

    # -- what it can do ----------------------------------------------------------------------------------------------

    def decode(self, bits: Tensor) -> Tensor:
        return self.expected(self._map(self.words.read(self.rotation.restore(bits))))

    def _map(self, codes: Tensor) -> Tensor:
        return codes.reshape(len(codes), self.maps.rows, self.maps.columns)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.expected(self.codes(x))

    def interpolate(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        """Mixes what the encoder says of both and makes that discrete again, so every code is in the codebook."""
        share = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype).view(-1, 1, 1, 1)
        return self.expected(self._quantise(torch.lerp(self.maps.encode(a), self.maps.encode(b), share)))

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        return self.expected(self.sample_codes(n, generator=generator, temperature=temperature))

    def sample_codes(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """`n` maps of codes `(n, rows, columns)` drawn from the prior."""
        distinct = n if temperature else min(n, 1)
        codes = self.prior.sample(distinct, generator=generator, temperature=temperature)
        return self._map(codes.expand(n, *codes.shape[1:]))

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """Draws a random quarter of the codes again, each from the prior given those before it."""
        known = self.ordered(self.codes(x))
        known = known.expand(n, *known.shape[1:])
        redraw = (torch.rand(known.shape, generator=generator) < _REDRAWN).to(known.device)
        drawn = self.prior.sample(n, generator=generator, temperature=temperature, known=known, redraw=redraw)
        return self.expected(self._map(drawn))

    def score(self, x: Tensor) -> Tensor:
        """log p(codes) + log p(x | codes), at most log p(x): a density, unless the items are texts."""
        codes = self.codes(x)
        prior = self.prior.log_likelihood(self.ordered(codes))
        if self.input.likelihood == "multinomial":
            return prior - multinomial_nll(self.maps.decode(self.codebook(codes)), x, self.words_a_text)
        error = (self.expected(codes) - x).flatten(1).square().sum(1)
        return prior - 0.5 * (error / self.noise + self.input.size * (2 * math.pi * self.noise).log())
