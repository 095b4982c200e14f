"""What every error is: an RFC 9457 problem."""

from __future__ import annotations

from pydantic import BaseModel, Field

from .base import absent


class Fault(BaseModel):
    """One field at fault."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request; empty for all of it")
    detail: str


class Problem(BaseModel):
    """What was wrong, and the way out (RFC 9457). What was sent is never repeated."""

    type: str = Field(
        "about:blank",
        description="urn:hammingbird:problem: and a name that stays the same: what a program tells problems apart by",
    )
    title: str = Field(description="the kind of problem, in words")
    status: int = Field(description="of the reply")
    detail: str = Field(description="what was wrong this time: the limit, the value seen, what to do")
    errors: list[Fault] | None = Field(None, description="the fields at fault", exclude_if=absent)
