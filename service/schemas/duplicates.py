"""The body of /collections/{collection}/duplicates."""

from __future__ import annotations

from pydantic import Field

from .base import Strict


class DuplicatesRequest(Strict):
    radius: int = Field(ge=0, description="inclusive Hamming distance; 0 finds equal codes")
    max_groups: int = Field(100, ge=0, description="groups listed in the job's result; all are at /jobs/{id}/groups")
