"""Gated PixelCNN: van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (NIPS 2016).

p(x) = prod_t p(x_t | x_<t) in raster order over a map of categorical values: codes of a VQ-VAE, or pixels. Two stacks
of gated convolutions look at all that came before and nothing else. The vertical one sees whole rows above, the
horizontal one what is to the left in the same row, and is fed by the vertical one; together they leave no blind spot:

    v' = tanh(W_f * v) . sigmoid(W_g * v),   h' = h + W_o (tanh(a_f) . sigmoid(a_g)),   a = W * h + W_vh (W * v)

Masks are made by moving, not by zeroing weights: the input is moved down by a row for the vertical stack and right by
a column for the horizontal one (mask A: a position never sees itself), and every kernel is cut to the rows above and
the columns to the left, with the position itself (mask B). A condition adds a bias to every gate; so does a learned
table of positions to the input, since in a small map every position has a meaning of its own.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from .autoregressive import Autoregressive, draw


def gate(a: Tensor) -> Tensor:
    """tanh of the first half of the channels times the sigmoid of the second: `(B, 2 C, ...)` to `(B, C, ...)`."""
    value, control = a.chunk(2, dim=1)
    return value.tanh() * control.sigmoid()


class GatedLayer(nn.Module):
    """One layer of both stacks, mask B. Its inputs come padded, so that a whole map and one row or column do alike."""

    def __init__(self, channels: int, kernel: int, condition: int, dropout: float) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel must have a middle; got {kernel}")
        self.side, self.above = kernel // 2, kernel // 2  # what a kernel sees beside and above (or left of) itself
        self.vertical = nn.Conv2d(channels, 2 * channels, (self.above + 1, kernel))
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, self.above + 1))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.condition = nn.Linear(condition, 4 * channels) if condition else None

    def biases(self, condition: Tensor | None) -> tuple[Tensor | float, Tensor | float]:
        """What the condition `(B, c)` adds to the gates of the vertical and of the horizontal stack."""
        if self.condition is None or condition is None:
            return 0.0, 0.0
        vertical, horizontal = self.condition(condition)[:, :, None, None].chunk(2, dim=1)
        return vertical, horizontal

    def down(self, v: Tensor, bias: Tensor | float) -> tuple[Tensor, Tensor]:
        """The vertical stack: `v` `(B, C, above + rows, W)` to the next `v` and what the horizontal one gets of it."""
        a = self.vertical(functional.pad(v, (self.side, self.side)))  # (B, 2 C, rows, W)
        return gate(a + bias), self.link(a)

    def across(self, h: Tensor, link: Tensor, bias: Tensor | float) -> Tensor:
        """The horizontal stack: `h` `(B, C, rows, above + columns)` to the next `h` `(B, C, rows, columns)`."""
        new = self.out(self.dropout(gate(self.horizontal(h) + link + bias)))
        return h[..., self.above :] + new


class PixelCnn(Autoregressive):
    """A distribution over maps `(B, height, width)` of integers below `values`."""

    def __init__(
        self,
        values: int,
        height: int,
        width: int,
        *,
        channels: int = 64,
        layers: int = 6,
        kernel: int = 3,
        first_kernel: int = 5,
        condition: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(values)
        self.height, self.width, self.channels = height, width, channels
        self.embedding = nn.Embedding(values, channels)
        self.position = nn.Parameter(0.1 * torch.randn(channels, height, width))
        kernels = [first_kernel, *[kernel] * (layers - 1)]
        self.layers = nn.ModuleList(GatedLayer(channels, size, condition, dropout) for size in kernels)
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, values, 1)
        )

    def forward(self, codes: Tensor, condition: Tensor | None = None) -> Tensor:
        embedded = self.embedding(codes).movedim(-1, 1)  # (B, C, H, W)
        v = functional.pad(embedded, (0, 0, 1, 0))[:, :, :-1] + self.position
        h = functional.pad(embedded, (1, 0))[..., :-1] + self.position
        for layer in self._layers():
            bias_v, bias_h = layer.biases(condition)
            v, link = layer.down(functional.pad(v, (0, 0, layer.above, 0)), bias_v)
            h = layer.across(functional.pad(h, (layer.above, 0)), link, bias_h)
        return self.head(h)

    def sample(
        self,
        n: int,
        *,
        generator: Generator,
        temperature: float = 1.0,
        condition: Tensor | None = None,
        known: Tensor | None = None,
        redraw: Tensor | None = None,
    ) -> Tensor:
        """Each row of the vertical stack is computed once, each column of the horizontal one too.

        A layer keeps the last rows and columns of its input that its kernel still reaches.
        """
        on = self.position
        codes = on.new_zeros(n, self.height, self.width, dtype=torch.int64) if known is None else known.clone()
        wanted = torch.ones_like(codes, dtype=torch.bool) if redraw is None else redraw
        if not wanted.any():
            return codes
        layers = self._layers()
        biases = [layer.biases(condition) for layer in layers]
        rows = [on.new_zeros(n, self.channels, layer.above + 1, self.width) for layer in layers]
        above = on.new_zeros(n, self.channels, self.width)
        for i in range(self.height):
            v = (above + self.position[:, i])[:, :, None]  # (n, C, 1, W)
            links = []
            for place, layer in enumerate(layers):
                rows[place] = torch.cat([rows[place][:, :, 1:], v], dim=2)
                v, link = layer.down(rows[place], biases[place][0])
                links.append(link)
            columns = [on.new_zeros(n, self.channels, 1, layer.above + 1) for layer in layers]
            left = on.new_zeros(n, self.channels)
            for j in range(self.width):
                h = (left + self.position[:, i, j])[:, :, None, None]  # (n, C, 1, 1)
                for place, layer in enumerate(layers):
                    columns[place] = torch.cat([columns[place][..., 1:], h], dim=3)
                    h = layer.across(columns[place], links[place][..., j : j + 1], biases[place][1])
                if wanted[:, i, j].any():
                    drawn = draw(self.head(h)[:, :, 0, 0], temperature, generator)
                    codes[:, i, j] = torch.where(wanted[:, i, j], drawn, codes[:, i, j])
                left = self.embedding(codes[:, i, j])
            above = self.embedding(codes[:, i]).movedim(-1, 1)
        return codes

    def _layers(self) -> list[GatedLayer]:
        return [layer for layer in self.layers if isinstance(layer, GatedLayer)]
