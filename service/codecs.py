"""From API inputs to items in memory and back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputTooLarge, InvalidInput
from models.images import decode_image, encode_png, image_size
from models.inputs import InputSpec
from models.sounds import decode_sound, encode_wav, sound_seconds

from .schemas import IngestItem, Input, Output
from .settings import Settings


@dataclass(frozen=True, slots=True)
class _Size:
    """How much a file holds by its header, and the setting that limits it for a whole request."""

    of: Callable[[bytes], float]
    unit: str
    setting: str


def _pixels(data: bytes) -> float:
    width, height = image_size(data)
    return width * height


_SIZES: Mapping[str, _Size] = {
    "image": _Size(_pixels, "pixels", "max_request_pixels"),
    "audio": _Size(sound_seconds, "seconds", "max_request_audio_seconds"),
}
FILE_KINDS = frozenset(_SIZES)
"""The kinds whose items come as files, small ones of which can stand for much when they are decoded."""


def share_of_request(item: IngestItem, settings: Settings) -> float:
    """The part of what one request may hold that this item takes; none where it has no header that can be read."""
    for kind, size in _SIZES.items():
        if (given := getattr(item, kind)) is not None:
            try:
                return size.of(base64.b64decode(given)) / float(getattr(settings, size.setting))
            except ValueError:
                return 0.0
    return 0.0


@dataclass(frozen=True, slots=True)
class Decoded:
    """An item of `kind` in memory, and the bytes that are kept of it."""

    kind: str
    item: Any
    kept: bytes


class Decoder:
    """Decodes the items of one request for one model: each is shrunk to what the model looks at as soon as it is
    decoded, and all their pixels or seconds together have a limit, so a small body cannot stand for endless work and
    memory.
    """

    def __init__(self, settings: Settings, input: InputSpec | None, *, whole: bool = False) -> None:
        self._settings = settings
        self._input = input
        self._whole = whole
        self._held = 0.0

    def value(self, value: Input | IngestItem) -> Decoded:
        """The item in an API input. Raises `InvalidInput`."""
        given = next(name for name in value.given() if name != "id")
        self._check_kind(given)
        if value.vector is not None:
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which `rest` refuses
                return _vector(np.asarray(value.vector, np.float64).astype("<f4"), self._settings)
        if value.text is not None:
            return self.file(value.text.encode())
        return self.file(_base64(value.image or value.audio or value.vector_b64, given))

    def of(self, kind: str, data: bytes) -> Decoded:
        """The item of `kind` in its kept form or a file. Raises `InvalidInput`."""
        self._check_kind(kind)
        return self.file(data)

    def file(self, data: bytes) -> Decoded:
        """The item in the bytes of a file. Raises `InvalidInput`."""
        input = self._expected()
        if (size := _SIZES.get(input.kind)) is not None:
            self._held += size.of(data)
            most = getattr(self._settings, size.setting)
            if self._held > most:
                raise InputTooLarge(
                    f"the items of this request have {self._held:,.0f} {size.unit} up to here, the limit is "
                    f"{most:,} ({size.setting}); send them in parts"
                )
        decoded = from_bytes(data, input.kind, self._settings)
        return decoded if self._whole else Decoded(decoded.kind, input.shrink(decoded.item), decoded.kept)

    def _check_kind(self, given: str) -> None:
        kind = self._expected().kind
        if given.removesuffix("_b64") != kind:
            raise InvalidInput(f"the model takes {kind} input; got {given}")

    def _expected(self) -> InputSpec:
        if self._input is None:
            raise InvalidInput("this collection has no model; give a ready-made code")
        return self._input


def decode(value: Input, input: InputSpec, settings: Settings) -> Any:
    """The one item in `value`, whole as it came. Raises `InvalidInput`."""
    return Decoder(settings, input, whole=True).value(value).item


def from_bytes(data: bytes, kind: str, settings: Settings) -> Decoded:
    """The item of `kind` whose kept form or file is `data`. Raises `InvalidInput`."""
    if kind == "image":
        return Decoded(kind, decode_image(data, max_pixels=settings.max_image_pixels), data)
    if kind == "audio":
        return Decoded(kind, decode_sound(data, max_seconds=settings.max_audio_seconds), data)
    if kind == "vector":
        if not data or len(data) % 4:
            raise InvalidInput(f"a vector has 4 bytes a number; got {len(data)} bytes")
        return _vector(np.frombuffer(data, "<f4"), settings)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the text is not UTF-8: {error.reason} at byte {error.start}") from None
    if len(text) > settings.max_text_chars:
        raise InputTooLarge(
            f"the text has {len(text):,} characters, the limit is {settings.max_text_chars:,} (max_text_chars); "
            "split it into passages"
        )
    if not text.strip():
        raise InvalidInput("the text is empty")
    return Decoded(kind, text, data)


def _vector(vector: NDArray[np.float32], settings: Settings) -> Decoded:
    if len(vector) > settings.max_vector_dim:
        raise InputTooLarge(
            f"the vector has {len(vector):,} numbers, the limit is {settings.max_vector_dim:,} (max_vector_dim); "
            "reduce it before"
        )
    return Decoded("vector", vector, vector.tobytes())


def _base64(text: str | None, field: str) -> bytes:
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{field} is not base64: {error}") from None


_ENCODERS: dict[str, Callable[[Any], Output]] = {
    "image": lambda item: Output(image=base64.b64encode(encode_png(item)).decode()),
    "audio": lambda item: Output(audio=base64.b64encode(encode_wav(item)).decode()),
    "text": lambda item: Output(text=item),
    "vector": lambda item: Output(vector=[round(float(value), 7) for value in item]),
}


def encode(kind: str, item: Any) -> Output:
    """An item made by a model as API output."""
    return _ENCODERS[kind](item)


def kept_output(kind: str, kept: bytes) -> Output:
    """A kept input as it came: an image's or a sound's own file, not a re-encoding."""
    if kind in FILE_KINDS:
        return Output(**{kind: base64.b64encode(kept).decode()})
    if kind == "vector":
        return Output(vector=np.frombuffer(kept, "<f4").tolist())
    return Output(text=kept.decode())


def mask_for(mask: str | list[Any], item: Any, kind: str, settings: Settings) -> NDArray[np.float32]:
    """The mask in the shape of `item` less its channels: 1 where a value is missing. Raises `InvalidInput`."""
    if kind == "text":
        raise InvalidInput("a text has no mask: leave words out instead")
    if isinstance(mask, str):
        if kind != "image":
            raise InvalidInput("a mask in PNG is for images; give a list of 0 and 1")
        picture = decode_image(_base64(mask, "mask"), max_pixels=settings.max_image_pixels)
        out: NDArray[np.float32] = (picture.mean(axis=2) >= 128).astype(np.float32)
    else:
        try:
            given = np.array(mask)
        except (ValueError, TypeError, OverflowError):
            given = np.array(None)
        if given.dtype.kind not in "biuf":
            raise InvalidInput("the mask must be lists of 0 and 1, of equal lengths")
        out = given.astype(np.float32)
    shape = item.shape[:2] if kind == "image" else item.samples.shape if kind == "audio" else item.shape
    if out.shape != shape:
        raise InvalidInput(f"the mask has shape {list(out.shape)}, the input {list(shape)}; they must be equal")
    if not np.isin(out, (0, 1)).all():
        raise InvalidInput("the mask holds 0 (known) and 1 (missing) only")
    return out
