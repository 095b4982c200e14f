"""Who may ask: the key and its scope, and, where there are no keys, which web pages a browser may ask for.

A service without keys on one's own machine can be reached by every page in one's browser. Two things keep them out. A
page of another site can send a form here but says so (`Origin`, `Sec-Fetch-Site`), and is refused anything that
changes something. And a page whose own name was made to mean this machine (DNS rebinding) asks for that name: names
with a dot are refused but for those of `allowed_hosts`. With keys neither is needed: a page does not have one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import problem, short
from .keys import Key, KeyRing
from .scopes import Scopes, covers
from .settings import Settings

KEY = "hammingbird.key"
"""Where the scope of a request holds the `Key` that it came with."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_NAMES = 1000
_READ_ANYWAY = 64 * 1024
"""A body of this size has arrived with its head; the connection of a larger one is closed rather than drained."""


class Gate:
    """ASGI middleware that answers 401 and 403, and lets through who may ask."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys
        self._scopes = Scopes()
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._names = frozenset(name.lower() for name in (*settings.allowed_hosts, settings.host))
        self._only_these = bool(settings.allowed_hosts)
        self._good: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        with_keys = self._keys.asked_for
        host = headers.get(b"host", b"")
        if host not in self._good and (self._only_these or not with_keys) and not self._is_ours(host):
            await self._refuse_host(host, scope, receive, send)
        elif with_keys:
            await self._with_key(headers, scope, receive, send)
        elif scope["method"] not in _SAFE and self._from_elsewhere(headers, host):
            await problem(
                403,
                "cross-site",
                "A page of another site asked",
                "a web page of another site may not change anything here while no key is asked for; list its origin in "
                "cors_origins, or create keys with `hammingbird keys create`",
                headers=_closing(headers),
            )(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _with_key(self, headers: Mapping[bytes, bytes], scope: Scope, receive: Receive, send: Send) -> None:
        needed = self._scopes.needed(scope["method"], scope["path"])
        text = _given(headers)
        key: Key | None = None
        if text is not None:
            scope[KEY] = key = self._keys.find(text)
        if needed is None or (key is not None and covers(key.scope, needed)):
            await self._app(scope, receive, send)
        elif key is None:
            detail = "this needs an API key" if text is None else "this API key is not known here, expired or revoked"
            fault = "" if text is None else ', error="invalid_token"'
            await problem(
                401,
                "unauthorized",
                "A key is needed",
                f"{detail}; send one as `Authorization: Bearer <key>` or `x-api-key`, never in the URL. "
                "`hammingbird keys create` makes one",
                headers={"www-authenticate": f'Bearer realm="hammingbird"{fault}', **_closing(headers)},
            )(scope, receive, send)
        else:
            challenge = f'Bearer realm="hammingbird", error="insufficient_scope", scope="{needed}"'
            await problem(
                403,
                "forbidden",
                "The key may not do this",
                f"{scope['method']} here needs a key of scope {needed}; this one, {key.name}, has {key.scope}",
                headers={"www-authenticate": challenge, **_closing(headers)},
            )(scope, receive, send)

    def _is_ours(self, host: bytes) -> bool:
        """Whether a request for this host is meant for us: an address, a local name, or one that we were told."""
        name = _without_port(host.decode("latin-1").lower())
        ours = name in self._names or name in ("", "localhost") or name.endswith(".localhost") or _is_address(name)
        if not ours and not self._only_these:
            ours = "." not in name  # nobody can own such a name: it is one of this network
        if ours and len(self._good) < _MOST_NAMES:
            self._good.add(host)
        return ours

    async def _refuse_host(self, host: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        name = short(_without_port(host.decode("latin-1")))
        await problem(
            400,
            "unknown-host",
            "This is not a name of this service",
            f"asked for {name!r}; a service without keys answers to addresses and local names only, so that a web "
            "page cannot reach it by a name of its own. Add the name to allowed_hosts (HAMMINGBIRD_ALLOWED_HOSTS)",
            headers={"connection": "close"},
        )(scope, receive, send)

    def _from_elsewhere(self, headers: Mapping[bytes, bytes], host: bytes) -> bool:
        """Whether a browser sent this for a page of another origin that was not allowed."""
        origin = headers.get(b"origin")
        if origin is not None and (origin in self._origins or b"*" in self._origins):
            return False
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            return site not in (b"same-origin", b"none")
        return origin is not None and origin.partition(b"://")[2] != host


def _given(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The text of the key in the headers, if there is one."""
    kind, _, text = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer":
        return text.strip()
    return headers.get(b"x-api-key")


def _closing(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """The header that ends the connection where the body, which nobody reads, is long or of unknown length."""
    length = headers.get(b"content-length", b"0")
    small = length.isdigit() and int(length) <= _READ_ANYWAY and b"transfer-encoding" not in headers
    return {} if small else {"connection": "close"}


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
