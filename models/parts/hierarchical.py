"""A ladder of latent groups, coarse to fine: features go up, latents and their priors come down.

The picture is halved, rounding up, to as many scales as there are entries in `groups`; the coarsest scale comes first
and the finest is at most half the picture. From the bottom up, cells make a feature for each group. From the top down,
starting at a learned constant h_0, each group l has a prior p(z_l|z_<l) = N(mu, sigma) read off the state h; z_l is
merged into h, which passes through cells to the next group and is enlarged to the next scale. The posterior sees the
feature and h and says only how it differs from the prior: q(z_l|x, z_<l) = N(mu + d_mu, sigma d_sigma).

A group is chosen here by its noise e = (z - mu) / sigma: 0 is the prior's mean, and under the prior e ~ N(0, I) for
every group. An item that is no picture has a single place: a linear layer makes it `(channels, 1, 1)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .cells import DecoderCell, EncoderCell, soft_clamp
from .convolution import sizes

_LEAST_SIGMA = 1e-2
_WIDEST = 4
"""The coarse scales have at most this many times the channels of the picture's own."""


class Prior(NamedTuple):
    """p(z_l|z_<l) = N(mean, sigma), both `(B, latents, H, W)`."""

    mean: Tensor
    sigma: Tensor


class Posterior(NamedTuple):
    """q(z_l|x, z_<l) in units of the prior's sigma: e ~ N(shift, spread), both `(B, latents, H, W)`."""

    shift: Tensor
    spread: Tensor

    def kl(self) -> Tensor:
        """1/2 (d_mu^2 / sigma^2 + d_sigma^2 - log d_sigma^2 - 1), in the shape of the latents."""
        return 0.5 * (self.shift.square() + self.spread.square() - 1) - self.spread.log()


def prior_of(raw: Tensor) -> Prior:
    """The prior that a network's output `(B, 2 latents, H, W)` stands for."""
    mean, log_sigma = soft_clamp(raw).chunk(2, dim=1)
    return Prior(mean, log_sigma.exp() + _LEAST_SIGMA)


def posterior_of(raw: Tensor, prior: Prior) -> Posterior:
    """The posterior that a network's output (d_mu, log d_sigma) `(B, 2 latents, H, W)` stands for."""
    change, log_spread = soft_clamp(raw).chunk(2, dim=1)
    return Posterior(change / prior.sigma, log_spread.exp())


def balance(kl: Tensor, sizes: Tensor) -> Tensor:
    """The weight of each group's KL `(groups,)` while it is warmed up: of mean 1, and without a gradient.

    In proportion to the group's KL and to the inverse of its size, so that groups which say much pay more than those
    which have yet to learn to speak.
    """
    weight = (kl.detach().abs() + 0.01) / sizes
    return weight / weight.mean()


Choose = Callable[[int, Prior, Tensor], Tensor]
"""The noise `(B, latents, H, W)` of a group, given its place, its prior and the state h `(B, channels, H, W)`."""


class Ladder(nn.Module):
    """Both directions. `shape` is that of an item, `groups` the number of groups at each scale, coarse to fine."""

    sizes: Tensor

    def __init__(
        self, shape: Sequence[int], groups: Sequence[int], channels: int, latents: int, cells: int, expansion: int
    ) -> None:
        super().__init__()
        self.picture = len(shape) == 3
        latents = latents if self.picture else _WIDEST * latents  # one place instead of many
        scales, widths = _scales(shape, len(groups), channels)  # coarse to fine, the item itself last
        counts = [*groups, *[0] * (len(scales) - len(groups))]
        spread = [place for place, count in enumerate(counts) for _ in range(count)]  # the scale of each group
        self.shapes = [(latents, *scales[place]) for place in spread]
        """`(latents, H, W)` of each group, coarse to fine."""
        places = [math.prod(scales[place]) / counts[place] for place in spread]
        self.register_buffer("sizes", torch.tensor(places), persistent=False)

        self.first: nn.Module
        if self.picture:
            self.first = nn.Conv2d(shape[0], widths[-1], 3, padding=1)
            self.last: nn.Conv2d | nn.Linear = nn.Conv2d(widths[-1], shape[0], 3, padding=1)
        else:
            self.first = nn.Sequential(nn.Linear(shape[0], widths[-1]), nn.Unflatten(1, (widths[-1], 1, 1)))
            self.last = nn.Linear(widths[-1], shape[0])
        self.up = nn.ModuleList(
            Climb(widths[place + 1], widths[place], counts[place], cells) for place in reversed(range(len(scales) - 1))
        )
        self.start = nn.Parameter(0.1 * torch.randn(widths[0], *scales[0]))  # h_0
        self.down = nn.ModuleList(
            Descent(widths[place - 1] if place else None, widths[place], scales[place], counts[place], expansion)
            for place in range(len(scales))
        )
        self.groups = nn.ModuleList(
            Group(widths[scale], latents, cells, expansion, first=place == 0) for place, scale in enumerate(spread)
        )
        self._counts = counts

    def features(self, x: Tensor) -> list[Tensor]:
        """What the posterior of each group sees of `x` `(B, *shape)`, coarse to fine."""
        out: list[Tensor] = []
        h = self.first(x)
        for climb in self.up:
            h, features = climb(h)
            out += features
        return out[::-1]

    def group(self, place: int) -> Group:
        """The networks of the group at `place`."""
        group = self.groups[place]
        assert isinstance(group, Group)
        return group

    def posterior(self, place: int, feature: Tensor, prior: Prior, h: Tensor) -> Posterior:
        """q(z_l|x, z_<l) of the group at `place`, in the precision of the weights."""
        return posterior_of(self.group(place).difference(feature, h).to(self.start.dtype), prior)

    def forward(self, n: int, choose: Choose) -> Tensor:
        """The decoder's output `(n, *shape)` for the noises that `choose` gives, group by group."""
        h = self.start.expand(n, -1, -1, -1)
        place = 0
        for descent, count in zip(self.down, self._counts, strict=True):
            h = descent(h)
            for _ in range(count):
                group = self.group(place)
                prior = group.prior(h, self.start.dtype)
                h = group.merge(h, prior.mean + prior.sigma * choose(place, prior, h))
                place += 1
        h = functional.silu(h)
        return self.last(h if self.picture else h.flatten(1))


class Climb(nn.Module):
    """To the next coarser scale and through the cells there: the state, and a feature for each of its groups."""

    def __init__(self, narrow: int, wide: int, groups: int, cells: int) -> None:
        super().__init__()
        self.smaller = nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
        self.stacks = nn.ModuleList(
            nn.Sequential(*(EncoderCell(wide) for _ in range(cells))) for _ in range(max(1, groups))
        )
        self.groups = groups

    def forward(self, h: Tensor) -> tuple[Tensor, list[Tensor]]:
        h = self.smaller(h)
        features: list[Tensor] = []
        for stack in self.stacks:
            h = stack(h)
            features.append(h)
        return h, features[: self.groups]


class Descent(nn.Module):
    """From the next coarser scale, where there is one; a scale without groups has a cell of its own."""

    def __init__(self, wide: int | None, narrow: int, size: tuple[int, int], groups: int, expansion: int) -> None:
        super().__init__()
        self.size = size
        self.narrower = nn.Identity() if wide is None else nn.Conv2d(wide, narrow, 1)
        self.cell = nn.Identity() if groups else DecoderCell(narrow, max(1, expansion // 2))

    def forward(self, h: Tensor) -> Tensor:
        h = self.narrower(h)  # before it is enlarged, which is the same and cheaper
        if h.shape[2:] != self.size:
            h = functional.interpolate(h, size=self.size, mode="nearest")
        return self.cell(h)


class Group(nn.Module):
    """The networks of one group: its prior, its posterior's difference from that, and how z is merged into h."""

    def __init__(self, channels: int, latents: int, cells: int, expansion: int, *, first: bool) -> None:
        super().__init__()
        self.latents = latents
        # Above the first group there is only a constant: its prior is N(0, I), its posterior sees the feature alone.
        self.prior_net = None if first else nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 2 * latents, 1))
        self.combine = None if first else nn.Conv2d(channels, channels, 1)
        self.difference_net = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 2 * latents, 3, padding=1))
        self.merge_net = nn.Conv2d(channels + latents, channels, 1)
        self.cells = nn.Sequential(*(DecoderCell(channels, expansion) for _ in range(cells)))

    def prior(self, h: Tensor, dtype: torch.dtype) -> Prior:
        """p(z_l|z_<l) after the state `h`."""
        if self.prior_net is None:
            mean = torch.zeros(len(h), self.latents, *h.shape[2:], dtype=dtype, device=h.device)
            return Prior(mean, torch.ones_like(mean))
        return prior_of(self.prior_net(h).to(dtype))

    def difference(self, feature: Tensor, h: Tensor) -> Tensor:
        """(d_mu, log d_sigma) before they are clamped, `(B, 2 latents, H, W)`."""
        return self.difference_net(feature if self.combine is None else feature + self.combine(h))

    def merge(self, h: Tensor, z: Tensor) -> Tensor:
        """The state after z is known."""
        return self.cells(self.merge_net(torch.cat([h, z.to(h.dtype)], dim=1)))


def _scales(shape: Sequence[int], count: int, channels: int) -> tuple[list[tuple[int, int]], list[int]]:
    """`(height, width)` and channels of each scale, coarse to fine: `count` with latents, and then up to the item.

    Halved until no side is longer than four, and further where there are to be more scales than that gives.
    """
    if len(shape) != 3:
        return [(1, 1)] * (count + 1), [_WIDEST * channels] * (count + 1)
    out = sizes(shape[1], shape[2])
    while len(out) <= count:
        out.append((-(-out[-1][0] // 2), -(-out[-1][1] // 2)))
    return out[::-1], [channels * min(2**place, _WIDEST) for place in range(len(out))][::-1]
