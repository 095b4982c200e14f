"""From samples to mel spectrograms and back.

Frames of `window` samples, Hann-weighted, a quarter of a window apart, so that n samples give n / hop frames exactly.
Back: magnitudes from mel bands by least squares without negative parts (multiplicative updates: Lee and Seung, NIPS
2000), then phases by the fast Griffin-Lim algorithm (Griffin and Lim, IEEE ASSP 1984; Perraudin, Balazs and
Sondergaard, WASPAA 2013), which alternates between the magnitudes asked for and the nearest spectrum that some signal
has. A magnitude of 1 is a sine of amplitude 1.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

_UNMEL_ROUNDS = 40
_PHASE_ROUNDS = 60
_MOMENTUM = 0.99
_TINY = 1e-9


def analyse(samples: Tensor, window: int) -> Tensor:
    """Spectra `(B, window / 2 + 1, frames)` of samples `(B, frames * window / 4)`; zeros lie before and after them."""
    hop = window // 4
    margin = (window - hop) // 2
    frames = functional.pad(samples, (margin, margin)).unfold(1, window, hop)  # (B, frames, window)
    weights = _hann(window, samples)
    return torch.fft.rfft(frames * weights, dim=2).mT / (weights.sum() / 2)


def synthesise(spectra: Tensor, window: int) -> Tensor:
    """The samples `(B, frames * window / 4)` whose spectra are nearest to `spectra` by least squares."""
    hop = window // 4
    margin = (window - hop) // 2
    weights = _hann(window, spectra.real)
    frames = torch.fft.irfft(spectra * (weights.sum() / 2), n=window, dim=1) * weights[:, None]  # (B, window, frames)
    length = (frames.shape[2] + 3) * hop
    square = weights.square()[None, :, None].expand(1, -1, frames.shape[2])

    def overlapped(parts: Tensor) -> Tensor:
        return functional.fold(parts, (1, length), (1, window), stride=(1, hop)).flatten(1)

    return (overlapped(frames) / overlapped(square).clamp_min(1e-3))[:, margin : length - margin]


@lru_cache(maxsize=32)
def mel_filters(rate: int, window: int, mels: int) -> Tensor:
    """Triangles `(mels, window / 2 + 1)` that overlap by half and are equally wide on the mel scale, each of sum 1."""
    bins = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
    edges = _hertz(torch.linspace(0, _mel(rate / 2), mels + 2, dtype=torch.float64))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return triangles / triangles.sum(1, keepdim=True).clamp_min(_TINY)


def resolves(rate: int, window: int, mels: int) -> bool:
    """Whether the lowest mel bands, the narrowest, are no nearer to each other than the window's frequencies."""
    return float(_hertz(torch.tensor(_mel(rate / 2) / (mels + 1)))) >= rate / window


def unmel(bands: Tensor, filters: Tensor) -> Tensor:
    """Magnitudes `(B, bins, frames)` whose mel bands are nearest to `bands` `(B, mels, frames)`."""
    filters = filters.to(bands)
    wanted = filters.T @ bands  # (B, bins, frames)
    out = spread(bands, filters)
    for _ in range(_UNMEL_ROUNDS):
        out = out * wanted / (filters.T @ (filters @ out)).clamp_min(_TINY)
    return out


def spread(bands: Tensor, filters: Tensor) -> Tensor:
    """Numbers `(B, mels, frames)` of mel bands for each frequency `(B, bins, frames)`: the mean of those it is in."""
    filters = filters.to(bands)
    return (filters.T @ bands) / filters.sum(0)[:, None].clamp_min(_TINY)


def griffin_lim(
    magnitudes: Tensor, window: int, phases: Tensor, *, known: Tensor | None = None, missing: Tensor | None = None
) -> Tensor:
    """Samples `(B, n)` with about the given magnitudes `(B, bins, frames)`, searched for from `phases` (unit complex).

    Where `missing` `(n,)` is False the samples are those of `known` `(B, n)`, and the rest is made to fit them.
    """

    def signal(spectra: Tensor) -> Tensor:
        samples = synthesise(spectra, window)
        return samples if known is None or missing is None else torch.where(missing, samples, known)

    spectra = magnitudes * phases
    before = torch.zeros_like(spectra)
    for _ in range(_PHASE_ROUNDS):
        possible = analyse(signal(spectra), window)
        ahead = possible + _MOMENTUM * (possible - before)
        spectra, before = magnitudes * unit(ahead), possible
    return signal(spectra)


def unit(spectra: Tensor) -> Tensor:
    """The phases of `spectra` as numbers of modulus 1."""
    return spectra / spectra.abs().clamp_min(_TINY)


def random_phases(like: Tensor) -> Tensor:
    """Phases drawn once and for all, the same for every item of `like` `(B, bins, frames)`."""
    generator = torch.Generator().manual_seed(0)
    angles = 2 * math.pi * torch.rand(like.shape[1:], generator=generator, dtype=torch.float64)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex(like[:0], like[:0]).dtype).expand_as(like)


def convergence(magnitudes: Tensor, wanted: Tensor) -> Tensor:
    """Spectral convergence `(B,)`: the distance of `magnitudes` from those `wanted`, over the norm of the latter."""
    return (magnitudes - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1).clamp_min(_TINY)


def _hann(window: int, like: Tensor) -> Tensor:
    return torch.hann_window(window, dtype=like.dtype, device=like.device)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
