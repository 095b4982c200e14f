"""The way to one Milvus: every call bounded in time, every fault in our own words.

A call that fails because Milvus is away is not repeated here: whoever asked is told at once, and may come again. While
it is away, calls made within a second of the last failure are refused without another try, so that nobody waits in a
row. Once it is back the next call finds it; nothing has to be restarted.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any, Literal

from ..errors import BackendUnavailable, DataDirectoryError, StoreUnavailable, UnknownCollection

AT_ONCE = 16_384
"""Rows of one answer, as Milvus has it."""
_REST_S = 1.0

Consistency = Literal["strong", "bounded"]

log = logging.getLogger("hammingbird.milvus")


class MissingCollection(UnknownCollection):
    """Milvus has no collection, or alias, of that name: it has just been deleted, or given up."""


class Connection:
    """One Milvus server, or one file of Milvus Lite. Safe to use from many threads."""

    def __init__(
        self, uri: str, token: str = "", *, timeout_s: float = 10, consistency: Consistency = "strong"
    ) -> None:
        """uri: `http://host:port`, or the path of a file. Nothing is asked of it yet. Raises `DataDirectoryError`.

        consistency: of searches; a bounded one may miss what was written in the last seconds, and does not wait.
        """
        self.uri, self._token, self._timeout_s = uri, token, timeout_s
        self.of_searches = consistency.capitalize()
        """As Milvus calls it; all else is read strongly."""
        self.lite = "://" not in uri
        """Milvus Lite: a process of its own, used by one process alone, one call at a time. It has no aliases."""
        for package in ("pymilvus", "milvus_lite") if self.lite else ("pymilvus",):
            if find_spec(package) is None:
                raise DataDirectoryError(
                    f"collections in Milvus at {uri} need the package {package}: pip install "
                    f"'hammingbird[{'milvus-lite' if self.lite else 'milvus'}]', or leave milvus_uri out"
                )
        # Milvus Lite shows the middle of an upsert, where the old row is gone and the new one has not come.
        self._turn: AbstractContextManager[Any] = threading.Lock() if self.lite else nullcontext()
        self.alone = threading.Lock()
        """For what Milvus Lite has no single call for; no other process can come between."""
        self._lock = threading.Lock()
        self._client: Any = None
        self._failed_at = -_REST_S

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def call(self, method: str, *args: Any, within_s: float | None = None, **asked: Any) -> Any:
        """What Milvus answers, by default within the connection's time.

        Raises `MissingCollection`, `BackendUnavailable`, `StoreUnavailable`.
        """
        with self._turn:
            return self._called(method, within_s or self._timeout_s, *args, **asked)

    def _called(self, method: str, timeout_s: float, *args: Any, **asked: Any) -> Any:
        if time.monotonic() - self._failed_at < _REST_S:
            raise BackendUnavailable(self._away("it did not answer a moment ago"))
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            return getattr(self._connected(), method)(*args, timeout=timeout_s, **asked)
        except MilvusException as error:
            raise self._told(error) from error
        except (grpc.RpcError, grpc.FutureTimeoutError, OSError, ValueError) as error:
            if isinstance(error, ValueError) and "closed channel" not in str(error):
                raise
            raise self._fails(str(error)) from error

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _client(self.uri, self._token, self._timeout_s)
            return self._client

    def _told(self, error: Any) -> Exception:
        text = str(error.message)
        lower = text.lower()
        if (
            error.code in _MISSING
            or "collection not found" in lower
            or "can't find collection" in lower
            or ("alias" in lower and "not found" in lower)
        ):
            return MissingCollection(text)
        if any(word in lower for word in _AWAY) or type(error).__name__ in _AWAY_CLASSES:
            return self._fails(text)
        return StoreUnavailable(f"Milvus at {self.uri} refused: {text[:300]}")

    def _fails(self, why: str) -> BackendUnavailable:
        self._failed_at = time.monotonic()
        log.warning("milvus: %s does not answer: %s", self.uri, why[:300])
        return BackendUnavailable(self._away(why))

    def _away(self, why: str) -> str:
        return (
            f"Milvus at {self.uri} cannot be reached ({' '.join(why.split())[:160]}); what was acknowledged is safe "
            "there. Whether this request took effect is not known: send it again, the same ids make that safe"
        )


_MISSING = (100, 1600)
"""Codes of a collection and of an alias that is not there."""
_AWAY = (
    "unavailable",
    "retry run out",
    "retry timeout",
    "deadline exceeded",
    "timeout",
    "fail connecting",
    "connect failed",
    "connection refused",
    "should create connection",
    "not ready",
    "not healthy",
    "unhealthy",
    "no available",
    "node offline",
    "channel not available",
    "shard delegator",
    "socket closed",
    "is not loaded",
    "not loaded",
    "failed to search/query delegator",
)
"""What its messages say when it is away, starting or stopping."""
_AWAY_CLASSES = ("MilvusUnavailableException", "ConnectError", "ConnectionNotExistException")


def _client(uri: str, token: str, timeout_s: float) -> Any:
    from pymilvus import MilvusClient

    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs every failure with a traceback; we tell it once
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources")  # which Milvus Lite uses, and says so to whoever looks
        return MilvusClient(uri, token=token, timeout=timeout_s)
