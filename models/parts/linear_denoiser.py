"""The best linear autoencoder for noisy items: principal axes, each shrunk by its share of noise (Wiener's filter).

For Gaussian noise of variance sigma^2 the linear r that minimises E||r(x + noise) - x||^2, and equally
E||r(x) - x||^2 + sigma^2 ||dr/dx||^2, keeps each principal axis with the gain l / (l + sigma^2), where l is the
variance of the data along it. It is the straight part of a denoising or contractive autoencoder; a network that is
asked only for what it leaves over, in the size of what it leaves over, has r(x) = x + sigma net(x) as its special case
where there are as many axes as dimensions, and has a bottleneck where there are fewer.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor, nn

from ..inputs import Rows
from .density import noise
from .rotation import principal_axes

_BATCH = 1024


class LinearDenoiser(nn.Module):
    """A latent of `latent` principal coordinates of items of `size` numbers; noise levels `sigma` are `(B, 1)`."""

    mean: Tensor
    axes: Tensor
    variances: Tensor
    rest: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, size: int, latent: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size, latent))  # columns beyond the number of axes are zero
        self.register_buffer("variances", torch.eye(size, latent).sum(0))
        self.register_buffer("rest", torch.zeros(()))  # variance outside the axes
        self.register_buffer("low", torch.full((size,), -1.0))  # the box that the data are in
        self.register_buffer("high", torch.ones(size))

    @torch.no_grad()
    def fit(self, rows: Rows) -> None:
        """Take mean, axes and variances from the training rows."""
        device = self.mean.device
        batches = [np.arange(at, min(at + _BATCH, len(rows))) for at in range(0, len(rows), _BATCH)]
        mean = sum(rows.take(places).flatten(1).double().sum(0) for places in batches) / len(rows)
        assert isinstance(mean, Tensor)
        mean = mean.float()
        generator = torch.Generator().manual_seed(0)
        kept = min(self.axes.shape)
        axes = principal_axes(rows, lambda x: x.flatten(1), mean, kept, generator)  # (size, kept)
        along, total = torch.zeros(kept), torch.zeros(())
        low, high = mean, mean
        for places in batches:
            centred = rows.take(places).flatten(1) - mean
            along += (centred @ axes).square().sum(0) / len(rows)
            total += centred.square().sum() / len(rows)
            low, high = torch.minimum(low, (centred + mean).amin(0)), torch.maximum(high, (centred + mean).amax(0))
        self.low.copy_(low.to(device))
        self.high.copy_(high.to(device))
        self.mean.copy_(mean.to(device))
        self.axes.zero_()[:, :kept] = axes.to(device)
        self.variances.zero_()[:kept] = along.to(device)
        self.rest.copy_((total - along.sum()).clamp_min(0))

    @property
    def spread(self) -> Tensor:
        """Root mean square of one centred number of an item."""
        return ((self.variances.sum() + self.rest) / self.size).sqrt()

    @property
    def width(self) -> Tensor:
        """Root mean square of one coordinate of the latent."""
        return (self.variances.sum() / min(self.axes.shape)).sqrt()

    def code(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The shrunk coordinates `(B, latent)` of items `(B, size)` with noise `sigma` on them."""
        gain = self.variances / (self.variances + sigma.square()).clamp_min(1e-12)
        with torch.autocast(x.device.type, enabled=False):  # r(x) - x is small: half precision would swamp it
            return (x - self.mean) @ self.axes * gain

    def item(self, z: Tensor) -> Tensor:
        """Items `(B, size)` with latents `(B, latent)`."""
        with torch.autocast(z.device.type, enabled=False):
            return self.mean + z @ self.axes.T

    def doubt(self, sigma: Tensor) -> Tensor:
        """What the code leaves unknown, `(B, latent)`: the standard deviation of each coordinate given noisy items.

        Coordinates beyond the axes, where there are more than dimensions, are all unknown, and of the others' width.
        """
        beyond = torch.arange(len(self.variances), device=sigma.device) >= self.size
        return self._unknown(sigma).sqrt() + self.width * beyond

    def error(self, sigma: Tensor) -> Tensor:
        """What the item leaves unknown, `(B, 1)`: the root mean square error of one number."""
        return ((self._unknown(sigma).sum(1, keepdim=True) + self.rest) / self.size).sqrt()

    def _unknown(self, sigma: Tensor) -> Tensor:
        noise_variance = sigma.square()
        return self.variances * noise_variance / (self.variances + noise_variance).clamp_min(1e-12)

    def draw(self, n: int, sigma: float, generator: Generator, temperature: float) -> Tensor:
        """`n` items `(n, size)` of the Gaussian with the data's mean and axes, and noise `sigma` on it."""
        along = noise(self.variances.expand(n, -1), generator) * self.variances.sqrt()
        across = sigma * noise(self.mean.expand(n, -1), generator)
        return self.mean + temperature * (along @ self.axes.T + across)
