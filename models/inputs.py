"""From items to tensors and back: the preprocessing that is part of a model.

An item in memory is a `(height, width, channels)` uint8 array (image), a string (text), a `(dim,)` float32 array
(vector) or a `Sound` (audio).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import views
from .audio import AudioInput
from .errors import ArtefactDamaged, DataError, InvalidInput
from .images import fit_image
from .preprocessing import InputSpec, Rows, whole
from .readers import Items
from .texts import TextInput

__all__ = ["INPUTS", "AudioInput", "ImageInput", "InputSpec", "Rows", "TextInput", "VectorInput"]

MAX_SIDE = 256
MAX_DIM = 65_536


class ImageInput(InputSpec):
    """Images resized to one size, as `(channels, height, width)` in [0, 1]."""

    kind = "image"
    likelihood = "bernoulli"

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.height, self.width, self.channels = height, width, channels
        self.shape = (channels, height, width)

    @classmethod
    def fit(cls, items: Items, *, largest: int = 32) -> Self:
        """The size that all the first hundred images share, when small; else `largest` square."""
        first = [items[place].shape for place in range(min(len(items), 100))]
        sizes = {shape[:2] for shape in first}
        channels = 3 if any(shape[2] == 3 for shape in first) else 1
        height, width = sizes.pop() if len(sizes) == 1 else (largest, largest)
        if max(height, width) > largest:
            height = width = largest
        return cls(height, width, channels)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        height, width, channels = (whole(config, name, MAX_SIDE) for name in ("height", "width", "channels"))
        if channels not in (1, 3):
            raise ArtefactDamaged(f"an image has 1 or 3 channels; the config says {channels}")
        return cls(height, width, channels)

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "height": self.height, "width": self.width, "channels": self.channels}

    def shrink(self, item: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return fit_image(item, self.height, self.width, self.channels)

    def example(self) -> NDArray[np.uint8]:
        return np.full((self.height, self.width, self.channels), 128, np.uint8)

    def rest(self, items: Items) -> NDArray[np.uint8]:
        out = np.empty((len(items), self.height, self.width, self.channels), np.uint8)
        for place, item in enumerate(items):
            out[place] = fit_image(item, self.height, self.width, self.channels)
        return out

    def to_tensor(self, data: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(data.transpose(0, 3, 1, 2))).float() / 255

    def spoiled(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Half of the pictures are cut to the range of pixels, as files cut them."""
        noisy = super().spoiled(x, sigma)
        cut = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return torch.where(cut, noisy.clamp(0, 1), noisy)

    def view(self, x: Tensor) -> Tensor:
        """Cropped, half of them mirrored and half with a box erased, with a little noise."""
        return views.noise(views.erase(views.flip(views.crop(x, 0.4)), 0.25), 0.05)

    def restore(self, x: Tensor) -> list[NDArray[np.uint8]]:
        pixels = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).numpy())


class VectorInput(InputSpec):
    """Vectors of one dimension, centred and scaled by numbers fitted on the training data."""

    kind = "vector"
    likelihood = "gaussian"
    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.shape = (dim,)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def fit(cls, items: Items) -> Self:
        sample = np.stack([np.asarray(items[place], np.float32) for place in range(min(len(items), 50_000))])
        spec = cls(sample.shape[1])
        spec.mean.copy_(torch.from_numpy(sample.mean(0)))
        spread = float((sample - sample.mean(0)).std())
        if not spread > 0:
            raise DataError("all the vectors are equal; there is nothing to learn from them")
        spec.scale.fill_(spread)
        return spec

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(whole(config, "dim", MAX_DIM))

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "dim": self.dim}

    def example(self) -> NDArray[np.float32]:
        return self.mean.cpu().numpy() + 1

    def rest(self, items: Items) -> NDArray[np.float32]:
        for place, item in enumerate(items):
            if len(item) != self.dim:
                raise InvalidInput(f"the model takes vectors of {self.dim} numbers; got {len(item)}", position=place)
        out = np.asarray(items, np.float32).reshape(len(items), self.dim)
        bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if len(bad):
            raise InvalidInput("a vector holds numbers that are not finite in float32", position=int(bad[0]))
        return out

    def to_tensor(self, data: NDArray[np.float32]) -> Tensor:
        return (torch.from_numpy(np.ascontiguousarray(data)) - self.mean.cpu()) / self.scale.cpu()

    def view(self, x: Tensor) -> Tensor:
        """With noise, and with some of another vector mixed in; `x` is of unit spread."""
        return views.noise(views.mix(x, 0.3), 0.5)

    def restore(self, x: Tensor) -> list[NDArray[np.float32]]:
        return list((x.detach() * self.scale + self.mean).numpy())


INPUTS: Mapping[str, type[InputSpec]] = {spec.kind: spec for spec in (ImageInput, VectorInput, TextInput, AudioInput)}
