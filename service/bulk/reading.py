"""From the items of a data set to the bytes that are kept of them. Nothing heavy is imported for it."""

from __future__ import annotations

from models.errors import InvalidInput
from models.images import encode_png
from models.readers import Files, Items
from models.sounds import encode_wav


def kept_of(kind: str, items: Items, place: int) -> bytes:
    """The bytes that are kept of an item: a file as it is, or what was made in memory as a file.

    Raises `OSError` for a file that cannot be read, `InvalidInput` for a text that is not Unicode.
    """
    if kind == "text":
        try:
            return str(items[place]).encode()
        except UnicodeEncodeError:
            raise InvalidInput("a text must be valid Unicode; this one holds half of a surrogate pair") from None
    if kind == "vector":
        vector: bytes = items[place].astype("<f4").tobytes()
        return vector
    if isinstance(items, Files):
        return items.encoded(place)
    return encode_png(items[place]) if kind == "image" else encode_wav(items[place])


def read(kind: str, items: Items) -> list[bytes | str]:
    """The bytes that are kept of each item, or why it cannot be read."""

    def one(place: int) -> bytes | str:
        try:
            return kept_of(kind, items, place)
        except OSError as error:  # a file that is gone since the folder was listed, or may not be read
            return f"cannot be read: {error.strerror}"
        except InvalidInput as error:
            return str(error)

    return [one(place) for place in range(len(items))]
