"""Encoders and decoders for pictures of any size, and what stands in for them where items are not pictures.

A picture `(channels, height, width)` is halved, rounding up, until no side is longer than four; a decoder walks the
same sizes back, enlarging before each convolution, which leaves no checkerboard (Odena, Dumoulin and Olah,
"Deconvolution and Checkerboard Artifacts", Distill 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from ..inputs import InputSpec
from .layers import dense

SMALLEST = 4


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """`(height, width)` and its halves, largest first, down to `SMALLEST`."""
    out = [(height, width)]
    while max(out[-1]) > SMALLEST:
        out.append((-(-out[-1][0] // 2), -(-out[-1][1] // 2)))
    return out


class ConvEncoder(nn.Module):
    """Strided 3 x 3 convolutions, twice the channels at each scale up to four times, then one linear layer.

    `(B, *shape)` to `(B, out)`. `features` stops before the linear layer: `(B, flat)`.
    """

    def __init__(self, shape: Sequence[int], out: int, channels: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        channels_in, height, width = shape
        scales = sizes(height, width)
        layers: list[nn.Module] = [nn.Conv2d(channels_in, channels, 3, padding=1), nn.LeakyReLU(0.2)]
        wide = channels
        for _ in scales[1:]:
            wider = min(2 * wide, 4 * channels)
            layers.append(nn.Conv2d(wide, wider, 3, stride=2, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(wider))
            layers.append(nn.LeakyReLU(0.2))
            wide = wider
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.flat = wide * scales[-1][0] * scales[-1][1]
        self.last = nn.Linear(self.flat, out)

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x))


class ConvDecoder(nn.Module):
    """A linear layer to the smallest scale, then enlarge and convolve up to the picture: `(B, z)` to `(B, *shape)`."""

    def __init__(self, z: int, shape: Sequence[int], channels: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        channels_out, height, width = shape
        self.sizes = sizes(height, width)[::-1]
        widths = [min(channels * 2**place, 4 * channels) for place in range(len(self.sizes))][::-1]
        self.start = (widths[0], *self.sizes[0])
        self.first = nn.Linear(z, widths[0] * self.sizes[0][0] * self.sizes[0][1])
        self.convolutions = nn.ModuleList()
        for wide, narrow in zip(widths, [*widths[1:], channels], strict=True):
            layers: list[nn.Module] = [nn.Conv2d(wide, narrow, 3, padding=1, bias=not batch_norm)]
            if batch_norm:
                layers.append(nn.BatchNorm2d(narrow))
            self.convolutions.append(nn.Sequential(*layers, nn.LeakyReLU(0.2)))
        self.last = nn.Conv2d(channels, channels_out, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z).unflatten(1, self.start)
        for size, convolution in zip(self.sizes, self.convolutions, strict=True):
            if h.shape[2:] != size:
                h = functional.interpolate(h, size=size, mode="nearest")
            h = convolution(h)
        return self.last(h)


def is_picture(input: InputSpec) -> bool:
    """Whether items have the two axes that convolutions run over: images and spectrograms of sounds."""
    return len(input.shape) == 3


def encoder_for(input: InputSpec, out: int, channels: int, hidden: int, *, batch_norm: bool = False) -> nn.Module:
    """`(B, *input.shape)` to `(B, out)`: convolutions for pictures, two dense hidden layers otherwise."""
    if is_picture(input):
        return ConvEncoder(input.shape, out, channels, batch_norm=batch_norm)
    return nn.Sequential(nn.Flatten(), dense([input.size, hidden, hidden, out]))


def decoder_for(input: InputSpec, z: int, channels: int, hidden: int, *, batch_norm: bool = False) -> nn.Module:
    """`(B, z)` to `(B, *input.shape)`, the output's meaning as in `layers.expectation`."""
    if is_picture(input):
        return ConvDecoder(z, input.shape, channels, batch_norm=batch_norm)
    return nn.Sequential(dense([z, hidden, hidden, input.size]), nn.Unflatten(1, input.shape))
