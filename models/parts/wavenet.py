"""WaveNet: van den Oord et al., "WaveNet: A Generative Model for Raw Audio" (2016), over a sequence of codes.

p(x) = prod_t p(x_t | x_<t). Causal convolutions of two taps, dilated 1, 2, 4, ..., so that what a position sees
doubles with each layer; gated units, a residual path from layer to layer and a skip path from each to the output:

    g = tanh(W_f * h) . sigmoid(W_g * h),   h' = h + W_r g,   logits = head(sum of W_s g)

The input is moved right by one position, so a position never sees itself. Sampling keeps, for each layer, the last
`dilation` inputs in a ring, so a position costs one product a layer however long the sequence is (Paine et al.,
"Fast Wavenet Generation Algorithm", 2016). A learned table of positions is added to the input, as in `pixelcnn`.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from .autoregressive import Autoregressive, draw
from .pixelcnn import gate


class DilatedLayer(nn.Module):
    """A gated causal convolution with taps at t and t - `dilation`."""

    def __init__(self, channels: int, dilation: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.taps = nn.Conv1d(channels, 2 * channels, 2, dilation=dilation)
        self.residual = nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.condition = nn.Linear(condition, 2 * channels) if condition else None

    def bias(self, condition: Tensor | None) -> Tensor | float:
        """What the condition `(B, c)` adds to the gates."""
        if self.condition is None or condition is None:
            return 0.0
        return self.condition(condition)[:, :, None]

    def forward(self, h: Tensor, bias: Tensor | float) -> tuple[Tensor, Tensor]:
        """`h` `(B, C, T)` to the next `h` and this layer's part of the output."""
        return self._finish(self.taps(functional.pad(h, (self.dilation, 0))) + bias, h)

    def step(self, past: Tensor, h: Tensor, bias: Tensor | float) -> tuple[Tensor, Tensor]:
        """The same for one position, `h` `(B, C, 1)` and `past` the input `dilation` positions before."""
        a = functional.conv1d(torch.cat([past, h], dim=2), self.taps.weight, self.taps.bias)
        return self._finish(a + bias, h)

    def _finish(self, a: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        g = self.dropout(gate(a))
        return h + self.residual(g), self.skip(g)


class WaveNet(Autoregressive):
    """A distribution over sequences `(B, length)` of integers below `values`."""

    def __init__(
        self,
        values: int,
        length: int,
        *,
        channels: int = 64,
        layers: int = 6,
        longest: int = 512,
        condition: int = 0,
        dropout: float = 0.0,
    ) -> None:
        """Dilations double from 1 as long as they are within the sequence and `longest`, then begin again."""
        super().__init__(values)
        self.length, self.channels = length, channels
        cycle = [1]
        while 2 * cycle[-1] < min(length, longest + 1):
            cycle.append(2 * cycle[-1])
        self.embedding = nn.Embedding(values, channels)
        self.position = nn.Parameter(0.1 * torch.randn(channels, length))
        self.layers = nn.ModuleList(
            DilatedLayer(channels, cycle[place % len(cycle)], condition, dropout) for place in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv1d(channels, channels, 1), nn.ReLU(), nn.Conv1d(channels, values, 1)
        )

    def forward(self, codes: Tensor, condition: Tensor | None = None) -> Tensor:
        embedded = self.embedding(codes).movedim(-1, 1)  # (B, C, T)
        h = functional.pad(embedded, (1, 0))[..., :-1] + self.position
        out: Tensor | float = 0.0
        for layer in self._layers():
            h, skip = layer(h, layer.bias(condition))
            out = out + skip
        return self.head(out)

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
        on = self.position
        codes = on.new_zeros(n, self.length, dtype=torch.int64) if known is None else known.clone()
        wanted = torch.ones_like(codes, dtype=torch.bool) if redraw is None else redraw
        layers = self._layers()
        biases = [layer.bias(condition) for layer in layers]
        rings = [on.new_zeros(layer.dilation, n, self.channels, 1) for layer in layers]
        before = on.new_zeros(n, self.channels)
        for t in range(self.length):
            h = (before + self.position[:, t])[:, :, None]  # (n, C, 1)
            out: Tensor | float = 0.0
            for layer, ring, bias in zip(layers, rings, biases, strict=True):
                here = t % layer.dilation
                past = ring[here].clone()
                ring[here] = h
                h, skip = layer.step(past, h, bias)
                out = out + skip
            if wanted[:, t].any():
                drawn = draw(self.head(out)[:, :, 0], temperature, generator)
                codes[:, t] = torch.where(wanted[:, t], drawn, codes[:, t])
            before = self.embedding(codes[:, t])
        return codes

    def _layers(self) -> list[DilatedLayer]:
        return [layer for layer in self.layers if isinstance(layer, DilatedLayer)]
