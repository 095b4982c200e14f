"""The files of the explorer page, read once, and the headers that they go out with.

The page may use what comes from here and nothing else: no script of its own text, no other site, no form that leaves.
Its files lie at an address with a digest of them all, so that a browser keeps them for ever and never mixes versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The Content-Security-Policy of every page that the service serves."""

_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_VERSION = b"{{version}}"

HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class File:
    """One file of the page."""

    content: bytes
    type: str


class Page:
    """All files of the page, by their path inside `service/page`."""

    def __init__(self, root: Traversable | None = None) -> None:
        found = dict(_files(root or files("service") / "page"))
        digest = hashlib.sha256()
        for path, content in sorted(found.items()):
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        self.version = digest.hexdigest()[:16]
        self.files = {
            path: File(content.replace(_VERSION, self.version.encode()) if path.endswith(".html") else content, type)
            for path, content in found.items()
            if (type := _TYPES.get(path[path.rfind(".") :])) is not None
        }


def _files(folder: Traversable, prefix: str = "") -> list[tuple[str, bytes]]:
    """Path and content of every file below `folder`."""
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        path = prefix + entry.name
        found += _files(entry, f"{path}/") if entry.is_dir() else [(path, entry.read_bytes())]
    return found
