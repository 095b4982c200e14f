"""What collections are called in Milvus.

A collection `my-photos` is the alias `hb_myDphotos` (Milvus takes no hyphens, we take no capitals). It stands for one
of its generations, each a Milvus collection such as `hb_myDphotos_G0_1f9a03c2`: the end is random, so that a name is
never used for two things. Beside them `hb_myDphotos_I_...` holds kept inputs. `hb_RECORDS` holds small things of all.
"""

from __future__ import annotations

import re
import uuid
from typing import NamedTuple

RECORDS = "hb_RECORDS"
_PREFIX = "hb_"
_GENERATION = re.compile(r"hb_([a-z0-9_D]+)_G(\d{1,9})_[0-9a-f]{8}")


class Part(NamedTuple):
    """A Milvus collection that is a generation of one of ours."""

    physical: str
    name: str
    number: int


def alias_of(name: str) -> str:
    """The alias that stands for the collection `name`."""
    return _PREFIX + name.replace("-", "D")


def new_generation(name: str, number: int) -> str:
    """A new name for generation `number` of the collection `name`."""
    return f"{alias_of(name)}_G{number}_{uuid.uuid4().hex[:8]}"


def new_inputs(name: str) -> str:
    """A new name for the kept inputs of the collection `name`."""
    return f"{alias_of(name)}_I_{uuid.uuid4().hex[:8]}"


def parse(physical: str) -> Part | None:
    """What a Milvus collection is to us; None where it is no generation."""
    match = _GENERATION.fullmatch(physical)
    return None if match is None else Part(physical, match[1].replace("D", "-"), int(match[2]))


def to_key(id: str) -> str:
    """The primary key of an item: its id in UTF-8, in hexadecimal.

    It sorts as the id does, and needs no quoting, which Milvus Lite gets wrong for some characters.
    """
    return id.encode().hex()


def writable(id: str) -> bool:
    """Whether an id can be written in UTF-8 at all; no stored one cannot."""
    try:
        id.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_id(key: str) -> str:
    """The id whose primary key this is."""
    return bytes.fromhex(key).decode()


def any_of(field: str, values: list[str]) -> str:
    """The expression that `field` is one of `values`, which are hexadecimal or otherwise plain."""
    return f"{field} in [" + ", ".join(f'"{value}"' for value in values) + "]"
