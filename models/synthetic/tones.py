"""Synthetic melodies: sounds about which everything is known.

Eight notes of equal length drawn from a Markov chain over the eight notes of a major scale, played by one of two
instruments. The chain is known, so is the entropy that no model of the melodies can beat; what each melody plays is
known too, so a proof can count the notes that survive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sounds import Sound, as_written

RATE = 4_000
NOTES = 8
"""Notes of the scale, and notes of a melody."""
NOTE_SAMPLES = 512
NAMES = ("C4", "D4", "E4", "F4", "G4", "A4", "B4", "C5")
FREQUENCIES = 261.63 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
"""Hertz of each note: C major from middle C."""
TIMBRES = {"flute": (1.0, 0.15), "reed": (0.6, 0.5, 0.45)}
"""Amplitudes of the harmonics of each instrument, all below half the rate."""


def transitions() -> NDArray[np.float64]:
    """The chain `(8, 8)`: row i holds the probabilities of what follows note i.

    A neighbour on the scale follows with .4 each way, else the same note or any other.
    """
    distance = np.abs(np.arange(NOTES)[:, None] - np.arange(NOTES)[None, :])
    weights = np.where(distance == 1, 0.4, np.where(distance == 0, 0.1, 0.1 / (NOTES - 3)))
    out: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return out


def melody(notes: NDArray[np.int64], timbre: str, *, note_samples: int = NOTE_SAMPLES) -> Sound:
    """The sound of `notes` (places on the scale) played on `timbre`, each with a soft start and a slow decay."""
    t = np.arange(note_samples)
    envelope = np.minimum(1, t / 40) * np.exp(-t / note_samples) * np.minimum(1, (note_samples - t) / 40)
    out = np.zeros((len(notes), note_samples))
    for place, note in enumerate(notes):
        for harmonic, amplitude in enumerate(TIMBRES[timbre], start=1):
            out[place] += amplitude * np.sin(2 * np.pi * harmonic * FREQUENCIES[note] * t / RATE)
    return Sound(as_written(0.5 * (out * envelope).ravel()), RATE)


def melodies(
    n: int, seed: int = 0, *, notes: int = NOTES, note_samples: int = NOTE_SAMPLES
) -> tuple[list[Sound], list[str], list[dict[str, Any]]]:
    """`n` melodies of `notes` notes, their timbres, and payloads that say what each plays."""
    rng = np.random.default_rng(seed)
    chain = transitions()
    sounds, labels, payloads = [], [], []
    for _ in range(n):
        played = [int(rng.integers(NOTES))]
        while len(played) < notes:
            played.append(int(rng.choice(NOTES, p=chain[played[-1]])))
        timbre = str(rng.choice(sorted(TIMBRES)))
        sounds.append(melody(np.array(played), timbre, note_samples=note_samples))
        labels.append(timbre)
        payloads.append({"notes": played, "melody": " ".join(NAMES[note] for note in played)})
    return sounds, labels, payloads
