"""Pictures in and out: the only file that knows Pillow.

An image in memory is `(height, width, channels)` uint8 with 1 channel (grey) or 3 (RGB). Only PNG, JPEG and WebP
are decoded, and only after the header has shown that the picture fits the pixel budget.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from .errors import InputTooLarge, InvalidInput

Picture = NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_PIXELS = 40_000_000
"""Decoded as RGB this is 120 MB; every phone camera's pictures fit."""

_STRIP_PIXELS = 1_000_000


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture encoded in `data`, upright, without transparency.

    Raises `InvalidInput` for anything but a whole PNG, JPEG or WebP, `InputTooLarge` beyond `max_pixels`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise InputTooLarge(
                    f"the image has {width} x {height} = {width * height:,} pixels, the limit is {max_pixels:,} "
                    "(max_image_pixels); send it smaller"
                )
            image.load()
            if image.mode in ("P", "PA") and image.palette is None:
                raise InvalidInput("the image is broken: it has colours by number and no table of them")
            ImageOps.exif_transpose(image, in_place=True)  # else it makes a copy even of what is upright
            return _to_array(image)
    except UnidentifiedImageError:
        raise InvalidInput("the bytes are not a PNG, JPEG or WebP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputTooLarge(
            f"the image has far more pixels than the limit of {max_pixels:,} (max_image_pixels); send it smaller"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for broken files
        raise InvalidInput(f"the image is broken: {error}") from None


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height that the header of `data` states; (0, 0) where it is no image, which decoding will say."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, OSError, SyntaxError, ValueError, EOFError):
        return 0, 0


def _to_array(image: Image.Image) -> Picture:
    if image.mode.startswith("I;16") or image.mode == "I":  # 16-bit grey, which convert("L") would clip
        deep = np.asarray(image)
        deep = deep if deep.dtype.itemsize == 2 else deep.clip(0, 65_535)
        return (deep // 257).astype(np.uint8)[:, :, None]
    if image.has_transparency_data:
        return _on_white(image)
    grey = image.mode in ("1", "L")
    array = np.asarray(image.convert("L" if grey else "RGB"))
    return array[:, :, None] if grey else array


def _on_white(image: Image.Image) -> Picture:
    """A picture with transparent parts as it looks on white; in strips: Pillow takes 4 bytes a pixel at each step."""
    width, height = image.size
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        out[top : top + rows] = np.asarray(Image.alpha_composite(white, strip).convert("RGB"))
    return out


def read_image(path: Path) -> Picture:
    """The picture in the file `path`."""
    try:
        return decode_image(path.read_bytes())
    except InvalidInput as error:
        raise type(error)(f"{path}: {error}") from None


def fit_image(picture: Picture, height: int, width: int, channels: int) -> Picture:
    """The whole picture resized to `(height, width, channels)`, averaging where it shrinks."""
    if picture.shape[2] != channels:
        mode = "RGB" if channels == 3 else "L"
        picture = np.asarray(_image(picture).convert(mode)).reshape(*picture.shape[:2], channels)
    if picture.shape[:2] == (height, width):
        return picture
    resized = _image(picture).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(height, width, channels)


def encode_png(picture: Picture) -> bytes:
    """`picture` as the bytes of a PNG file."""
    out = io.BytesIO()
    _image(picture).save(out, format="PNG")
    return out.getvalue()


def contact_sheet(pictures: Sequence[Picture], *, tile: int = 64, gap: int = 4) -> Picture:
    """All `pictures` on one sheet as square as can be, each enlarged to at least `tile` pixels a side."""
    height, width, channels = pictures[0].shape
    scale = max(1, -(-tile // max(height, width)))
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    step_y, step_x = height * scale + gap, width * scale + gap
    sheet = np.full((rows * step_y + gap, columns * step_x + gap, channels), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = gap + place // columns * step_y, gap + place % columns * step_x
        sheet[top : top + height * scale, left : left + width * scale] = picture.repeat(scale, 0).repeat(scale, 1)
    return sheet


def labelled_sheet(rows: Sequence[tuple[str, Sequence[Picture]]], *, tile: int = 48, gap: int = 3) -> Picture:
    """Rows of pictures of one size under each other, each with its title on the left, as one RGB picture."""
    height, width, _ = rows[0][1][0].shape
    scale = max(1, -(-tile // max(height, width)))
    step_y, step_x = height * scale + gap, width * scale + gap
    left = gap + 8 * max(len(title) for title, _ in rows)
    columns = max(len(pictures) for _, pictures in rows)
    sheet = Image.new("RGB", (left + columns * step_x, gap + len(rows) * step_y), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (title, pictures) in enumerate(rows):
        draw.text((gap, gap + row * step_y + height * scale // 2 - 6), title, fill="black")
        for column, picture in enumerate(pictures):
            enlarged = picture.repeat(scale, 0).repeat(scale, 1)
            sheet.paste(_image(enlarged).convert("RGB"), (left + column * step_x, gap + row * step_y))
    return np.asarray(sheet)


def captioned_sheet(cells: Sequence[tuple[Picture | None, str]], *, tile: int = 128, gap: int = 8) -> Picture:
    """Pictures of any sizes on one RGB sheet, each within a square of `tile` pixels over its caption.

    In place of a picture that is None its square stays grey.
    """
    columns = min(len(cells), max(4, int(np.ceil(np.sqrt(len(cells))))))
    rows = -(-len(cells) // columns)
    step_x, step_y = tile + gap, tile + _CAPTION + gap
    sheet = Image.new("RGB", (gap + columns * step_x, gap + rows * step_y), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, caption) in enumerate(cells):
        left, top = gap + place % columns * step_x, gap + place // columns * step_y
        draw.rectangle((left, top, left + tile - 1, top + tile - 1), fill=(235, 235, 235))
        if picture is not None:
            image = _image(picture).convert("RGB")
            scale = tile / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            # Digits of 8 x 8 stay the squares that they are; photographs are averaged.
            image = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
            sheet.paste(image, (left + (tile - image.width) // 2, top + (tile - image.height) // 2))
        draw.text((left, top + tile + 2), _fitting(draw, caption, tile), fill="black")
    return np.asarray(sheet)


_CAPTION = 16
"""Pixels of height of a line under a picture."""


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """`text`, cut in its middle to `width` pixels: ids often differ at their ends."""
    shown = text
    while draw.textlength(shown) > width and len(text) > 2:
        text = text[: len(text) // 2 - 1] + text[len(text) // 2 + 1 :]
        shown = f"{text[: len(text) // 2]}..{text[len(text) // 2 :]}"
    return shown


def _image(picture: Picture) -> Image.Image:
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
