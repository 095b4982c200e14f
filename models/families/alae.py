"""Adversarial latent autoencoder: Pidhorskyi, Adjeroh and Doretto, "Adversarial Latent Autoencoders" (CVPR 2020).

A GAN in halves. F maps noise z ~ N(0, I) to w, G draws an item from w; E maps an item back to w, and D, a small head,
tells from w alone whether it was a real one. Encoder and generator meet in W, not in pixels (f = softplus):

    discriminator (D, E):  f(D(E(G(F(z))))) + f(-D(E(x))) + r1 / 2 E |grad_x D(E(x))|^2
    generator (F, G):      f(-D(E(G(F(z)))))
    reciprocity (E, G):    E |F(z) - E(G(F(z)))|^2,   F(z) held fixed

Reciprocity asks that a drawn item be read as the w it was drawn from; that real items are rebuilt well follows as far
as the distribution of E(x) becomes that of F(z). The latent of an item is E(x). Everything that is reported or served
comes from moving averages of the weights, as in the paper. `latent_weight` 0 is the control without reciprocity.

Pictures have a style-based generator and an encoder that mirrors it (see `style`), other kinds dense networks; the
paper's dense ones can be had for pictures too. As in the paper's code, dense layers are equalised and F and D move at
a tenth of the rate: else F inflates W without end. Departures: the head has leaky ReLUs (in the code it is linear), and
R1 is weaker than the paper's 10, which at small pictures holds the encoder back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import Parameter, functional

from ..base import Batch, FamilyParams, Terms
from ..errors import InvalidParams
from ..inputs import InputSpec, Rows
from ..latent import LatentAutoencoder
from ..parts.averaging import Average, decay_for
from ..parts.convolution import is_picture
from ..parts.layers import expectation
from ..parts.style import StyleEncoder, StyleGenerator

_LEAK = 0.2
_SLOW = 0.1
"""How fast F and D move, against E and G; as in the paper's code."""
_HALF_LIFE = 10_000
"""Items after which a weight's share of its moving average has halved."""
_CENTRE_FROM = 4096
"""Draws whose mean is the centre of W, to which sampling at a low temperature shrinks."""


class AlaeParams(FamilyParams):
    latent: int = Field(32, ge=1, le=1024, description="dimensions of z and of w")
    hidden: int = Field(256, ge=8, le=8192, description="width of the hidden layers of dense networks")
    channels: int = Field(16, ge=2, le=512, description="channels at the finest scale of style-based networks")
    mapping: int = Field(6, ge=1, le=16, description="layers of the mapping network from z to w")
    generator: Literal["auto", "dense", "style"] = Field(
        "auto", description="the networks between items and w; auto: style for pictures, else dense"
    )
    r1: float = Field(0.1, ge=0, le=1000, description="weight of the gradient penalty on real items")
    latent_weight: float = Field(1.0, ge=0, le=100, description="weight of reciprocity; 0 is a control")


class Alae(LatentAutoencoder):
    """An adversarial autoencoder whose two halves meet in its latent space; samples, varies, interpolates."""

    family = "alae"
    roles = ("discriminator", "generator", "reciprocity")
    chosen_by = "last"
    betas = (0.0, 0.99)
    steps = 8000

    Params = AlaeParams

    params: AlaeParams
    centre: Tensor

    def __init__(self, input: InputSpec, bits: int, params: AlaeParams) -> None:
        super().__init__(input, bits, params, params.latent)
        w, wide = params.latent, params.hidden
        styled = params.generator == "style" or (params.generator == "auto" and is_picture(input))
        if styled and not is_picture(input):
            raise InvalidParams("alae: generator: only pictures have styles; use 'dense' or 'auto'")
        self.mapping = nn.Sequential(PixelNorm(), leaky([w] * (params.mapping + 1), _SLOW))
        if styled:
            self.encoder: nn.Module = StyleEncoder(input.shape, w, params.channels)
            self.generator: nn.Module = StyleGenerator(w, input.shape, params.channels)
        else:
            self.encoder = nn.Sequential(nn.Flatten(), leaky([input.size, wide, wide, w]))
            self.generator = nn.Sequential(leaky([w, wide, wide, input.size]), nn.Unflatten(1, input.shape))
        self.head = leaky([w, w, w, 1], _SLOW)
        self.averaged = nn.ModuleDict(
            {name: Average(getattr(self, name)) for name in ("mapping", "generator", "encoder")}
        )
        self.register_buffer("centre", torch.zeros(w))
        self._batch = 0

    @property
    def learning_rate(self) -> float:
        return 2e-3

    def parameters_of(self, role: str) -> Iterable[Parameter]:
        networks = {
            "discriminator": (self.encoder, self.head),
            "generator": (self.mapping, self.generator),
            "reciprocity": (self.encoder, self.generator),
        }[role]
        return [parameter for network in networks for parameter in network.parameters()]

    def _drawn(self, out: Tensor) -> Tensor:
        """The generator's output as items."""
        if self.input.likelihood == "multinomial":
            return expectation("multinomial", out.flatten(1))
        return expectation(self.input.likelihood, out)

    def _noise(self, x: Tensor) -> Tensor:
        return torch.randn(len(x), self.params.latent, device=x.device, dtype=x.dtype)

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        x = batch.x
        if role == "discriminator":
            self._batch = len(x)
            with torch.no_grad():
                drawn = self._drawn(self.generator(self.mapping(self._noise(x))))
            real, penalty = self._real(x)
            game = functional.softplus(self.head(self.encoder(drawn))).mean() + functional.softplus(-real).mean()
            return game + 0.5 * self.params.r1 * penalty, {"discriminator": game, "r1": penalty}
        if role == "generator":
            drawn = self._drawn(self.generator(self.mapping(self._noise(x))))
            game = functional.softplus(-self.head(self.encoder(drawn))).mean()
            return game, {"generator": game}
        w = self.mapping(self._noise(x)).detach()  # F is not to make the game easier by shrinking W
        error = (self.encoder(self._drawn(self.generator(w))) - w).square().mean()
        return self.params.latent_weight * error, {"latent": error}

    def _real(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What D makes of real items, `(B, 1)`, and the mean square of its gradient with respect to them."""
        learning = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            real = self.head(self.encoder(x))
            (slope,) = torch.autograd.grad(real.sum(), x, create_graph=learning)
        return real if learning else real.detach(), slope.flatten(1).square().sum(1).mean()

    def after_step(self) -> None:
        decay = decay_for(_HALF_LIFE / self._batch)
        for name, average in self.averaged.items():
            average.update(getattr(self, name), decay)  # type: ignore[operator]

    def fit_hash(self, rows: Rows) -> None:
        z = torch.randn(_CENTRE_FROM, self.params.latent, generator=torch.Generator().manual_seed(0))
        self.centre.copy_(self.averaged["mapping"](z.to(self.device)).mean(0))
        super().fit_hash(rows)

    def latent(self, x: Tensor) -> Tensor:
        return self.averaged["encoder"](x)

    def expected(self, z: Tensor) -> Tensor:
        return self._drawn(self.averaged["generator"](z))

    def draw_latent(self, n: int, *, generator: Generator) -> Tensor:
        """`n` latents as the mapping network distributes them, `(n, latent)`."""
        return self.averaged["mapping"](torch.randn(n, self.params.latent, generator=generator))

    def sample(self, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        """The truncation trick: at temperature t, w = centre + t (F(z) - centre)."""
        return self.expected(torch.lerp(self.centre, self.draw_latent(n, generator=generator), temperature))

    def vary(self, x: Tensor, n: int, *, generator: Generator, temperature: float = 1.0) -> Tensor:
        # Half the spread of W: far enough to differ, near enough to resemble.
        away = self.draw_latent(n, generator=generator) - self.centre
        return self.expected(self.latent(x) + 0.5 * temperature * away)


class PixelNorm(nn.Module):
    """Rows `(B, d)` scaled to a mean square of 1."""

    def forward(self, z: Tensor) -> Tensor:
        return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Equalised(nn.Linear):
    """A linear layer whose weights are at rest of variance 1 / rate^2 and are scaled when used.

    Adam then moves every layer by the same share of its size, or by `rate` times that: Karras et al., "Progressive
    Growing of GANs" (ICLR 2018). The slow one keeps the mapping network from inflating W, its own target.
    """

    def __init__(self, wide: int, narrow: int, gain: float, rate: float) -> None:
        super().__init__(wide, narrow)
        self.rate = rate
        self.scale = gain * rate / math.sqrt(wide)
        nn.init.normal_(self.weight, std=1 / rate)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.scale, self.bias * self.rate)


def leaky(widths: Sequence[int], rate: float = 1.0) -> nn.Sequential:
    """Equalised linear layers of the given widths with leaky ReLU between them (none after the last)."""
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        layers += [Equalised(wide, narrow, math.sqrt(2), rate), nn.LeakyReLU(_LEAK)]
    layers.pop()
    layers[-1] = Equalised(widths[-2], widths[-1], 1.0, rate)
    return nn.Sequential(*layers)
