"""The spiral of Alain and Bengio (JMLR 2014): a curve in the plane on which a density estimator is tested.

Points (.04 t sin t, .04 t cos t) for t uniform in [3, 15], with a little Gaussian noise along the radius.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FIRST, LAST = 3.0, 15.0
"""Where the curve's parameter t begins and ends."""
NOISE = 0.01


def points(t: NDArray[np.float64], radial: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
    """The points `(n, 2)` of the curve at `t`, pushed outwards by `radial`."""
    radius = 0.04 * t + radial
    return np.stack([radius * np.sin(t), radius * np.cos(t)], axis=1)


def draw(n: int, generator: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """`n` noisy points `(n, 2)` and the t of each."""
    t = generator.uniform(FIRST, LAST, n)
    return points(t, generator.normal(0, NOISE, n)).astype(np.float32), t


def nearest(x: NDArray[np.floating], resolution: int = 4000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For points `(n, 2)` the t of the nearest point of the curve, and how far away that is."""
    t = np.linspace(FIRST, LAST, resolution)
    curve = points(t)
    distances = np.concatenate(
        [np.linalg.norm(part[:, None] - curve, axis=2) for part in np.array_split(x, max(1, len(x) // 500))]
    )
    best = distances.argmin(1)
    return t[best], distances[np.arange(len(x)), best]
