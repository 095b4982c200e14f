"""What a search found, as the reply's JSON, written without a detour through objects for each hit.

The types of the reply are those of `schemas.SearchReply`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring as quoted

from index import Codes, Hit, ModelKey
from index.answer import Page


@dataclass(slots=True)
class Answer:
    """The answer to one search; times are in seconds."""

    collection: str
    code: Codes
    page: Page
    encode_s: float
    search_s: float
    radius: int | None = None
    """That a target precision led to."""

    def json(self) -> str:
        """The whole reply."""
        page = self.page
        cursor = "null" if page.cursor is None else quoted(page.cursor)
        radius = "" if self.radius is None else f'"radius":{self.radius},'
        encode, search = 1000 * self.encode_s, 1000 * self.search_s
        return (
            f'{_head(self.collection, page.model)}"code":"{self.code.tobytes().hex()}",{radius}'
            f'"hits":[{hits_json(page.hits)}],"total":{page.total},'
            f'"complete":{"true" if page.cursor is None else "false"},"cursor":{cursor},'
            f'"plan":{{"method":"{page.plan.method}","candidates":{page.plan.candidates}}},'
            f'"took_ms":{{"encode":{encode:.3f},"search":{search:.3f},"total":{encode + search:.3f}}}}}'
        )


def hits_json(hits: Sequence[Hit]) -> str:
    """The members of a list of hits; a payload is pasted in as it is stored, as JSON."""
    return ",".join([_hit(*hit) for hit in hits])


def _hit(id: str, distance: int, payload: str | None, code: bytes | None, score: float | None) -> str:
    text = f'{{"id":{quoted(id)},"distance":{distance}'
    if score is not None:
        text += f',"score":{score!r}'
    if payload is not None:
        text += f',"payload":{payload}'
    if code is not None:
        text += f',"code":"{code.hex()}"'
    return text + "}"


@lru_cache(256)
def _head(collection: str, model: ModelKey | None) -> str:
    """The beginning of every reply for one collection."""
    if model is None:
        return f'{{"collection":{quoted(collection)},"model":null,'
    return (
        f'{{"collection":{quoted(collection)},"model":{{"name":{quoted(model.name)},"version":{model.version},'
        f'"fingerprint":"{model.fingerprint}"}},'
    )
