"""A command's answers from a service, near or far, through its REST API. Nothing heavy is imported for it."""

from __future__ import annotations

import ipaddress
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from .base import CommandError
from .interrupts import whole
from .places import KEY_VARIABLE, Body, Job, Reply, Service

_TIMEOUT = httpx2.Timeout(660, connect=10)
"""Longer than the service takes at most (`long_request_timeout_s`), so that it is the service that says why."""
_TRIES = 5
_NOT_NOW = (429, 502, 503, 504)
"""Too busy, ending, not ready, or a proxy that found nobody."""
_LONGEST_WAIT_S = 10.0
_CHUNK = 1 << 20
_ARCHIVE = {"content-type": "application/x-tar"}
_NOT_OURS = "is it the address of a Hammingbird service?"


class Unavailable(CommandError):
    """The service does not answer, or not now: asked later, or another one of its kind, it may do.

    wait_s: how long to wait, where it said so.
    """

    def __init__(self, message: str, wait_s: float | None = None, *, answers: bool = True) -> None:
        """answers: whether there was anything that answered."""
        super().__init__(message)
        self.wait_s, self.answers = wait_s, answers


class Remote(Service):
    """The service at an address."""

    def __init__(self, address: str, key: str | None) -> None:
        self.address = address
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        # A proxy of the environment is for other machines.
        self._client = httpx2.Client(headers=headers, timeout=_TIMEOUT, trust_env=not _is_loopback(address))

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def search(self, body: Body) -> Reply:
        return self._json("POST", "search", json=body)

    def ingest(self, body: Body, duplicates: tuple[str, int] | None = None) -> Reply:
        with whole():  # else it would not be known what became of it
            return self._json("POST", "ingest", json=body, params=_how(duplicates))

    def ingest_once(self, body: Body, duplicates: tuple[str, int] | None, key: str) -> Reply:
        """The same as one try, which may be made again, here or at a replica, with the same idempotency key."""
        headers = {"idempotency-key": key}
        with whole():
            return self._json("POST", "ingest", json=body, params=_how(duplicates), headers=headers, tries=1)

    def holds(self, collection: str, id: str) -> bool:
        """Whether there is an item called `id` in the collection."""
        return self._reply("GET", "collections", collection, "items", id, accepted=404, tries=1).is_success

    def generate(self, body: Body) -> Reply:
        return self._json("POST", "generate", json=body)

    def denoise(self, body: Body) -> Reply:
        return self._json("POST", "denoise", json=body)

    def item(self, collection: str, id: str) -> Reply:
        return self._json("GET", "collections", collection, "items", id)

    def collections(self) -> Reply:
        return self._json("GET", "collections")

    def collection(self, name: str) -> Reply:
        return self._json("GET", "collections", name)

    def health(self, name: str) -> Reply:
        return self._json("GET", "collections", name, "health")

    def create_collection(self, body: Body) -> Reply:
        return self._json("POST", "collections", json=body)

    def delete_collection(self, name: str) -> None:
        self._reply("DELETE", "collections", name)

    def models(self) -> Reply:
        return self._json("GET", "models")

    def model(self, reference: str) -> Reply:
        return self._json("GET", "models", reference)

    def set_alias(self, name: str, alias: str, version: int) -> Reply:
        return self._json("PUT", "models", name, "aliases", alias, json={"version": version})

    def delete_model(self, reference: str) -> None:
        self._reply("DELETE", "models", reference)

    def add_model(self, name: str, train: Callable[[Path], None]) -> Reply:
        """Trained here, then sent as an archive that holds the model alone.

        An empty archive goes first: that a key is not enough for it is known before minutes of training.
        """
        from models.registry import Registry

        from ..snapshots import write_archive

        self._reply("POST", "snapshots", "restore", content=b"", headers=_ARCHIVE, accepted=422)
        with tempfile.TemporaryDirectory(prefix="hammingbird-") as folder:
            registry = Registry(Path(folder) / "models")
            draft = registry.draft(name)
            train(draft)
            entry = registry.add(name, draft)
            archive = Path(folder) / "model.tar"
            write_archive(archive, {}, registry, [entry], now=datetime.now(UTC), least_free=0)
            (added,) = self.restore(archive, None, False, lambda done, note: None)["models"]
        return self.model(f"{added['name']}:{added['version']}")

    def begin(self, kind: Job, body: Body, collection: str = "") -> Reply:
        return self._json("POST", *(("collections", collection, kind) if collection else (kind,)), json=body)

    def job(self, id: str) -> Reply:
        return self._json("GET", "jobs", id)

    def cancel(self, id: str) -> None:
        self._reply("DELETE", "jobs", id)

    def rollback(self, collection: str) -> Reply:
        return self._json("POST", "collections", collection, "rollback")

    def restore(self, file: Path, name: str | None, replace: bool, progress: Callable[[float, str], None]) -> Reply:
        params = {"replace": str(replace).lower()} | ({} if name is None else {"collection": name})
        try:
            size = file.stat().st_size
            with file.open("rb") as archive:

                def parts() -> Iterator[bytes]:
                    while part := archive.read(_CHUNK):
                        progress(archive.tell(), "")
                        yield part

                headers = {**_ARCHIVE, "content-length": str(size)}
                return self._json(
                    "POST", "snapshots", "restore", params=params, content=parts(), headers=headers, tries=1
                )
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}") from None

    # -- requests ------------------------------------------------------------------------------------------------------

    def _json(self, method: str, *path: str, **options: Any) -> Reply:
        reply = self._reply(method, *path, **options)
        try:
            found = reply.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise CommandError(f"{self.address} answered with something else than a reply; {_NOT_OURS}")
        return found

    def _reply(
        self, method: str, *path: str, tries: int = _TRIES, accepted: int = 200, **options: Any
    ) -> httpx2.Response:
        """The reply to a request, which is sent again while the service is too busy for it.

        accepted: a status beside those of success that is what was expected. Raises `CommandError`.
        """
        url = "/".join([self.address, *map(_quoted, path)])
        for left in reversed(range(tries)):
            try:
                reply = self._client.request(method, url, **options)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                raise Unavailable(
                    f"nothing answers at {self.address} ({error}); start a service there, or leave --url (and "
                    "HAMMINGBIRD_URL) out to work in --data-dir",
                    answers=False,
                ) from None
            except httpx2.InvalidURL as error:
                raise CommandError(f"{self.address} is no address: {error}") from None
            except httpx2.HTTPError as error:
                raise Unavailable(
                    f"{self.address} did not answer to the end ({type(error).__name__}: {error}). Whether it did what "
                    "was asked is not known; to run the command again is safe"
                ) from None
            wait = _wait_s(reply)
            if not left or wait is None:
                break
            time.sleep(wait)
        if reply.is_success or reply.status_code == accepted:
            return reply
        if reply.status_code in _NOT_NOW:
            raise Unavailable(self._refusal(reply), wait)
        raise CommandError(self._refusal(reply))

    def _refusal(self, reply: httpx2.Response) -> str:
        """What a reply that is none says, and what to do."""
        try:
            problem = reply.json()
            detail = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            return f"{self.address} answered {reply.status_code} {reply.reason_phrase}; {_NOT_OURS}"
        if reply.status_code in (401, 403):
            detail += f" (the key is read from {KEY_VARIABLE})"
        return detail


def _how(duplicates: tuple[str, int] | None) -> dict[str, str]:
    """The parameters of an ingest."""
    asked = {} if duplicates is None else {"on_duplicate": duplicates[0], "radius": str(duplicates[1])}
    return {"on_error": "skip", **asked}


def _quoted(part: str) -> str:
    """A name as one part of a path, also one that means a folder."""
    return quote(part, safe="").replace(".", "%2E") if set(part) <= {"."} else quote(part, safe="")


def _wait_s(reply: httpx2.Response) -> float | None:
    """How long to wait before asking again, None where that is of no use."""
    if reply.status_code not in (429, 503):
        return None
    try:
        wait = float(reply.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return min(max(wait, 0.1), _LONGEST_WAIT_S) if math.isfinite(wait) else None


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
