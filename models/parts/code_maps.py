"""Between items and small maps of vectors, `(B, rows, columns, dim)`, that a codebook then makes discrete.

A picture becomes a map of its places, each side halved a few times. A spectrogram becomes a map of frames by groups:
the convolutions run over time with the mel bands as channels, as a sound is not the same one octave higher, and what
is in a frame is split into groups with a code each (product quantisation: Jegou, Douze and Schmid, PAMI 2011). Other
items become one row of positions through dense layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..inputs import InputSpec
from .convolution import SMALLEST, is_picture
from .layers import dense

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


class CodeMap(nn.Module, ABC):
    """An encoder to a map of vectors and the decoder back."""

    rows: int
    columns: int

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Vectors `(B, rows, columns, dim)` of `x` `(B, *input.shape)`."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The decoder's output `(B, *input.shape)` for vectors `(B, rows, columns, dim)`."""

    def start(self, x: Tensor) -> None:
        """Weights that suit items `x` `(n, *input.shape)`, before the first step."""


def code_map(
    input: InputSpec, dim: int, *, halvings: int, channels: int, hidden: int, groups: int, positions: int
) -> CodeMap:
    """The map that suits the kind of input."""
    if input.kind == "audio":
        return SoundMap(input.shape, dim, halvings, channels, groups)
    if is_picture(input):
        return PictureMap(input.shape, dim, halvings, channels)
    return DenseMap(input, dim, hidden, positions)


class PictureMap(CodeMap):
    """Pictures `(channels, height, width)`, halved at most until a side would fall below four."""

    def __init__(self, shape: tuple[int, ...], dim: int, halvings: int, channels: int) -> None:
        super().__init__()
        self.size = shape[1:]
        halvings = fewer(halvings, min(self.size))
        self.rows, self.columns = (halved(side, halvings) for side in self.size)
        self.encoder = Down(2, shape[0], dim, channels, halvings)
        self.decoder = Up(2, dim, shape[0], channels, halvings)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).movedim(1, -1)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z.movedim(-1, 1))[:, :, : self.size[0], : self.size[1]]


class SoundMap(CodeMap):
    """Spectrograms `(1, mels, frames)`: a row for each (halved) frame, a column for each group."""

    def __init__(self, shape: tuple[int, ...], dim: int, halvings: int, channels: int, groups: int) -> None:
        super().__init__()
        self.shape = shape
        bands, frames = shape[0] * shape[1], shape[2]
        halvings = fewer(halvings, frames)
        self.rows, self.columns = halved(frames, halvings), groups
        self.encoder = Down(1, bands, groups * dim, channels, halvings)
        self.decoder = Up(1, groups * dim, bands, channels, halvings)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x.flatten(1, 2)).mT.unflatten(2, (self.columns, -1))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z.flatten(2).mT)[..., : self.shape[2]].unflatten(1, self.shape[:2])


class DenseMap(CodeMap):
    """Vectors and texts: one row of positions, each of which sees the whole item."""

    def __init__(self, input: InputSpec, dim: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.rows, self.columns = 1, positions
        self.shape = input.shape
        self.words = input.likelihood == "multinomial"
        self.encoder = dense([input.size, hidden, hidden, positions * dim])
        self.decoder = dense([positions * dim, hidden, input.size])

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """The decoder starts from how often each word is used; rows of unit length need a larger first layer."""
        if self.words:
            self.decoder[-1].get_parameter("bias").copy_((x.sum(0) / x.sum() + 1e-6).log())
            self.encoder[0].get_parameter("weight").normal_(0, 10**-0.5)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x.flatten(1)).view(len(x), 1, self.columns, -1)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z.flatten(1)).unflatten(1, self.shape)


def halved(side: int, times: int) -> int:
    """`side` halved `times` times, rounding up."""
    return -(-side // 2**times)


def fewer(halvings: int, side: int) -> int:
    """`halvings`, or as many as leave `side` at four or more."""
    while halvings and halved(side, halvings) < SMALLEST:
        halvings -= 1
    return halvings


class Residual(nn.Module):
    """x + W_1 relu(W_3 * relu(x)), as in the paper: a 3-wide convolution to half the channels, and a pointwise one."""

    def __init__(self, axes: int, channels: int) -> None:
        super().__init__()
        convolution = _CONVOLUTION[axes]
        self.layers = nn.Sequential(
            nn.ReLU(),
            convolution(channels, channels // 2, 3, padding=1),
            nn.ReLU(),
            convolution(channels // 2, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Halve(nn.Module):
    """A convolution of width 4 and stride 2; an odd side is first made even, so sides are rounded up."""

    def __init__(self, axes: int, wide: int, out: int) -> None:
        super().__init__()
        self.axes = axes
        self.convolution = _CONVOLUTION[axes](wide, out, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        odd = [part for side in reversed(x.shape[2:]) for part in (0, side % 2)]
        return self.convolution(functional.pad(x, odd))


def widths(channels: int, halvings: int) -> list[int]:
    """Channels after each halving: half of all after the first of several, all after the others."""
    return [channels // 2 if place == 0 and halvings > 1 else channels for place in range(halvings)]


class Down(nn.Sequential):
    """`(B, wide, *sides)` to `(B, out, *halved sides)`: strided convolutions, two residual blocks."""

    def __init__(self, axes: int, wide: int, out: int, channels: int, halvings: int) -> None:
        convolution = _CONVOLUTION[axes]
        layers: list[nn.Module] = []
        for width in widths(channels, halvings):
            layers += [Halve(axes, wide, width), nn.ReLU()]
            wide = width
        layers += [convolution(wide, channels, 3, padding=1), Residual(axes, channels), Residual(axes, channels)]
        super().__init__(*layers, nn.ReLU(), convolution(channels, out, 1))


class Up(nn.Sequential):
    """The way back: two residual blocks, transposed convolutions whose width is a multiple of their stride."""

    def __init__(self, axes: int, wide: int, out: int, channels: int, halvings: int) -> None:
        convolution = _CONVOLUTION[axes]
        layers: list[nn.Module] = [
            convolution(wide, channels, 3, padding=1), Residual(axes, channels), Residual(axes, channels), nn.ReLU(),
        ]  # fmt: skip
        sizes = [*widths(channels, halvings)[:-1][::-1], out]
        for width in sizes[:halvings]:
            layers += [_TRANSPOSED[axes](channels, width, 4, stride=2, padding=1), nn.ReLU()]
            channels = width
        if not halvings:
            layers += [convolution(channels, out, 3, padding=1), nn.ReLU()]
        super().__init__(*layers[:-1])  # no ReLU after the last
