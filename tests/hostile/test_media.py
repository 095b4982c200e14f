"""Pictures and sounds made to be large, slow, odd, or something else. (reliability.md M1, M2)"""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from starlette.testclient import TestClient
from support import assert_problem

from models.errors import InputTooLarge, InvalidInput
from models.images import decode_image, encode_png
from models.sounds import Sound, decode_sound, encode_wav

FUZZ = Path(__file__).with_name("fuzz.py")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, rows: int | None = None, before: bytes = b"", after: bytes = b"") -> bytes:
    """A grey PNG of zeros, which takes a thousandth of what it stands for; `rows` of it are there."""
    made = zlib.compressobj(1)
    rows = height if rows is None else rows
    data = b"".join(made.compress(bytes(width + 1)) for _ in range(rows)) + made.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def saved(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


# -- bombs, in a process with little memory ------------------------------------------------------------------------

BOMBS: dict[str, Callable[[], bytes]] = {
    "13,000 squared": lambda: png(13_000, 13_000),
    "65,535 squared": lambda: png(65_535, 65_535, rows=100),
    "2^31 wide": lambda: png(2**31 - 1, 1, rows=0),
    "4 billion by 4 billion": lambda: png(2**32 - 1, 2**32 - 1, rows=0),
    "one line": lambda: png(1, 2**31 - 1, rows=10),
    "nothing": lambda: png(0, 0),
    "jpeg 65,500 squared": lambda: jpeg_of_size(65_500, 65_500),
    "webp 16,383 squared": lambda: webp_of_size(16_383, 16_383),
    "a hundred thousand frames": lambda: apng(100_000),
    "very much text": lambda: png(8, 8, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27), 1))),
    "very much colour profile": lambda: png(8, 8, before=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27), 1))),
    "a hundred thousand texts": lambda: png(8, 8, before=chunk(b"tEXt", b"a\0b") * 100_000),
    "as large as allowed": lambda: png(8_000, 5_000),
    "as large as allowed, 16 bits": lambda: deep_png(8_000, 5_000),
    "as large as allowed, transparent": lambda: transparent_png(8_000, 5_000),
    "an hour of silence": lambda: flac(3_600),
    "a sound of 2^36 samples": lambda: long_flac(2**36 - 1),
    "a wav that does not say how long it is": lambda: wav_that_says(2**32 - 1),
}


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("L", (8, 8)), format="JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("RGB", (8, 8)), format="WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little") & ~0xFFFFFFF | (width - 1) | (height - 1) << 14
    data[at : at + 4] = bits.to_bytes(4, "little")
    return bytes(data)


def apng(frames: int) -> bytes:
    control = [
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * n + 1, 8, 8, 0, 0, 1, 100, 0, 0))
        + chunk(b"fdAT", struct.pack(">I", 2 * n + 2) + zlib.compress(b"\0" * 72))
        for n in range(frames - 1)
    ]
    first = chunk(b"acTL", struct.pack(">II", frames, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 100, 0, 0)
    )
    return png(8, 8, before=first, after=b"".join(control))


def deep_png(width: int, height: int) -> bytes:
    return saved(Image.fromarray(np.full((height, width), 40_000, np.uint16)), format="PNG", compress_level=1)


def transparent_png(width: int, height: int) -> bytes:
    return saved(Image.new("LA", (width, height), (100, 128)), format="PNG", compress_level=1)


def flac(seconds: int) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.zeros(8_000 * seconds, np.int16), 8_000, format="FLAC")
    return out.getvalue()


def long_flac(frames: int) -> bytes:
    data = bytearray(flac(1))
    value = int.from_bytes(data[18:26], "big") >> 36 << 36 | frames
    data[18:26] = value.to_bytes(8, "big")
    return bytes(data)


def wav_that_says(size: int) -> bytes:
    data = bytearray(encode_wav(Sound(np.zeros(800, np.float32), 8_000)))
    data[40:44] = struct.pack("<I", size)
    return bytes(data)


ALLOWED = {"a wav that does not say how long it is", "a hundred thousand frames", "a hundred thousand texts"} | {
    name for name in BOMBS if "allowed" in name
}


def test_bombs_are_refused_by_what_their_head_says(tmp_path: Path) -> None:
    """M1: by their header, before anything is decoded; none takes more memory than the largest that is allowed."""
    for number, make in enumerate(BOMBS.values()):
        (tmp_path / str(number)).write_bytes(make())
    script = f"""
import sys; sys.path.insert(0, {str(FUZZ.parent)!r})
import json, time, fuzz
from pathlib import Path
fuzz.limit_memory(450_000_000)
fuzz.PIXELS, fuzz.SECONDS = 40_000_000, 300.0
for number in range({len(BOMBS)}):
    data = Path({str(tmp_path)!r}, str(number)).read_bytes()
    sound = data[:4] in (b"fLaC", b"RIFF") and b"WEBP" not in data[:16]
    started = time.process_time()
    print(json.dumps([fuzz.outcome(data, sound=sound), time.process_time() - started]), flush=True)
"""
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    outcomes = dict(zip(BOMBS, map(json.loads, child.stdout.splitlines()), strict=False))
    assert child.returncode == 0, (outcomes, child.stderr)
    for name, (what, seconds) in outcomes.items():
        assert (what == "decoded") == (name in ALLOWED), (name, what)
        assert seconds < 10, (name, seconds)


def test_a_bomb_sent_to_the_service_is_told_its_size(shared_client: TestClient) -> None:
    """M1"""
    body = {"collection": "digits", "query": {"image": base64.b64encode(png(13_000, 13_000)).decode()}}
    problem = assert_problem(shared_client.post("/search", json=body), 413, "too-large")
    assert "40,000,000" in problem["detail"]


# -- what is no picture, or another one ----------------------------------------------------------------------------


def others() -> dict[str, bytes]:
    plain = Image.new("RGB", (8, 8), "red")
    frames = [Image.new("P", (2, 2), number % 256) for number in range(200)]
    return {
        "gif": saved(frames[0], format="GIF", save_all=True, append_images=frames[1:]),
        "tiff": saved(plain, format="TIFF", save_all=True, append_images=[plain] * 20),
        "ico": saved(plain, format="ICO"),
        "bmp": saved(plain, format="BMP"),
        "eps": saved(plain, format="EPS"),
        "pdf": saved(plain, format="PDF"),
        "ppm": saved(plain, format="PPM"),
        "tga": saved(plain, format="TGA"),
        "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
        "avif": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(200),
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "html": b"<html><script>alert(1)</script></html>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        "fits": b"SIMPLE  =                    T".ljust(80) + b" " * 5_000,
        "zip": b"PK\x03\x04" + bytes(100),
        "pickle": b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        "nothing": b"",
        "one byte": b"\x89",
        "only the mark": b"\x89PNG\r\n\x1a\n",
        "zeros": bytes(1_000),
        "noise": random.Random(0).randbytes(10_000),
        "a sound": encode_wav(Sound(np.zeros(800, np.float32), 8_000)),
    }


@pytest.mark.parametrize("name", others())
def test_other_formats_are_refused_unopened(shared_client: TestClient, name: str) -> None:
    """M1, M2: by what the bytes are, whatever type or file name they are sent under."""
    data = others()[name]
    with pytest.raises(InvalidInput):
        decode_image(data)
    for file, kind in (("a.png", "image/png"), (f"a.{name}", "application/octet-stream"), ("a.jpg", "image/jpeg")):
        reply = shared_client.post("/ingest", data={"collection": "digits"}, files=[("files", (file, data, kind))])
        assert "not a PNG, JPEG or WebP" in str(assert_problem(reply, 422)) or "broken" in reply.text
    body = {"collection": "digits", "query": {"image": base64.b64encode(data).decode()}}
    assert_problem(shared_client.post("/search", json=body), 422)


def test_a_wrong_declared_type_changes_nothing(client: TestClient) -> None:
    """M2: a PNG said to be text, HTML or a JPEG is the PNG that it is."""
    data = encode_png(np.arange(64, dtype=np.uint8).reshape(8, 8, 1))
    codes = set()
    for name, kind in (("a.png", "image/png"), ("a.jpg", "image/jpeg"), ("a.txt", "text/plain"), ("a", "text/html")):
        reply = client.post("/ingest", data={"collection": "digits"}, files=[("files", (name, data, kind))])
        assert reply.status_code == 200, reply.text
        codes.add(client.get(f"/collections/digits/items/{name}").json()["code"])
    assert len(codes) == 1


def test_two_files_in_one_are_the_picture(client: TestClient) -> None:
    """M1: with a ZIP, a page or a program behind or inside it, it is decoded as the picture and kept as it came."""
    array = np.random.default_rng(1).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    inside = io.BytesIO()
    with zipfile.ZipFile(inside, "w") as archive:
        archive.writestr("x.py", "print('hello')")
    plain = encode_png(array)
    script = b"<script>alert(1)</script>"
    forms = [
        plain,
        plain + inside.getvalue(),
        plain + script,
        plain[:33] + chunk(b"tEXt", b"a\0" + script) + plain[33:],
    ]
    for data in forms:
        assert np.array_equal(decode_image(data), array)
    text = base64.b64encode(forms[1]).decode()
    item = {"id": "two", "image": text}
    assert client.post("/ingest", json={"collection": "digits", "items": [item]}).status_code == 200
    reply = client.get("/collections/digits/items/two")
    assert reply.json()["input"] == {"image": text}
    assert reply.headers["content-type"] == "application/json"
    with pytest.raises(InvalidInput):
        decode_image(inside.getvalue() + plain)


# -- what is odd and decoded right ---------------------------------------------------------------------------------


def test_odd_modes_are_decoded_right() -> None:
    """M1: CMYK, 16 bits, palettes, transparency, one bit: what anybody would see."""
    rng = np.random.default_rng(2)
    rgb = rng.integers(0, 255, (9, 7, 3)).astype(np.uint8)
    image = Image.fromarray(rgb)
    assert np.array_equal(decode_image(saved(image, format="PNG")), rgb)
    grey = np.asarray(image.convert("L"))[:, :, None]
    assert np.array_equal(decode_image(saved(image.convert("L"), format="PNG")), grey)
    bit = np.asarray(image.convert("1").convert("L"))[:, :, None]
    assert np.array_equal(decode_image(saved(image.convert("1"), format="PNG")), bit)
    deep = rng.integers(0, 65_536, (9, 7)).astype(np.uint16)
    assert np.array_equal(decode_image(saved(Image.fromarray(deep), format="PNG"))[:, :, 0], deep // 257)
    palette = image.quantize(16)
    assert np.array_equal(decode_image(saved(palette, format="PNG")), np.asarray(palette.convert("RGB")))
    # Half transparent black over the white of a page is grey; what is fully transparent is white.
    half = Image.new("RGBA", (3, 1), (0, 0, 0, 128))
    half.putpixel((1, 0), (50, 60, 70, 0))
    half.putpixel((2, 0), (50, 60, 70, 255))
    seen = decode_image(saved(half, format="PNG"))
    assert seen.tolist() == [[[127] * 3, [255] * 3, [50, 60, 70]]]
    see_through = Image.new("P", (2, 1))
    see_through.putpalette([10, 20, 30, 40, 50, 60])
    see_through.putpixel((1, 0), 1)
    seen = decode_image(saved(see_through, format="PNG", transparency=0))
    assert seen.tolist() == [[[255] * 3, [40, 50, 60]]]
    cmyk = saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), format="JPEG", quality=100)
    assert np.abs(decode_image(cmyk)[8, 8].astype(int) - [0, 255, 255]).max() < 12
    lossless = saved(image.convert("RGBA"), format="WEBP", lossless=True)
    assert np.array_equal(decode_image(lossless), rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_turned_picture_is_turned_back(orientation: int, kind: str) -> None:
    """M1: each of the eight orientations of EXIF, in every format; the corner with the mark comes back to its place."""
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = 255
    back = {  # how a camera must have stored it so that the viewer's turn makes it upright
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"PNG": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}}[kind]
    seen = decode_image(saved(Image.fromarray(np.ascontiguousarray(back)), format=kind, exif=exif, **options))
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).mean() < 3


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 10_000), (10_000, 1), (3, 4_000)])
def test_thin_pictures_have_a_code(shared_client: TestClient, width: int, height: int) -> None:
    """M1"""
    array = np.random.default_rng(3).integers(0, 255, (height, width, 3)).astype(np.uint8)
    for kind, options in (("PNG", {}), ("JPEG", {}), ("WEBP", {"lossless": True})):
        data = saved(Image.fromarray(array), format=kind, **options)
        assert decode_image(data).shape == (height, width, 3)
        body = {"model": "digits-hash", "inputs": [{"image": base64.b64encode(data).decode()}]}
        assert len(shared_client.post("/encode", json=body).json()["codes"][0]) == 16


def test_an_animation_is_its_first_picture() -> None:
    """M1: of an APNG or an animated WebP, however many follow."""
    first, then = Image.new("RGB", (8, 8), "red"), [Image.new("RGB", (8, 8), "blue")] * 50
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = saved(first, format=kind, save_all=True, append_images=then, **options)
        assert decode_image(data)[4, 4].tolist() == [255, 0, 0]


# -- broken --------------------------------------------------------------------------------------------------------


def test_pillow_does_not_fill_in_what_is_missing() -> None:
    """M2: cut anywhere, a file is refused; the switch that would let it pass is off."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    rng = np.random.default_rng(4)
    image = Image.fromarray(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8))
    for kind in ("PNG", "JPEG", "WEBP"):
        data = saved(image, format=kind)
        for size in range(0, int(len(data) * 0.95), 37):
            with pytest.raises(InvalidInput):
                decode_image(data[:size])


def test_a_palette_that_is_not_there(shared_client: TestClient) -> None:
    """M2: found by the mutants: numbers of colours without their table are no picture."""
    data = saved(Image.new("P", (16, 24), 5), format="PNG")
    at = data.index(b"PLTE")
    size = int.from_bytes(data[at - 4 : at], "big")
    without = data[: at - 4] + data[at + 8 + size :]
    with pytest.raises(InvalidInput, match="no table"):
        decode_image(without)
    body = {"collection": "digits", "query": {"image": base64.b64encode(without).decode()}}
    assert_problem(shared_client.post("/search", json=body), 422)


def test_sounds_that_are_broken() -> None:
    """M2: cut anywhere, with lengths that cannot be, without channels, of formats that hide in a WAV."""
    import soundfile

    whole = encode_wav(Sound(np.sin(np.arange(4_000) / 7).astype(np.float32), 8_000))
    for size in range(0, len(whole) - 2, 61):
        with pytest.raises(InvalidInput):
            decode_sound(whole[:size])
    out = io.BytesIO()
    soundfile.write(out, np.random.default_rng(0).normal(size=8_000) * 0.1, 8_000, format="FLAC")
    for size in range(0, len(out.getvalue()) - 200, 500):
        with pytest.raises(InvalidInput):
            decode_sound(out.getvalue()[:size])
    for at, value in (
        (22, b"\0\0"),
        (22, b"\xff\xff"),
        (24, bytes(4)),
        (24, b"\xff" * 4),
        (34, b"\0\0"),
        (20, b"\x55\0"),
    ):
        changed = bytearray(whole)
        changed[at : at + len(value)] = value
        with pytest.raises(InvalidInput):
            decode_sound(bytes(changed))
    for kind in ("OGG", "AIFF", "AU", "CAF", "RAW", "W64"):
        out = io.BytesIO()
        soundfile.write(out, np.zeros(800), 8_000, format=kind, subtype="PCM_16" if kind != "OGG" else "VORBIS")
        with pytest.raises(InvalidInput):
            decode_sound(out.getvalue())
    for bad in (np.nan, np.inf):
        out = io.BytesIO()
        soundfile.write(out, np.array([0.0, bad] * 400), 8_000, format="WAV", subtype="FLOAT")
        with pytest.raises(InvalidInput, match="finite"):
            decode_sound(out.getvalue())
    with pytest.raises(InputTooLarge):
        decode_sound(long_flac(2**36 - 1))


@pytest.mark.parametrize("seconds", [pytest.param(3, id="short"), pytest.param(600, id="long", marks=pytest.mark.slow)])
@pytest.mark.timeout(700)
def test_mutants_are_decoded_or_refused(seconds: int) -> None:
    """M2: ten minutes of broken pictures and sounds in a process of its own, which no fault of a C library ends."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201
    command = [sys.executable, "-W", "ignore", "-X", "faulthandler", str(FUZZ), str(seconds), str(seed)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, start_new_session=True)
    assert child.returncode == 0, (
        f"seed {seed} ended with {child.returncode}: {child.stdout[-5000:]}\n{child.stderr[-5000:]}"
    )
    done = json.loads(child.stdout)
    for what in ("picture decoded", "picture refused", "sound decoded", "sound refused"):
        assert done.get(what), done
