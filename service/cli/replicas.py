"""The addresses that an ingest is sent to, where there are several or several senders: replicas that share a store.

A batch goes to a replica that is free. Where one does not answer, or not now, another takes the batch over, with the
same ids and the same idempotency key, so that it is stored once however often it is sent.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from .base import CommandError, say
from .places import Body, Reply
from .remote import Remote, Unavailable

PATIENCE_S = 120.0
"""A batch that no replica took for so long ends the command."""
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 10.0
"""How long a replica that does not answer is left alone: doubled each time, unless it says for how long."""
_POLL_S = 0.1
_SEEN_WITHIN_S = 5.0
"""What one replica stored, another finds within so long, or it has another store."""


class Ended(Exception):
    """A batch was not sent, since `stop` was set."""


class _Replica:
    """One address, and how it does. Changed under the lock of `Replicas` alone."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.items = self.flying = 0
        self.rest_s = self.resting_until = 0.0
        self.proven = False
        """Whether it is known to hold what another one stored."""


class Replicas:
    """All addresses. Safe to use from many threads."""

    def __init__(self, addresses: Sequence[str], key: str | None) -> None:
        self._stack = ExitStack()
        self._all = [_Replica(self._stack.enter_context(Remote(address, key))) for address in addresses]
        self._lock = threading.Lock()
        self._run = uuid.uuid4().hex
        self._turn = 0
        self._answered = False
        self._stored: tuple[str, str] | None = None
        """The id of an item that is stored, and by which replica."""
        self.stop = threading.Event()
        """Set where nothing more is to be sent."""

    def __enter__(self) -> Replicas:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self._stack.close()

    @property
    def items(self) -> Mapping[str, int]:
        """How many items each address took."""
        return {one.remote.address: one.items for one in self._all}

    def ingest(self, number: int, body: Body, duplicates: tuple[str, int] | None) -> Reply:
        """Send the batch `number` until a replica takes it. Raises `CommandError`, `Ended`."""
        since = time.monotonic()
        while True:
            replica = self._chosen()
            try:
                self._prove(replica, body["collection"])
                reply = replica.remote.ingest_once(body, duplicates, f"{self._run}-{number}")
                self._took(replica, body, reply)
                return reply
            except Unavailable as error:
                self._leave_alone(replica, error)
                if not (self._answered or error.answers) and all(one.rest_s for one in self._all):
                    raise
                if time.monotonic() - since > PATIENCE_S:
                    raise CommandError(
                        f"a batch was not taken within {PATIENCE_S:g} s; {_said(replica, error)}"
                    ) from None
            except CommandError as error:
                raise CommandError(_said(replica, error)) from None
            finally:
                with self._lock:
                    replica.flying -= 1

    def _chosen(self) -> _Replica:
        """The one that has the least to do, in turns, of those that are not left alone."""
        while True:
            if self.stop.is_set():
                raise Ended
            with self._lock:
                in_turn = self._all[self._turn :] + self._all[: self._turn]
                free = [one for one in in_turn if one.resting_until <= time.monotonic()]
                if free:
                    self._turn = (self._turn + 1) % len(self._all)
                    chosen = min(free, key=lambda one: one.flying)
                    chosen.flying += 1
                    return chosen
            self.stop.wait(_POLL_S)

    def _prove(self, replica: _Replica, collection: str) -> None:
        """Raise `CommandError` where a replica does not hold what another stored: it has a store of its own."""
        if self._stored is None or replica.proven:
            return
        id, by = self._stored
        until = time.monotonic() + _SEEN_WITHIN_S
        while not replica.remote.holds(collection, id):
            if time.monotonic() > until:
                raise CommandError(
                    f"{replica.remote.address} does not have item {id[:100]!r}, which {by} stored: they do not share a "
                    "store, and items would be scattered over both. Several addresses are for replicas over one "
                    "Milvus; else give one"
                )
            self.stop.wait(_POLL_S)
        replica.proven = True

    def _took(self, replica: _Replica, body: Body, reply: Reply) -> None:
        with self._lock:
            self._answered = True
            replica.items += len(body["items"])
            replica.rest_s = 0.0
            if self._stored is None and reply["ids"]:
                self._stored, replica.proven = (reply["ids"][0], replica.remote.address), True

    def _leave_alone(self, replica: _Replica, error: Unavailable) -> None:
        with self._lock:
            first = not replica.rest_s
            replica.rest_s = min(2 * replica.rest_s or _FIRST_REST_S, _LONGEST_REST_S)
            replica.resting_until = time.monotonic() + (replica.rest_s if error.wait_s is None else error.wait_s)
            self._answered = self._answered or error.answers
        if first and self._answered:
            others = "; meanwhile the others take over" if len(self._all) > 1 else ""
            say(f"{_said(replica, error)}. It is asked again{others}")


def _said(replica: _Replica, error: CommandError) -> str:
    """What is wrong, with the address that said so."""
    address = replica.remote.address
    return str(error) if address in str(error) else f"{address}: {error}"
