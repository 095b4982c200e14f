"""The lines benchmark: how good are the interpolations of an autoencoder? Berthelot et al. (ICLR 2019), section 3.2.

An item is a picture, -1 with a line of +1 from its centre at some angle. Between two lines a good path is a line that
turns: each picture on it is near to some real line, of a large bank of them (mean distance), and the angle of that
line moves by equal steps (mean smoothness). A path of noisy lines has a bad distance, one that jumps from end to end a
bad smoothness, so that neither says much alone.

The reference implementation divides the sum of the smoothness of the pairs that have one by the number of all pairs,
so that paths without a change of angle improve it; here it is the mean over those that have one, and their number is
reported. Background is nearly all of a picture, so that a blank one is at a distance of .03 only: the distance of
foregrounds, where it is at 1, is reported beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

WIDTH = 2.0
BANK = 10_000
STEPS = 16
_PAIRS_AT_ONCE = 16


def draw(angles: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """Lines at `angles` `(n,)`, in radians, as pictures `(n, side, side)` from -1 to 1.

    The line runs from the centre to one pixel before the border. It is rasterised along the axis of which it covers
    more: each row (or column) that it crosses has `WIDTH` pixels around the middle of the line there, by the share of
    each that is covered, and its first and last row by the share of the row that it crosses.
    """
    middle, reach = side / 2, side / 2 - 1
    along, across = reach * np.cos(angles), -reach * np.sin(angles)  # from the centre, down and to the right
    steep = np.abs(along) >= np.abs(across)
    major, minor = np.where(steep, along, across), np.where(steep, across, along)
    pixel = np.arange(side)
    low, high = middle + np.minimum(major, 0), middle + np.maximum(major, 0)
    rows = _overlap(pixel, low[:, None], high[:, None])  # (n, side)
    centre = middle + (pixel + 0.5 - middle) * (minor / major)[:, None]  # (n, side)
    columns = _overlap(pixel, centre[:, :, None] - WIDTH / 2, centre[:, :, None] + WIDTH / 2)  # (n, side, side)
    covered = rows[:, :, None] * columns
    covered = np.where(steep[:, None, None], covered, covered.transpose(0, 2, 1))
    return (2 * covered.clip(0, 1) - 1).astype(np.float32)


def _overlap(pixel: NDArray[np.int64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each pixel `[p, p + 1]` lies between `low` and `high`."""
    return (np.minimum(pixel + 1, high) - np.maximum(pixel, low)).clip(0, 1)


@dataclass(frozen=True)
class Score:
    """What paths are worth; 0 is best in all three."""

    distance: float
    """Mean cosine distance of an interpolant to the nearest line, pictures taken as vectors from -1 to 1."""
    foreground: float
    """The same to that line with the background at 0 instead of -1."""
    smoothness: float
    """Mean of the largest step of the angle, as a share of all its change, less the 1/15 of equal steps; nan without
    valid pairs. One jump from end to end has .933, a path that overshoots may have more."""
    valid: int
    """Pairs with any change of angle from end to end, the only ones that have a smoothness."""
    pairs: int


class Bank:
    """Lines at equal angles, against which interpolants are judged."""

    def __init__(self, side: int, lines: int = BANK) -> None:
        self.side = side
        self.angles = np.arange(lines) * (2 * math.pi / lines)
        parts = np.array_split(self.angles, max(1, lines // 1000))
        drawn = np.concatenate([draw(part, side).reshape(len(part), -1) for part in parts])
        self._lines = functional.normalize(torch.from_numpy(drawn), dim=1)  # (lines, side * side)

    @torch.no_grad()
    def judge(self, paths: Tensor) -> Score:
        """The score of paths `(pairs, steps, side * side)` of pictures from -1 to 1, their ends included."""
        distances, foregrounds = list[Tensor](), list[Tensor]()
        smooth = list[float | None]()
        for part in paths.flatten(2).float().split(_PAIRS_AT_ONCE):
            pictures = part.flatten(0, 1)
            cosine, nearest = (functional.normalize(pictures, dim=1) @ self._lines.T).max(1)
            distances.append((1 - cosine).clamp_min(0))
            foregrounds.append(1 - functional.cosine_similarity(self._foreground(nearest), (pictures + 1) / 2, dim=1))
            smooth.extend(smoothness(angles) for angles in self.angles[nearest.numpy()].reshape(len(part), -1))
        known = [value for value in smooth if value is not None]
        return Score(
            distance=float(torch.cat(distances).double().mean()),
            foreground=float(torch.cat(foregrounds).double().mean()),
            smoothness=float(np.mean(known)) if known else math.nan,
            valid=len(known),
            pairs=len(smooth),
        )

    def _foreground(self, places: Tensor) -> Tensor:
        """The lines at `places` from 0 to 1; the darkest pixel of each is background."""
        lines = self._lines[places]
        return lines - lines.amin(1, keepdim=True)


def smoothness(angles: NDArray[np.float64]) -> float | None:
    """The smoothness of one path from its nearest angles `(steps,)`; none where it ends at the angle it began at."""
    path = np.unwrap(angles)
    change = abs(path[-1] - path[0])
    if change == 0:
        return None
    return float(np.abs(np.diff(path)).max() / change - 1 / (len(path) - 1))
