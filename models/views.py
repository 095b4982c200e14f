"""Augmented views: items changed in ways that leave them what they are, for the contrast between views.

Every function takes a batch `(B, ...)` and gives one like it, each item changed in its own way, drawn with torch's
global generator; `InputSpec.view` puts together those that suit a kind of input.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def crop(x: Tensor, smallest: float) -> Tensor:
    """A random part of each picture `(B, C, H, W)`, `smallest` to 1 of its area, enlarged to the whole (SimCLR)."""
    count, on = len(x), x.device
    side = (smallest + (1 - smallest) * torch.rand(count, device=on)).sqrt()
    ratio = (torch.rand(count, device=on) * 0.575 - 0.2876).exp().sqrt()  # 3/4 to 4/3, as is the custom
    wide, high = (side * ratio).clamp_max(1), (side / ratio).clamp_max(1)
    grid = x.new_zeros(count, 2, 3)
    grid[:, 0, 0], grid[:, 1, 1] = wide, high
    grid[:, 0, 2] = (1 - wide) * (2 * torch.rand(count, device=on) - 1)
    grid[:, 1, 2] = (1 - high) * (2 * torch.rand(count, device=on) - 1)
    places = functional.affine_grid(grid, list(x.shape), align_corners=False)
    return functional.grid_sample(x, places, padding_mode="reflection", align_corners=False)


def flip(x: Tensor) -> Tensor:
    """Half of the pictures `(B, C, H, W)` mirrored left to right."""
    return torch.where(_some(x, 0.5), x.flip(-1), x)


def noise(x: Tensor, sigma: float) -> Tensor:
    """Gaussian noise of a standard deviation from 0 to `sigma`, another for each item."""
    level = sigma * torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device)
    return x + level * torch.randn_like(x)


def erase(x: Tensor, share: float) -> Tensor:
    """In half of the pictures `(B, C, H, W)` a box of up to `share` of the area at its mean.

    Random erasing (Zhong et al., AAAI 2020).
    """
    count, _, height, width = x.shape
    side = (share * torch.rand(count, 1, 1, device=x.device)).sqrt()
    rows = torch.arange(height, device=x.device).view(1, -1, 1) / height
    columns = torch.arange(width, device=x.device).view(1, 1, -1) / width
    top, left = ((1 - side) * torch.rand_like(side) for _ in range(2))
    box = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return torch.where(box[:, None] & _some(x, 0.5), x.mean((2, 3), keepdim=True), x)


def light(x: Tensor, strength: float) -> Tensor:
    """Pictures `(B, C, H, W)` in [0, 1] lit otherwise: times 1 - `strength` to 1 + `strength`, then to a power."""
    gain = 1 + strength * _between(x, 1)
    return (x * gain).clamp_min(1e-4) ** (strength * _between(x, 1)).exp()


def colour(x: Tensor, strength: float, grey: float) -> Tensor:
    """Colour pictures `(B, 3, H, W)` of other brightness, contrast, saturation and tint, a share `grey` without any.

    SimCLR's distortion of colours, with a gain of each channel in place of a turn of the hue.
    """
    x = x * (1 + strength * _between(x, 1))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + strength * _between(x, 1))
    plain = x.mean(1, keepdim=True)
    x = (plain + (x - plain) * (1 + strength * _between(x, 1))) * (1 + strength / 4 * _between(x, 3))
    return torch.where(_some(x, grey), x.mean(1, keepdim=True), x)


def mask_bands(x: Tensor, share: float) -> Tensor:
    """One band of rows and one of columns of each spectrogram `(B, 1, mels, frames)` at its mean, up to `share` wide.

    SpecAugment (Park et al., Interspeech 2019).
    """
    mean = x.mean((2, 3), keepdim=True)
    for axis in (2, 3):
        size = x.shape[axis]
        shape = [1] * 4
        shape[axis] = size
        at = torch.arange(size, device=x.device).view(shape) / size
        wide = share * torch.rand(len(x), 1, 1, 1, device=x.device)
        start = (1 - wide) * torch.rand_like(wide)
        x = torch.where((at >= start) & (at < start + wide), mean, x)
    return x


def shift(x: Tensor, share: float) -> Tensor:
    """Spectrograms `(B, 1, mels, frames)` begun up to `share` earlier or later, the ends joined."""
    frames = x.shape[3]
    most = int(share * frames)
    offset = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
    places = (torch.arange(frames, device=x.device)[None] + offset) % frames
    return x.gather(3, places[:, None, None].expand_as(x))


def drop(x: Tensor, share: float) -> Tensor:
    """A random `share` of the numbers set to zero, rows `(B, words)` scaled back to unit length: word dropout."""
    return functional.normalize(x * (torch.rand_like(x) >= share), dim=1)


def mix(x: Tensor, share: float) -> Tensor:
    """Up to `share` of another item of the batch mixed into each (mixup: Zhang et al., ICLR 2018, without labels)."""
    part = share * torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device)
    return torch.lerp(x, x[torch.randperm(len(x), device=x.device)], part)


def _some(x: Tensor, share: float) -> Tensor:
    """Which items a change is made to, `(B, 1, ...)`."""
    return torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device) < share


def _between(x: Tensor, channels: int) -> Tensor:
    """Numbers from -1 to 1, `channels` for each item `(B, C, H, W)`."""
    return 2 * torch.rand(len(x), channels, 1, 1, device=x.device) - 1
