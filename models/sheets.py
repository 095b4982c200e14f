"""What a model does, to be looked at or listened to: a row for each of its capabilities."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .base import Model
from .capabilities import Decodes, Denoises, Inpaints, Interpolates, Reconstructs, Samples, Varies
from .images import Picture, labelled_sheet
from .readers import Items
from .sounds import Sound

_NOISE = 0.3


@torch.inference_mode()
def sheet(model: Model, items: Items, *, seed: int = 0) -> Picture:
    """A picture of what `model`, an image model, makes of `items`, which set the width: one a column."""
    model.eval()
    x = model.input.tensor(items)
    return labelled_sheet([(title, model.input.restore(row)) for title, row in _rows(model, x, seed)])


@torch.inference_mode()
def sounds(model: Model, items: Items, *, seed: int = 0) -> Iterator[tuple[str, list[Sound]]]:
    """What `model`, a model of sounds, makes of `items`: rows of as many sounds with a name each."""
    model.eval()
    x = model.input.tensor(items)
    yield "item", [model.input.shrink(item) for item in items]
    if isinstance(model, Reconstructs):
        yield "reconstructed", model.input.restore(model.reconstruct(x))
    if isinstance(model, Samples):
        made = model.sample(len(x), generator=torch.Generator().manual_seed(seed))
        yield "sampled", model.input.restore(made)


def _rows(model: Model, x: Tensor, seed: int) -> Iterator[tuple[str, Tensor]]:
    n = len(x)

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    yield "items", x
    if isinstance(model, Reconstructs):
        yield "reconstructed", model.reconstruct(x)
    if isinstance(model, Decodes):
        yield f"from {model.bits} bits", model.decode((model.encode(x) > 0).float())
    if isinstance(model, Denoises):
        noisy = x + _NOISE * torch.randn(x.shape, generator=generator())
        yield "noisy", noisy
        yield "denoised", model.denoise(noisy)
    if isinstance(model, Inpaints):
        mask = torch.zeros_like(x)
        height, width = x.shape[2:]
        mask[:, :, height // 2 :, width // 4 : width - width // 4] = 1
        yield "with a hole", torch.where(mask > 0, torch.full_like(x, 0.5), x)
        yield "inpainted", model.inpaint(x * (1 - mask), mask, steps=3, generator=generator())
    if isinstance(model, Interpolates):
        yield "interpolated", model.interpolate(x[:1], x[1:2], n)
        yield "", model.interpolate(x[2:3], x[3:4], n)
    if isinstance(model, Varies):
        yield "varied", model.vary(x[:1], n, generator=generator())
    if isinstance(model, Samples):
        for row, made in enumerate(model.sample(3 * n, generator=generator()).split(n)):
            yield "sampled" if row == 0 else "", made
