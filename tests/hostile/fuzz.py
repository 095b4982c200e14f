"""Broken pictures and sounds by the thousand, in a process of its own with little memory. (reliability.md M1, M2)

    python tests/hostile/fuzz.py SECONDS SEED    prints what it did as JSON; exit code 1 where something else came out

Every mutant must decode, or be refused with `InvalidInput`; any other exception, or end of the process, is a defect.
"""

from __future__ import annotations

import io
import json
import random
import resource
import sys
import time
import traceback
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from models.errors import InputTooLarge, InvalidInput
from models.images import decode_image, image_size
from models.sounds import Sound, decode_sound, encode_wav, sound_seconds

MEMORY = 700_000_000
"""Beyond what the libraries take themselves: a picture of 40 million pixels is 120 MB, in up to four steps of work."""
PIXELS = 4_000_000
SECONDS = 20.0


def limit_memory(extra: int = MEMORY) -> None:
    """Let this process have `extra` bytes more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def pictures() -> list[bytes]:
    """Small pictures of every format, mode and option that is written differently."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (24, 16, 3)).astype(np.uint8))
    found = []

    def save(image: Image.Image, **options: object) -> None:
        out = io.BytesIO()
        image.save(out, **options)
        found.append(out.getvalue())

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = (
            Image.fromarray(rng.integers(0, 65_535, (24, 16)).astype(np.uint16))
            if mode == "I;16"
            else noise.convert(mode)
        )
        save(image, format="PNG")
    save(noise.convert("P"), format="PNG", transparency=3)
    save(noise, format="PNG", save_all=True, append_images=[noise.rotate(90, expand=False)] * 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for options in (
        {},
        {"progressive": True},
        {"exif": exif},
        {"quality": 5},
        {"icc_profile": b"x" * 200},
        {"restart_marker_rows": 1},
    ):
        save(noise, format="JPEG", **options)
    save(noise.convert("CMYK"), format="JPEG")
    save(noise.convert("L"), format="JPEG")
    for options in (
        {},
        {"lossless": True},
        {"save_all": True, "append_images": [noise.rotate(180)] * 3},
        {"exif": exif},
    ):
        save(noise, format="WEBP", **options)
    save(noise.convert("RGBA"), format="WEBP", lossless=True)
    return found


def sounds() -> list[bytes]:
    """Short sounds of every kind that is taken."""
    import soundfile

    samples = np.sin(np.arange(800) / 9).astype(np.float32) * 0.5
    found = [encode_wav(Sound(samples, 8_000))]
    for kind, subtypes in (("WAV", ("PCM_U8", "PCM_24", "FLOAT", "ULAW")), ("FLAC", ("PCM_16", "PCM_24"))):
        for subtype in subtypes:
            for shape in (samples, np.stack([samples, -samples], axis=1)):
                out = io.BytesIO()
                soundfile.write(out, shape, 8_000, format=kind, subtype=subtype)
                found.append(out.getvalue())
    return found


def mutant(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`data` with a few bytes changed, cut out, doubled, replaced by extremes, or taken from another file."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8, 40])):
        at = rng.randrange(len(out)) if out else 0
        # Headers decide what is done with the rest, so they are hit as often as all that follows.
        at = min(at, rng.choice([at, at, 64, 200]))
        size = rng.choice([1, 1, 2, 4, 4, 30])
        kind = rng.randrange(7)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            out[at : at + size] = rng.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * size
        elif kind == 3:
            del out[at : at + size]
        elif kind == 4:
            out[at:at] = out[at : at + size] * rng.choice([1, 2, 100])
        elif kind == 5:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            out[at : at + size] = other[start : start + rng.choice([size, 200])]
        else:
            del out[rng.randrange(len(out) + 1) :]
    return bytes(out)


def repaired(data: bytes) -> bytes:
    """A PNG with the sums of its chunks made right, so that what is behind them is reached."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        size = int.from_bytes(out[at : at + 4], "big")
        if at + 12 + size > len(out):
            break
        out[at + 8 + size : at + 12 + size] = zlib.crc32(out[at + 4 : at + 8 + size]).to_bytes(4, "big")
        at += 12 + size
    return bytes(out)


def outcome(data: bytes, *, sound: bool) -> str:
    """What became of `data`."""
    try:
        if sound:
            sound_seconds(data)
            samples = decode_sound(data, max_seconds=SECONDS).samples
            assert samples.dtype == np.float32 and np.isfinite(samples).all() and len(samples) > 0  # noqa: PT018
        else:
            width, height = image_size(data)
            picture = decode_image(data, max_pixels=PIXELS)
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] in (1, 3)  # noqa: PT018
            assert picture.size <= 3 * PIXELS
            assert {width, height} == {*picture.shape[:2]}
    except InputTooLarge:
        return "too large"
    except InvalidInput:
        return "refused"
    return "decoded"


def main(seconds: str, seed: str) -> int:
    rng = random.Random(int(seed))
    kinds = {"picture": pictures(), "sound": sounds()}
    assert {outcome(data, sound=name == "sound") for name, files in kinds.items() for data in files} == {"decoded"}
    limit_memory()
    done: Counter[str] = Counter()
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        name = rng.choice(list(kinds))
        data = mutant(rng.choice(kinds[name]), kinds[name], rng)
        if data[:4] == b"\x89PNG" and rng.random() < 0.8:
            data = repaired(data)
        try:
            done[f"{name} {outcome(data, sound=name == 'sound')}"] += 1
        except Exception:
            print(f"seed {seed}: {data.hex()}\n{traceback.format_exc()}")  # noqa: T201
            return 1
    print(json.dumps(done))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
