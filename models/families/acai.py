"""Adversarially constrained autoencoder interpolation: Berthelot, Raffel, Roy and Goodfellow, "Understanding and
Improving Interpolation in Autoencoders via an Adversarial Regularizer" (ICLR 2019).

A critic d is shown decoded mixtures of two latents and guesses how much of the second item is in them; the
autoencoder f, g learns to make mixtures that the critic takes for items with nothing mixed in:

    x_a = g((1 - a) f(x_1) + a f(x_2)),   a ~ U[0, 1/2]
    critic:       |d(x_a) - a|^2 + |d(gamma x + (1 - gamma) g(f(x)))|^2
    autoencoder:  |x - g(f(x))|^2 + lambda |d(x_a)|^2

a stops at a half as mixing is symmetric. The critic's "real" pictures are part reconstruction, else it would know
mixtures by their blur. The partner of an item is that at the same place from the other end of the batch, moved on by
one place where that is the item itself.

The paper trains for 262,144 steps at a rate of 1e-4. In the thousands of steps at 1e-3 that a CPU has time for, a
critic that counts from the start is fooled before anything is rebuilt, and pictures stay blank; so lambda is 0 for the
first steps and then grows.

As in the paper the networks of pictures see numbers in [-1, 1], have no batch normalisation, and shrink by average
pooling to a small map, whose numbers are the latent; the critic is a network like the encoder, and its guess is the
mean of its output. Other kinds have dense networks. Text is judged by its likelihood and mixed as expected words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import Parameter

from ..base import Batch, FamilyParams, Terms
from ..inputs import InputSpec
from ..latent import LatentAutoencoder
from ..parts.convolution import is_picture
from ..parts.layers import dense, expectation, reconstruction_loss

_LEAK = 0.2
_SMALLEST = 2
"""The side of the map that pictures are pooled to."""
_WIDEST = 16
"""Channels double at each scale up to this many times the first."""


class AcaiParams(FamilyParams):
    latent: int = Field(64, ge=1, le=4096, description="dimensions of the latent; for pictures a 2 x 2 map of them")
    channels: int = Field(16, ge=2, le=512, description="channels at the finest scale, for pictures")
    hidden: int = Field(256, ge=8, le=8192, description="width of the hidden layers, where items are not pictures")
    critic_weight: float = Field(0.5, ge=0, le=100, description="weight of fooling the critic (lambda); 0 is a control")
    alone_steps: int = Field(
        500, ge=0, description="steps before the critic counts; its weight then grows over as many again"
    )
    realism: float = Field(0.2, ge=0, le=1, description="share of the item in what the critic takes for real (gamma)")


class Acai(LatentAutoencoder):
    """An autoencoder whose mixtures of latents a critic cannot tell from items; interpolates."""

    family = "acai"
    roles = ("autoencoder", "critic")
    chosen_by = "last"
    steps = 4000

    Params = AcaiParams

    params: AcaiParams
    stepped: Tensor

    def __init__(self, input: InputSpec, bits: int, params: AcaiParams) -> None:
        if is_picture(input):
            scales = _scales(input.shape[1], input.shape[2])
            height, width = scales[-1]
            depth = -(-params.latent // (height * width))
            dim = depth * height * width
            encoder, critic = (_pooling(input.shape[0], scales, params.channels, depth) for _ in range(2))
            decoder: nn.Module = _enlarging(input.shape[0], scales, params.channels, depth)
        else:
            dim, width = params.latent, params.hidden
            encoder, critic = (nn.Sequential(nn.Flatten(), dense([input.size, width, width, dim])) for _ in range(2))
            decoder = nn.Sequential(dense([dim, width, width, input.size]), nn.Unflatten(1, input.shape))
        super().__init__(input, bits, params, dim)
        self.encoder, self.decoder, self.critic = encoder, decoder, critic
        self.register_buffer("stepped", torch.zeros((), dtype=torch.int64))

    def parameters_of(self, role: str) -> Iterable[Parameter]:
        if role == "critic":
            return self.critic.parameters()
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    def latent(self, x: Tensor) -> Tensor:
        return self.encoder(self._signed(x))

    def expected(self, z: Tensor) -> Tensor:
        out = self.shown(self.decoder(z))
        return (out.clamp(-1, 1) + 1) / 2 if self.input.likelihood == "bernoulli" else out

    def shown(self, out: Tensor) -> Tensor:
        """The decoder's output as the critic and the encoder see items: pixels from -1 to 1, unit rows of words."""
        if self.input.likelihood == "multinomial":
            return expectation("multinomial", out.flatten(1))
        return out

    def _signed(self, x: Tensor) -> Tensor:
        return 2 * x - 1 if self.input.likelihood == "bernoulli" else x

    def guess(self, x: Tensor) -> Tensor:
        """How much the critic believes is mixed into each of `x`, `(B,)`."""
        return self.critic(x).mean(1)

    def mixed(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents `(B, dim)` mixed with their partners', and the partner's share in each, `(B,)` in [0, 1/2]."""
        share = torch.rand(len(z), device=z.device, dtype=z.dtype) / 2
        return torch.lerp(z, partners(z), share[:, None]), share

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        if role == "critic":
            return self._critic_loss(batch.x)
        z = self.latent(batch.x)
        mixture, _ = self.mixed(z)
        out, mixture_out = self.decoder(torch.cat([z, mixture])).chunk(2)
        if self.input.likelihood == "multinomial":
            reconstruction = reconstruction_loss("multinomial", out, batch.x)
        else:
            reconstruction = (out - self._signed(batch.x)).square().mean()
        seen = self.guess(self.shown(mixture_out)).square().mean()
        return reconstruction + self._weight() * seen, {"reconstruction": reconstruction, "seen": seen}

    def _weight(self) -> float:
        """The critic's weight at this step of training: nothing, then growing, then all of lambda."""
        alone = self.params.alone_steps
        grown = 1.0
        if self.training and alone:
            grown = min(1.0, max(0.0, int(self.stepped) / alone - 1))
        return self.params.critic_weight * grown

    def after_step(self) -> None:
        self.stepped += 1

    def _critic_loss(self, x: Tensor) -> tuple[Tensor, Terms]:
        with torch.no_grad():
            z = self.latent(x)
            mixture, share = self.mixed(z)
            out, mixture_out = self.shown(self.decoder(torch.cat([z, mixture]))).chunk(2)
            real = torch.lerp(out, self._signed(x), self.params.realism)
        guess, nothing = self.guess(torch.cat([mixture_out, real])).chunk(2)
        critic = (guess - share).square().mean()
        realism = nothing.square().mean()
        return critic + realism, {"critic": critic, "critic_on_real": realism}


def partners(z: Tensor) -> Tensor:
    """Each row's partner: the batch reversed; the middle of an odd batch, its own mirror, gets the next row."""
    mirror = torch.arange(len(z) - 1, -1, -1, device=z.device)
    if len(z) % 2:
        mirror[len(z) // 2] = (len(z) // 2 + 1) % len(z)
    return z[mirror]


class ChannelsLast(nn.Module):
    """Leaves the numbers as they are and lays them out as convolutions on a CPU run fastest."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)


def _scales(height: int, width: int) -> list[tuple[int, int]]:
    """`(height, width)` and its halves, rounded up, until no side is longer than `_SMALLEST`."""
    out = [(height, width)]
    while max(out[-1]) > _SMALLEST:
        out.append((-(-out[-1][0] // 2), -(-out[-1][1] // 2)))
    return out


def _widths(scales: Sequence[tuple[int, int]], channels: int) -> list[int]:
    return [channels * min(2**scale, _WIDEST) for scale in range(len(scales))]


def _pooling(colours: int, scales: Sequence[tuple[int, int]], channels: int, depth: int) -> nn.Sequential:
    """`(B, colours, height, width)` to `(B, depth * smallest height * smallest width)`."""
    widths = _widths(scales, channels)
    layers: list[nn.Module] = [nn.Conv2d(colours, channels, 1), ChannelsLast()]
    before = channels
    for wide in widths[:-1]:
        layers += _block(before, wide)
        layers.append(nn.AvgPool2d(2, ceil_mode=True))
        before = wide
    layers += [nn.Conv2d(before, widths[-1], 3, padding=1), nn.LeakyReLU(_LEAK)]
    layers += [nn.Conv2d(widths[-1], depth, 3, padding=1), nn.Flatten()]
    return _drawn(nn.Sequential(*layers))


def _enlarging(colours: int, scales: Sequence[tuple[int, int]], channels: int, depth: int) -> nn.Sequential:
    """`(B, depth * smallest height * smallest width)` to `(B, colours, height, width)`."""
    layers: list[nn.Module] = [nn.Unflatten(1, (depth, *scales[-1])), ChannelsLast()]
    before = depth
    for wide, size in zip(_widths(scales, channels)[-2::-1], scales[-2::-1], strict=True):
        layers += _block(before, wide)
        layers.append(nn.Upsample(size=size, mode="nearest"))
        before = wide
    layers += [nn.Conv2d(before, channels, 3, padding=1), nn.LeakyReLU(_LEAK)]
    layers.append(nn.Conv2d(channels, colours, 3, padding=1))
    return _drawn(nn.Sequential(*layers))


def _block(before: int, wide: int) -> list[nn.Module]:
    first, second = nn.Conv2d(before, wide, 3, padding=1), nn.Conv2d(wide, wide, 3, padding=1)
    return [first, nn.LeakyReLU(_LEAK), second, nn.LeakyReLU(_LEAK)]


def _drawn(network: nn.Sequential) -> nn.Sequential:
    """Weights of variance 1 / ((1 + leak^2) fan-in) and no biases, as the paper's code draws them."""
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=math.sqrt(1 / ((1 + _LEAK**2) * fan_in)))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return network
