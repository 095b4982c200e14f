"""Sounds as spectrograms: the input kind "audio".

A sound becomes `(1, mels, frames)`: mono, at one rate, of one length around the centre of its energy, then the
magnitudes of its mel bands in decibels below the loudest, with a floor 40 dB down. So its code does not depend on how
loud it was recorded, how much silence lies around it, or the noise beneath it. A spectrogram becomes a sound again by
Griffin-Lim, the same one every time.

Spoken digits, the ten nearest spectrograms of 120 clips among 180 others (chance .10): .38 are of the same digit when
clips are cut at their start and the floor is 60 dB down, .45 around the centre, .52 around the centre with 40 dB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import views
from .errors import ArtefactDamaged, DataError, InvalidInput
from .preprocessing import InputSpec, whole
from .readers import Items
from .sounds import MAX_RATE, MIN_RATE, Sound, as_written, resample
from .spectrogram import analyse, griffin_lim, mel_filters, random_phases, resolves, spread, synthesise, unit, unmel

MAX_FRAMES = 128
MAX_MELS = 128
MAX_WINDOW = 16_384
_MODEL_RATE = 16_000
"""Speech and most of what tells sounds apart lies below 8 kHz."""
_HOP_S = 0.016
_LONGEST_HOP = 4
"""A long sound is cut into coarser frames, up to so many times `_HOP_S`, before its ends are left out."""
_MELS = 40
_FITTED_ON = 1_000
_FLOOR = 1e-2
"""Added to magnitudes of which the loudest is 1: 40 dB down."""
_SILENT = 1e-30
_FAINTEST_DB = 40.0
"""Noise fainter than the floor is not there."""
_LOUDEST = 0.2
"""The loudest band of a sound made by a model; a sine of this amplitude leaves room for others beside it."""


class AudioInput(InputSpec):
    """Sounds as mel spectrograms `(1, mels, frames)` in decibels, centred and scaled by fitted numbers."""

    kind = "audio"
    likelihood = "gaussian"
    mean: Tensor
    scale: Tensor

    def __init__(self, rate: int, window: int, mels: int, frames: int) -> None:
        super().__init__()
        self.rate, self.window, self.mels, self.frames = rate, window, mels, frames
        self.length = frames * window // 4
        """Samples of every sound, once it is at the model's rate."""
        self.shape = (1, mels, frames)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def fit(cls, items: Items, *, mels: int = _MELS) -> Self:
        """The commonest rate, and a length that 95 of 100 sounds fit into."""
        places = np.unique(np.linspace(0, len(items) - 1, min(len(items), _FITTED_ON)).astype(np.int64))
        sounds = [items[place] for place in places]
        rate = min(_MODEL_RATE, Counter(sound.rate for sound in sounds).most_common(1)[0][0])
        seconds = float(np.quantile([sound.seconds for sound in sounds], 0.95))
        hop = max(_HOP_S, min(_LONGEST_HOP * _HOP_S, seconds / MAX_FRAMES))
        hop = 2 * round(rate * hop / 2)  # even, so that half of what a window reaches beyond a hop is whole
        frames = int(min(MAX_FRAMES, -(-seconds * rate // (8 * hop)) * 8))
        while mels > 8 and not resolves(rate, 4 * hop, mels):
            mels -= 8
        spec = cls(rate, 4 * hop, mels, frames)
        rows = spec.rest(sounds)
        spread = float(rows.std())
        if not spread > 0:
            raise DataError("all the sounds are silent; there is nothing to learn from them")
        spec.mean.fill_(float(rows.mean()))
        spec.scale.fill_(spread)
        return spec

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        rate, window = whole(config, "rate", MAX_RATE), whole(config, "window", MAX_WINDOW)
        mels, frames = whole(config, "mels", MAX_MELS), whole(config, "frames", MAX_FRAMES)
        if rate < MIN_RATE or window % 8 or not resolves(rate, window, mels):
            raise ArtefactDamaged(
                f"the config's rate must be at least {MIN_RATE}, its window a multiple of 8 that resolves {mels} mels"
            )
        return cls(rate, window, mels, frames)

    def config(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "rate": self.rate, "window": self.window, "mels": self.mels, "frames": self.frames,
        }  # fmt: skip

    def shrink(self, item: Sound) -> Sound:
        """The sound at the model's rate and length: what lies around the centre of its energy, or silence added.

        One that has that rate and length already is taken as it is, so a sound made by the model stays what it was.
        """
        if item.samples.ndim != 1:
            raise InvalidInput(f"a sound in memory is mono, one axis of samples; got {item.samples.ndim}")
        if not len(item.samples):
            raise InvalidInput("the sound is empty")
        if not MIN_RATE <= item.rate <= MAX_RATE:
            raise InvalidInput(f"a sound has {MIN_RATE:,} to {MAX_RATE:,} samples a second; got {item.rate:,}")
        samples = self._at_rate(item)
        if not np.isfinite(samples).all():
            raise InvalidInput("the sound holds samples that are not finite numbers")
        return Sound(_cut(samples, self._start(samples), self.length).astype(np.float32), self.rate)

    def _at_rate(self, item: Sound) -> NDArray[np.float64]:
        return resample(item.samples, item.rate, self.rate)

    def _start(self, samples: NDArray[np.float64]) -> int:
        """The place in `samples` where the model begins to look; below 0 where silence comes first."""
        if len(samples) == self.length:
            return 0
        energy = np.square(samples)
        total = float(energy.sum())
        centre = float(energy @ np.arange(len(samples))) / total if total > 0 else len(samples) / 2
        return round(centre - self.length / 2)

    def missing(self, item: Sound, mask: NDArray[Any]) -> NDArray[np.bool_]:
        """For each sample `(length,)` of `shrink(item)`, whether it rests on one where `mask` `(n,)` is 1."""
        samples = self._at_rate(item)
        missing = mask > 0
        if item.rate != self.rate:
            # A resampled sample is a mixture of its neighbourhood: ten samples of the slower rate on each side.
            reach = round(10 * item.rate / min(item.rate, self.rate))
            at = (np.arange(len(samples)) * (item.rate / self.rate)).round().astype(np.int64)
            until = np.concatenate([[0], np.cumsum(missing)])
            first, last = (at - reach).clip(0, len(missing)), (at + reach + 1).clip(0, len(missing))
            missing = until[last] > until[first]
        return _cut(missing, self._start(samples), self.length)

    def missing_frames(self, missing: NDArray[np.bool_]) -> Tensor:
        """1 in every cell `(1, 1, mels, frames)` of a frame that a missing sample `(length,)` touches."""
        hop = self.window // 4
        touched = torch.from_numpy(missing).float()[None]
        margin = (self.window - hop) // 2
        frames = torch.nn.functional.pad(touched, (margin, margin)).unfold(1, self.window, hop).amax(2)  # (1, frames)
        return frames[:, None, None, :].expand(1, *self.shape).clone()

    def example(self) -> Sound:
        return Sound(np.sin(np.arange(self.length, dtype=np.float32) * 0.3) / 2, self.rate)

    def rest(self, items: Items) -> NDArray[np.float32]:
        out = np.empty((len(items), *self.shape), np.float32)
        for place, item in enumerate(items):
            try:
                samples = self.shrink(item).samples
            except InvalidInput as error:
                raise InvalidInput(str(error), position=place) from None
            # One by one and in float64, so that a sound gives the same row alone as within any batch.
            bands = self._bands(torch.from_numpy(samples).double()[None])
            out[place] = self._decibels(bands / bands.max().clamp_min(_SILENT))[0].numpy()
        return out

    def to_tensor(self, data: NDArray[np.float32]) -> Tensor:
        return (torch.from_numpy(np.ascontiguousarray(data)) - self.mean.cpu()) / self.scale.cpu()

    def view(self, x: Tensor) -> Tensor:
        """Begun a little earlier or later, without a band of pitches and a moment, with a little noise."""
        return views.noise(views.mask_bands(views.shift(x, 0.1), 0.25), 0.1)

    def spoiled(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Spectrograms of the sounds with white noise on the waveform, up to as loud as the loudest band.

        Decibels of a sum are not the sum of decibels, so noise on the spectrogram would be another thing. The level is
        drawn here, whatever `sigma`. A band that averages over many frequencies sees the noise more evenly.
        """
        bands = self._magnitudes(x)  # (B, mels, frames)
        evenness = self._filters().to(bands).square().sum(1).sqrt()[:, None]  # (mels, 1)
        level = 10 ** (-(_FAINTEST_DB * torch.rand(len(x), 1, 1, device=x.device)) / 20)
        noise = level * (1 + 0.5 * evenness * torch.randn_like(bands)).clamp_min(0)
        noisy = (bands.square() + noise.square()).sqrt()
        loudest = noisy.amax((1, 2), keepdim=True)
        return (self._decibels(noisy / loudest)[:, None] - self.mean) / self.scale

    def restore(self, x: Tensor) -> list[Sound]:
        """Sounds as they would come back from a 16-bit file, so that sending one back means the same sound."""
        bands = _LOUDEST * self._magnitudes(x)
        magnitudes = unmel(bands, self._filters())
        samples = griffin_lim(magnitudes, self.window, random_phases(magnitudes)).numpy()
        peak = np.abs(samples).max(1, keepdims=True).clip(1)
        return [Sound(as_written(row), self.rate) for row in samples / peak]

    def restore_like(self, x: Tensor, item: Sound) -> Sound:
        """`item` with each of its mel bands made softer until its spectrogram is `x` `(1, *shape)`.

        What a band does not tell, its pitch and its phases, stays that of the item. No band is made louder: what is
        there below the noise cannot be told from the noise.
        """
        samples, spectra = self._known(item)
        bands = self._bands(samples.double())
        wanted = self._magnitudes(x.double()) * bands.max()
        gain = spread((wanted / bands.clamp_min(_SILENT)).clamp(max=1), self._filters())
        return Sound(as_written(synthesise(spectra * gain, self.window)[0].numpy()), self.rate)

    def spliced(self, x: Tensor, item: Sound, missing: NDArray[np.bool_]) -> Sound:
        """`shrink(item)` with the samples where `missing` `(length,)` made anew after the spectrogram `x`."""
        samples, spectra = self._known(item)
        touched = self.missing_frames(missing)[0, 0, :1] > 0  # (1, frames)
        magnitudes = self._as_loud(x, samples)
        magnitudes = torch.where(touched, magnitudes, spectra.abs())
        phases = torch.where(touched, random_phases(magnitudes), unit(spectra))
        made = griffin_lim(magnitudes, self.window, phases, known=samples, missing=torch.from_numpy(missing))
        return Sound(as_written(made[0].numpy()), self.rate)

    def _known(self, item: Sound) -> tuple[Tensor, Tensor]:
        """The samples `(1, length)` of an item and their spectra."""
        samples = torch.from_numpy(self.shrink(item).samples)[None]
        return samples, analyse(samples, self.window)

    def _as_loud(self, x: Tensor, samples: Tensor) -> Tensor:
        """Magnitudes `(1, bins, frames)` of the spectrogram `x`, whose 0 dB is the loudest band of `samples`."""
        return unmel(self._magnitudes(x) * float(self._bands(samples.double()).max()), self._filters())

    def spectrum(self, items: Items) -> Tensor:
        """Magnitudes of the mel bands `(n, mels, frames)` with the loudest of each at 1: what people would compare."""
        return self._magnitudes(self.tensor(items))

    def _filters(self) -> Tensor:
        return mel_filters(self.rate, self.window, self.mels)

    def _bands(self, samples: Tensor) -> Tensor:
        """`(B, length)` to the magnitudes of mel bands `(B, mels, frames)`."""
        return self._filters().to(samples) @ analyse(samples, self.window).abs()

    @staticmethod
    def _decibels(bands: Tensor) -> Tensor:
        return 20 * (bands + _FLOOR).log10()

    def _magnitudes(self, x: Tensor) -> Tensor:
        """`(B, *shape)` to the magnitudes of mel bands `(B, mels, frames)`, 1 at the loudest."""
        decibels = x.detach().squeeze(1) * self.scale.to(x) + self.mean.to(x)
        # A model may overshoot; 20 dB above the loudest is beyond any sound.
        return (10 ** (decibels.clamp(max=20) / 20) - _FLOOR).clamp_min(0)


def _cut(samples: NDArray[Any], start: int, length: int) -> NDArray[Any]:
    """`length` of `samples` from `start` on, with zeros where there are none."""
    out = np.zeros(length, samples.dtype)
    first, last = max(start, 0), min(len(samples), start + length)
    out[first - start : last - start] = samples[first:last]
    return out
