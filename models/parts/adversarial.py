"""What games between a generator and a discriminator share: the networks, the losses, the R1 penalty.

With D(x) = sigmoid(logit) the discriminator maximises E log D(x) + E log(1 - D(G(z))), the value of the game, which is
-log 4 where real and generated items cannot be told apart (Goodfellow et al., NIPS 2014). R1 keeps the game from
circling around that point: gamma / 2 E |d logit / d x|^2 over real items (Mescheder, Geiger and Nowozin, ICML 2018).

For pictures the networks are DCGAN's (Radford, Metz and Chintala, ICLR 2016), strided 4 x 4 convolutions down and
transposed ones up, except that the discriminator has no batch normalisation, under which an item's logit depends on
the items beside it. For all else, and for pictures too small to be halved, they are dense.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Terms
from ..inputs import InputSpec
from .convolution import SMALLEST, is_picture, sizes
from .layers import dense


def convolves(input: InputSpec) -> bool:
    """Whether the networks for `input` are convolutions."""
    return is_picture(input) and max(input.shape[1:]) > SMALLEST


class Trunk(nn.Module):
    """Items `(B, *input.shape)` to features `(B, flat)`."""

    def __init__(self, input: InputSpec, channels: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if convolves(input):
            wide, height, width = input.shape
            for place, smaller in enumerate(sizes(height, width)[1:]):
                wider = min(channels * 2**place, 4 * channels)
                padding = (1 + height % 2, 1 + width % 2)  # an odd side is halved rounding up
                layers += [nn.Conv2d(wide, wider, 4, stride=2, padding=padding), nn.LeakyReLU(0.2)]
                wide, (height, width) = wider, smaller
            layers.append(nn.Flatten())
            self.flat = wide * height * width
        else:
            layers += [nn.Flatten(), dense([input.size, hidden, hidden]), nn.LeakyReLU(0.2)]
            self.flat = hidden
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Grower(nn.Module):
    """Latents `(B, z)` to a picture `(B, *shape)` larger than `SMALLEST`, doubling and cropping from there up."""

    def __init__(self, z: int, shape: tuple[int, ...], channels: int) -> None:
        super().__init__()
        channels_out, height, width = shape
        self.sizes = sizes(height, width)[::-1]
        widths = [min(channels * 2**place, 4 * channels) for place in range(len(self.sizes) - 1)][::-1]
        self.start = (widths[0], *self.sizes[0])
        self.first = nn.Sequential(
            nn.Linear(z, self.start[0] * self.start[1] * self.start[2]),
            nn.Unflatten(1, self.start),
            nn.BatchNorm2d(self.start[0]),
            nn.ReLU(),
        )
        self.growing = nn.ModuleList()
        for wide, narrow in itertools.pairwise(widths):
            up = nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)
            self.growing.append(nn.Sequential(up, nn.BatchNorm2d(narrow), nn.ReLU()))
        self.growing.append(nn.ConvTranspose2d(widths[-1], channels_out, 4, stride=2, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z)
        for (height, width), grow in zip(self.sizes[1:], self.growing, strict=True):
            h = grow(h)[:, :, :height, :width]
        return h


def grower_for(input: InputSpec, z: int, channels: int, hidden: int) -> nn.Module:
    """`(B, z)` to `(B, *input.shape)`, the output's meaning as in `layers.expectation`."""
    if convolves(input):
        return Grower(z, input.shape, channels)
    return nn.Sequential(dense([z, hidden, hidden, input.size]), nn.Unflatten(1, input.shape))


class Discriminator(nn.Module):
    """Tells real items from generated ones: a trunk, a hidden layer, a logit."""

    def __init__(self, input: InputSpec, channels: int, hidden: int) -> None:
        super().__init__()
        self.trunk = Trunk(input, channels, hidden)
        self.last = nn.Linear(self.trunk.flat, hidden)
        self.logit = nn.Linear(hidden, 1)

    def hidden(self, x: Tensor) -> Tensor:
        """The last hidden layer `(B, hidden)`."""
        return functional.leaky_relu(self.last(self.trunk(x)), 0.2)

    def judge(self, features: Tensor) -> Tensor:
        """Logits `(B,)` of the trunk's features `(B, flat)`, positive for items taken for real."""
        return self.logit(functional.leaky_relu(self.last(features), 0.2))[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(B,)` of items."""
        return self.judge(self.trunk(x))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Minus the value of the game, from logits of real and of generated items."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(fake: Tensor, *, saturating: bool = False) -> Tensor:
    """What the generator minimises: -E log D(G(z)), or E log(1 - D(G(z))), whose gradient dies as D wins."""
    return -functional.softplus(fake).mean() if saturating else functional.softplus(-fake).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """E |d logit / d x|^2 over real items `x`; can itself be differentiated where gradients are on."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=differentiable)
    return slope.flatten(1).square().sum(1).mean()


def discriminator_step(discriminator: Discriminator, x: Tensor, fake: Tensor, r1: float) -> tuple[Tensor, Terms]:
    """What the discriminator minimises on real `x` and on generated items, with R1 of weight `r1`, and its terms."""
    game = discriminator_loss(discriminator(x), discriminator(fake))
    if not r1:
        return game, {"discriminator": game}
    penalty = 0.5 * r1 * r1_penalty(discriminator, x)
    return game + penalty, {"discriminator": game, "r1": penalty}
