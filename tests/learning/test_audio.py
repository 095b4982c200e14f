"""Sounds: files in and out, resampling, spectrograms and back, and what is refused."""

from __future__ import annotations

import io
import struct
import time
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from models.data import load
from models.errors import ArtefactDamaged, DataError, InputTooLarge, InvalidInput
from models.inputs import AudioInput
from models.sounds import Sound, as_written, decode_sound, encode_wav, resample, sound_seconds
from models.specs import input_from_config
from models.spectrogram import analyse, convergence, mel_filters, resolves, synthesise, unmel
from models.synthetic import tones

RATE = 8_000


def sine(hertz: float, seconds: float = 0.5, rate: int = RATE, amplitude: float = 0.5) -> Sound:
    t = np.arange(round(seconds * rate)) / rate
    return Sound(as_written(amplitude * np.sin(2 * np.pi * hertz * t)), rate)


def written(samples: Any, rate: int = RATE, format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=format, subtype=subtype)
    return out.getvalue()


def pitch(sound: Sound) -> float:
    """The loudest frequency, to a fraction of a hertz."""
    spectrum = np.abs(np.fft.rfft(sound.samples * np.hanning(len(sound.samples)), 1 << 18))
    return float(spectrum.argmax() * sound.rate / (1 << 18))


@pytest.fixture(scope="module")
def melodies() -> list[Sound]:
    return tones.melodies(60)[0]


@pytest.fixture(scope="module")
def spec(melodies: list[Sound]) -> AudioInput:
    return AudioInput.fit(melodies)


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "subtype", "within"),
    [
        ("WAV", "PCM_16", 0),
        ("FLAC", "PCM_16", 0),
        ("WAV", "PCM_24", 0),
        ("FLAC", "PCM_24", 0),
        ("WAV", "FLOAT", 0),
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "ULAW", 2**-5),
        ("WAVEX", "PCM_16", 0),
    ],
)
def test_a_file_holds_the_samples_that_were_written(format: str, subtype: str, within: float) -> None:
    sound = sine(440)
    back = decode_sound(written(sound.samples, format=format, subtype=subtype))
    assert back.rate == RATE
    assert back.samples.dtype == np.float32
    assert np.abs(back.samples - sound.samples).max() <= within


def test_wav_out_and_in_is_exact_and_clips() -> None:
    rng = np.random.default_rng(0)
    sound = Sound(as_written(rng.uniform(-1.2, 1.2, 1000)), 44_100)
    assert np.abs(sound.samples).max() <= 1
    data = encode_wav(sound)
    back = decode_sound(data)
    assert back.rate == 44_100
    assert np.array_equal(back.samples, sound.samples)
    assert encode_wav(back) == data
    assert sound_seconds(data) == pytest.approx(sound.seconds)


def test_channels_are_averaged() -> None:
    left, right = sine(300).samples, sine(700).samples
    back = decode_sound(written(np.stack([left, right], 1)))
    assert np.allclose(back.samples, (left + right) / 2, atol=1e-6)


WHOLE = encode_wav(sine(440))
LONG = written(np.zeros(RATE * 400, np.int16), format="FLAC")


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        (b"", InvalidInput, "not a WAV or FLAC"),
        (b"RIFF", InvalidInput, "not a WAV or FLAC"),
        (b"ID3\x04 and an MP3", InvalidInput, "not a WAV or FLAC"),
        (b"fLaC" + bytes(50), InvalidInput, "broken"),
        (b"RIFF\xff\xff\xff\xffWAVE" + b"\xff" * 60, InvalidInput, "broken"),
        (WHOLE[: len(WHOLE) // 2], InvalidInput, "broken"),
        (written(sine(440).samples, format="FLAC")[:200], InvalidInput, "broken"),
        (encode_wav(Sound(np.zeros(0, np.float32), RATE)), InvalidInput, "empty"),
        (written(sine(440).samples, rate=500), InvalidInput, "500 samples a second"),
        (WHOLE[:24] + struct.pack("<II", 2**31 - 1, 2**32 - 2) + WHOLE[32:], InvalidInput, "samples a second"),
        (written(np.array([0, np.nan, 0]), subtype="FLOAT"), InvalidInput, "not finite"),
        (written(np.array([0, np.inf, 0]), subtype="DOUBLE"), InvalidInput, "not finite"),
        (written(np.array([0, 1e300, 0]), subtype="DOUBLE"), InvalidInput, "not finite"),
        (written(sine(440).samples, subtype="IMA_ADPCM"), InvalidInput, "compressed as IMA_ADPCM"),
        (LONG, InputTooLarge, "lasts 400.0 s"),
        (written(np.zeros((100, 9))), InputTooLarge, "9 channels"),
        (written(np.zeros((190_000, 6)), rate=190_000, format="FLAC"), None, ""),
    ],
    ids=range(17),
)
def test_files_that_are_refused(data: bytes, error: type[Exception] | None, why: str) -> None:
    assert len(data) < 2_000_000
    if error is None:
        decode_sound(data)  # a second of six channels at a high rate
        with pytest.raises(InputTooLarge, match="6 channels"):
            decode_sound(data, max_seconds=2)  # which counts as more than two
        return
    with pytest.raises(error, match=why):
        decode_sound(data)


def test_a_small_file_of_hours_is_refused_before_it_is_decoded() -> None:
    assert len(LONG) < 50_000
    header = bytearray(LONG)
    header[21] |= 0x0F  # the length in STREAMINFO: 36 bits, of which these are the highest
    header[22:26] = b"\xff\xff\xff\xff"
    started = time.monotonic()
    for data in (LONG, bytes(header)):
        with pytest.raises(InputTooLarge):
            decode_sound(data)
        assert sound_seconds(data) >= 400
    assert time.monotonic() - started < 0.5


# -- resampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050, 44_100, 48_000, 47_999, 191_999])
def test_resampling_keeps_pitch_level_and_length(rate: int) -> None:
    out = Sound(resample(sine(440, 1.0, rate).samples, rate, RATE).astype(np.float32), RATE)
    assert len(out.samples) == pytest.approx(RATE, rel=2e-3)
    assert pitch(out) == pytest.approx(440, rel=2e-3)
    assert np.abs(out.samples[500:-500]).max() == pytest.approx(0.5, rel=0.02)


def test_resampling_filters_out_what_the_lower_rate_cannot_hold() -> None:
    out = resample(sine(6_000, 0.5, 44_100).samples, 44_100, RATE)
    assert np.abs(out[200:-200]).max() < 0.01


# -- spectrograms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [256, 704, 2048])
def test_synthesis_undoes_analysis(window: int) -> None:
    samples = torch.randn(2, 8 * window, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spectra = analyse(samples, window)
    assert spectra.shape == (2, window // 2 + 1, 32)
    assert torch.allclose(synthesise(spectra, window), samples, atol=1e-9)


def test_a_magnitude_is_an_amplitude() -> None:
    samples = torch.from_numpy(sine(1000, amplitude=0.3).samples)[None, :3968]
    peak = analyse(samples, 512).abs()[0, :, 10].max()
    assert float(peak) == pytest.approx(0.3, rel=0.02)


def test_mel_bands_are_inverted_without_negative_magnitudes() -> None:
    filters = mel_filters(RATE, 512, 40)
    assert torch.allclose(filters.sum(1), torch.ones(40, dtype=torch.float64))
    magnitudes = torch.rand(1, 257, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 8
    bands = filters @ magnitudes
    back = unmel(bands, filters)
    assert float(back.min()) >= 0
    assert float(convergence(filters @ back, bands)) < 0.02
    assert not resolves(RATE, 64, 40)


@pytest.mark.parametrize("hertz", [220.0, 523.0, 1200.0])
def test_a_tone_comes_back_with_its_pitch(spec: AudioInput, hertz: float) -> None:
    tone = sine(hertz, spec.length / spec.rate, spec.rate)
    x = spec.tensor([tone])
    for back in (spec.restore(x)[0], spec.restore_like(x, tone)):
        # Bands are 24 to 100 Hz apart; where between them the pitch lies is told by how loud each of two is.
        assert pitch(back) == pytest.approx(hertz, abs=15)
        assert float(convergence(spec.spectrum([back]), spec.spectrum([tone]))) < 0.15
    assert np.allclose(spec.restore_like(x, tone).samples, tone.samples, atol=0.01)


def test_sounds_come_back_with_their_spectrograms(spec: AudioInput, melodies: list[Sound]) -> None:
    x = spec.tensor(melodies[:8])
    back = spec.restore(x)
    assert float(convergence(spec.spectrum(back), spec.spectrum(melodies[:8])).max()) < 0.15
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(back, spec.restore(x), strict=True))
    # What is given out is what a file of it holds, and the model takes it as it is.
    files = [decode_sound(encode_wav(sound)) for sound in back]
    assert torch.equal(spec.tensor(files), spec.tensor(back))
    assert all(np.array_equal(spec.shrink(sound).samples, sound.samples) for sound in back)


def test_loudness_and_silence_around_do_not_matter(spec: AudioInput, melodies: list[Sound]) -> None:
    part = melodies[0].samples[:3000]
    quiet = Sound(np.concatenate([np.zeros(900, np.float32), part * 0.01, np.zeros(50, np.float32)]), spec.rate)
    assert torch.allclose(spec.tensor([Sound(part, spec.rate)]), spec.tensor([quiet]), atol=1e-3)


def test_a_silent_sound_has_a_tensor_and_comes_back_silent(spec: AudioInput) -> None:
    silence = Sound(np.zeros(100, np.float32), 22_050)
    x = spec.tensor([silence])
    assert torch.isfinite(x).all()
    assert np.abs(spec.restore(x)[0].samples).max() == 0
    assert np.abs(spec.restore_like(x, silence).samples).max() == 0


@pytest.mark.parametrize("rate", [4_000, 16_000])
def test_what_is_spliced_changes_missing_samples_only(spec: AudioInput, melodies: list[Sound], rate: int) -> None:
    original = Sound(as_written(resample(melodies[0].samples, spec.rate, rate)), rate)
    mask = np.zeros(len(original.samples))
    mask[len(mask) // 4 : len(mask) // 3] = 1
    spoiled = Sound(np.where(mask > 0, 0, original.samples).astype(np.float32), rate)
    missing = spec.missing(spoiled, mask)
    assert 341 <= missing.sum() <= 341 + 45
    # The spectrogram of the whole stands in for what a perfect model would fill in.
    out = spec.spliced(spec.tensor([original]), spoiled, missing)
    kept = as_written(spec.shrink(spoiled).samples)
    assert np.array_equal(out.samples[~missing], kept[~missing])
    assert np.abs(out.samples[missing]).max() > 0.05
    whole = spec.spectrum([original])
    assert float(convergence(spec.spectrum([out]), whole)) < 0.6 * float(convergence(spec.spectrum([spoiled]), whole))
    touched = spec.missing_frames(missing)
    assert touched.shape == (1, *spec.shape)
    assert 5 <= touched[0, 0, 0].sum() <= 11


def test_a_fitted_input_suits_its_sounds() -> None:
    rng = np.random.default_rng(0)

    def clips(rate: int, seconds: float) -> list[Sound]:
        return [Sound(rng.normal(size=round(rate * seconds)).astype(np.float32) / 9, rate) for _ in range(5)]

    speech = AudioInput.fit(clips(8_000, 0.6))
    assert (speech.rate, speech.window, speech.shape) == (8_000, 512, (1, 40, 40))
    music = AudioInput.fit(clips(44_100, 5))
    assert (music.rate, music.shape[2]) == (16_000, 128)
    assert music.length / music.rate == pytest.approx(5, rel=0.02)
    assert AudioInput.fit(clips(11_025, 0.01)).shape == (1, 40, 8)
    low = AudioInput.fit(clips(1_000, 1))
    assert low.mels % 8 == 0
    assert low.mels < 40, "a window cannot resolve more"
    for spec in (speech, music, low):
        assert input_from_config(spec.config()).config() == spec.config()
        assert np.isfinite(spec.tensor([spec.example()]).numpy()).all()
        assert spec.tensor(clips(22_050, 0.3)).shape == (5, *spec.shape)
    with pytest.raises(DataError, match="silent"):
        AudioInput.fit([Sound(np.zeros(800, np.float32), 8_000)] * 3)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Sound(np.zeros(0, np.float32), 4_000), "empty"),
        (Sound(np.array([0, np.nan], np.float32), 4_000), "not finite"),
        (Sound(np.array([0, np.inf], np.float32), 44_100), "not finite"),
        (Sound(np.zeros(9, np.float32), 10**9), "samples a second"),
        (Sound(np.zeros((9, 2), np.float32), 4_000), "mono"),
    ],
)
def test_bad_sounds_are_named_by_their_position(spec: AudioInput, bad: Sound, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        spec.rest([sine(440), sine(300), bad])
    assert caught.value.position == 2


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0}, {"rate": 10**9}, {"rate": "8000"}, {"rate": 8000.0}, {"rate": True}, {"window": 2**40},
        {"window": 100}, {"window": 8}, {"window": None}, {"mels": 0}, {"mels": 10**6}, {"mels": 128, "window": 64},
        {"frames": 0}, {"frames": 10**9}, {"frames": -8}, {"kind": "sound"},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_lies_is_refused(change: dict[str, Any]) -> None:
    config = {"kind": "audio", "rate": 8_000, "window": 512, "mels": 40, "frames": 48}
    assert input_from_config(config).shape == (1, 40, 48)
    with pytest.raises(ArtefactDamaged):
        input_from_config(config | change)


# -- melodies --------------------------------------------------------------------------------------------------------


def test_melodies_are_what_their_payload_says() -> None:
    data = load("tones")
    assert (data.kind, len(data)) == ("audio", 1000)
    assert set(data.labels or ()) == set(tones.TIMBRES)
    assert data.payloads is not None
    for place in range(20):
        notes = np.array(data.payloads[place]["notes"])
        assert data.labels is not None
        made = tones.melody(notes, data.labels[place])
        assert np.array_equal(made.samples, data.items[place].samples)
        assert (made.rate, len(made.samples)) == (4_000, 4_096)
        for note, part in zip(notes, made.samples.reshape(8, -1), strict=True):
            assert pitch(Sound(part, made.rate)) == pytest.approx(tones.FREQUENCIES[note], rel=0.02)


def test_melodies_follow_their_chain() -> None:
    chain = tones.transitions()
    assert np.allclose(chain.sum(1), 1)
    assert (chain > 0).all()
    counts = np.zeros((8, 8))
    for payload in load("tones").payloads or ():
        np.add.at(counts, (payload["notes"][:-1], payload["notes"][1:]), 1)
    assert np.abs(counts / counts.sum(1, keepdims=True) - chain).max() < 0.06
