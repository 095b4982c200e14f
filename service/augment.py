"""The same item, seen a little differently: what a person would still call the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.random import Generator

from models.images import fit_image
from models.sounds import Sound

CUT = 0.05
"""At strength 1 up to this share of a picture is cut off each side, or of a sound off its beginning."""
BRIGHTER = 0.1
NOISE = 0.03
"""Of full scale for a picture, of its own spread for a vector, of its own loudness for a sound."""
DROPPED = 0.1
"""Of the words of a text."""


def augmented(kind: str, item: Any, rng: Generator, strength: float = 1.0) -> Any:
    """`item` of `kind` in memory, changed a little; strength 2 changes it about twice as much."""
    return _WAYS[kind](item, rng, strength)


def _image(picture: Any, rng: Generator, strength: float) -> Any:
    """Cropped on each side, so moved and enlarged as well; brighter or darker; with noise."""
    height, width, channels = picture.shape
    # A picture of a few pixels a side cannot lose a twentieth of one: it is enlarged first.
    scale = max(1, -(-128 // min(height, width)))
    large = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    most = min(0.4, CUT * strength)
    top, bottom = (int(rng.uniform(0, most) * len(large)) for _ in range(2))
    left, right = (int(rng.uniform(0, most) * large.shape[1]) for _ in range(2))
    cut = large[top : len(large) - bottom, left : large.shape[1] - right]
    values = fit_image(np.ascontiguousarray(cut), height, width, channels).astype(np.float32)
    values *= 1 + rng.uniform(-1, 1) * min(0.9, BRIGHTER * strength)
    values += rng.normal(0, NOISE * 255 * strength, values.shape)
    return values.round().clip(0, 255).astype(np.uint8)


def _vector(vector: Any, rng: Generator, strength: float) -> Any:
    """With noise."""
    spread = float(np.std(vector)) or float(np.abs(vector).max())
    return (vector + rng.normal(0, NOISE * strength * spread, vector.shape)).astype(np.float32)


def _text(text: str, rng: Generator, strength: float) -> str:
    """With words dropped, one at least where there are several."""
    words = text.split()
    if len(words) < 2:
        return text
    kept = rng.random(len(words)) >= min(0.9, DROPPED * strength)
    if kept.all():
        kept[rng.integers(len(words))] = False
    if not kept.any():
        kept[rng.integers(len(words))] = True
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays)


def _audio(sound: Sound, rng: Generator, strength: float) -> Sound:
    """Begun a little later, louder or softer, with noise."""
    samples = sound.samples
    start = int(rng.uniform(0, min(0.4, CUT * strength)) * len(samples))
    moved = np.roll(samples, -start)
    loudness = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
    gain = 10 ** (rng.uniform(-3, 3) * strength / 20)
    noise = rng.normal(0, 1, len(samples)) * loudness * NOISE * strength
    return Sound(((moved + noise) * gain).clip(-1, 1).astype(np.float32), sound.rate)


_WAYS: Mapping[str, Callable[[Any, Generator, float], Any]] = {
    "image": _image,
    "vector": _vector,
    "text": _text,
    "audio": _audio,
}
