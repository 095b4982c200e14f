"""Sounds in and out: the only file that knows libsndfile.

A sound in memory is mono float32 samples with their rate. Only WAV (uncompressed) and FLAC are decoded, and only after
the header has shown that the sound fits the limits: a few kilobytes of FLAC can stand for hours of silence.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputTooLarge, InvalidInput

SUFFIXES = (".wav", ".flac")
MAX_SECONDS = 300.0
"""Five minutes of stereo at 48 kHz are 115 MB decoded; what a model looks at is seconds."""
MIN_RATE, MAX_RATE = 1_000, 192_000
MAX_CHANNELS = 8
_VALUES_A_SECOND = 2 * 48_000
"""A second of sound counts as so many values at most: what has more channels or a higher rate must be shorter."""
_PLAIN = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
"""What a WAV or FLAC file may hold; a WAV can also be a shell around MP3 and telephone codecs."""
_FULL_SCALE = 32_768
_STREAMED = 0xFFFFFFFF
"""The length that a WAV states whose writer could not go back to fill it in."""
_MOST_PHASES = 1_000


@dataclass(frozen=True, eq=False)
class Sound:
    """Mono samples `(n,)` float32, 1 at full scale, and how many there are in a second."""

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def decode_sound(data: bytes, *, max_seconds: float = MAX_SECONDS) -> Sound:
    """The sound encoded in `data`, its channels averaged.

    Raises `InvalidInput` for anything but a whole WAV or FLAC, `InputTooLarge` beyond `max_seconds`.
    """
    if not _is_sound(data):
        raise InvalidInput("the bytes are not a WAV or FLAC sound")
    soundfile = _library()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            frames, rate = _checked(file, data, max_seconds)
            samples = file.read(frames, dtype="float32", always_2d=True)  # (frames, channels)
    except soundfile.LibsndfileError as error:
        raise InvalidInput(f"the sound is broken: {error.error_string}") from None
    if len(samples) < frames:
        raise InvalidInput(f"the sound is broken: its header says {frames:,} samples, {len(samples):,} are there")
    if not np.isfinite(samples).all():
        raise InvalidInput("the sound holds samples that are not finite numbers")
    return Sound(samples.mean(axis=1, dtype=np.float64).astype(np.float32), rate)


def sound_seconds(data: bytes) -> float:
    """How long the sound is by the header of `data`; 0 where it is no sound, which decoding will say."""
    if not _is_sound(data):
        return 0.0
    soundfile = _library()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            return float(file.frames / max(file.samplerate, 1))
    except soundfile.LibsndfileError:
        return 0.0


def read_sound(path: Path) -> Sound:
    """The sound in the file `path`."""
    try:
        return decode_sound(path.read_bytes())
    except InvalidInput as error:
        raise type(error)(f"{path}: {error}") from None


def encode_wav(sound: Sound) -> bytes:
    """`sound` as the bytes of a WAV file of 16 bits a sample. What is beyond full scale is clipped."""
    out = io.BytesIO()
    _library().write(out, to_16_bit(sound.samples), sound.rate, format="WAV", subtype="PCM_16")
    return out.getvalue()


def to_16_bit(samples: NDArray[Any]) -> NDArray[np.int16]:
    """The nearest 16-bit values: reading them back gives multiples of 1 / 32,768."""
    scaled = np.round(np.asarray(samples, np.float64) * _FULL_SCALE)
    return scaled.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def as_written(samples: NDArray[Any]) -> NDArray[np.float32]:
    """The samples as they come back from a 16-bit file."""
    return to_16_bit(samples).astype(np.float32) / np.float32(_FULL_SCALE)


def resample(samples: NDArray[Any], rate: int, wanted: int) -> NDArray[np.float64]:
    """`samples` taken at `rate` as if they had been taken at `wanted`, what that cannot hold filtered out.

    The ratio is rounded to a fraction below a thousandth, exact for all the usual rates: a filter grows with it, and
    two large primes would make one of millions of taps.
    """
    samples = np.asarray(samples, np.float64)
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly  # here, as it is slow to import and only sounds need it

    ratio = Fraction(wanted, rate).limit_denominator(_MOST_PHASES)
    out: NDArray[np.float64] = resample_poly(samples, ratio.numerator, ratio.denominator)
    return out


def _library() -> Any:
    import soundfile  # here, as it loads a C library that only sounds need

    return soundfile


def _is_sound(data: bytes) -> bool:
    """By the first bytes, so that libsndfile's readers for thirty other formats are never reached."""
    return (data[:4] == b"RIFF" and data[8:12] == b"WAVE") or data[:4] == b"fLaC"


def _checked(file: Any, data: bytes, max_seconds: float) -> tuple[int, int]:
    """Frames and rate, once the header shows a sound that is whole, plain and within the limits."""
    frames, rate = int(file.frames), int(file.samplerate)
    if file.subtype not in _PLAIN:
        raise InvalidInput(f"the sound is compressed as {file.subtype}; send plain PCM in WAV, or FLAC")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InvalidInput(f"the sound has {rate:,} samples a second; from {MIN_RATE:,} to {MAX_RATE:,} can be taken")
    if file.channels > MAX_CHANNELS:
        raise InputTooLarge(f"the sound has {file.channels} channels, the limit is {MAX_CHANNELS}; send it as mono")
    if frames == 0:
        raise InvalidInput("the sound is empty")
    if frames > max_seconds * rate or frames * file.channels > max_seconds * _VALUES_A_SECOND:
        raise InputTooLarge(
            f"the sound lasts {frames / rate:,.1f} s by its header, at {rate:,} Hz with {file.channels} channels; the "
            f"limit is {max_seconds:,g} s of stereo at 48,000 Hz (max_audio_seconds); send a part of it"
        )
    if data[:4] == b"RIFF":
        (stated,) = struct.unpack("<I", data[4:8])
        if stated != _STREAMED and stated + 8 > len(data):
            raise InvalidInput(f"the sound is broken: its header says {stated + 8:,} bytes, {len(data):,} are there")
    return frames, rate
