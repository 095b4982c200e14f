"""Searches of every kind beside a writer and merges: nothing dies, no answer mixes states. (reliability.md X1)

The storm runs in a child process, so that a fault in compiled code is seen; this file is its program too.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import CollectionConfig, EmbeddedCollection, Item, Page, PutResult, multihash, query
from index.catalogue import STORE_FILE
from index.live import Live

READERS = 8
NAMES = 400  # ids that come and go
LABELS = 8  # values of the payload field `label`
NO_LABEL = -1  # of an item without payload


@pytest.mark.parametrize("seconds", [pytest.param(5, id="short"), pytest.param(60, id="long", marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_a_storm_of_searches_beside_a_writer(tmp_path: Path, seconds: int) -> None:
    """X1: 8 readers, 1 writer; every answer equals brute force over some state between call and return."""
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201
    command = [sys.executable, "-X", "faulthandler", __file__, str(tmp_path), str(seconds), str(seed)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, start_new_session=True)
    assert child.returncode == 0, f"the storm ended with {child.returncode}: {child.stdout}\n{child.stderr}"
    done: dict[str, int] = json.loads(child.stdout)
    for kind in (*KINDS, *WRITES, "merge", "scan", "bucket", "multi-index-hash"):
        assert done.get(kind), (kind, done)


# -- the states, and the brute force over one --------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """All items at one moment, in the order of their ids."""

    numbers: np.ndarray[Any, np.dtype[np.int64]]  # (n,) what `name` makes an id of
    codes: np.ndarray[Any, np.dtype[np.uint8]]  # (n, 8)
    labels: np.ndarray[Any, np.dtype[np.int64]]  # (n,)

    @classmethod
    def of(cls, items: dict[int, tuple[bytes, int]]) -> State:
        numbers = sorted(items)
        codes = b"".join(items[number][0] for number in numbers)
        labels = np.array([items[number][1] for number in numbers], np.int64)
        return cls(np.array(numbers, np.int64), np.frombuffer(codes, np.uint8).reshape(-1, 8), labels)


def name(number: int) -> str:
    return f"i{number:03d}"


@dataclass(frozen=True)
class Question:
    """A search, and which labels its filter selects."""

    code: np.ndarray[Any, np.dtype[np.uint8]]
    labels: frozenset[int] | None = None
    k: int | None = None
    radius: int | None = None
    limit: int = 1000
    filter: dict[str, Any] | None = None
    logits: np.ndarray[Any, np.dtype[np.float64]] | None = None
    count_only: bool = False

    def asked(self, collection: EmbeddedCollection) -> tuple[Any, str]:
        """What is answered, in the form of `answer`, and how it was found."""
        page: Page = collection.search(
            self.code,
            k=self.k,
            radius=self.radius,
            limit=self.limit,
            filter=self.filter,
            logits=self.logits,
            count_only=self.count_only,
        )
        for hit in page.hits:
            label = NO_LABEL if hit.payload is None else hit.payload["label"]
            assert self.labels is None or label in self.labels, (hit, self.filter)
        hits = [(hit.id, hit.distance, hit.score) for hit in page.hits]
        return (hits, page.total, page.complete), page.plan.method

    def answer(self, state: State) -> Any:
        """The same by definition: hits with distance and score, total, and whether that is all."""
        distances = np.bitwise_count(state.codes ^ self.code).sum(axis=1, dtype=np.int64)
        near = distances <= (64 if self.radius is None else self.radius)
        if self.labels is not None:
            near &= np.isin(state.labels, list(self.labels))
        found = np.flatnonzero(near)
        found = found[np.argsort(distances[found], kind="stable")]
        total = len(found) if self.k is None else min(self.k, len(found))
        if self.count_only:
            return [], total, True
        scores = [None] * len(found)
        if self.logits is not None:
            if self.k is not None and self.k < len(found):
                found = found[distances[found] <= distances[found[self.k - 1]]]
            found.sort()
            # The logits are multiples of a quarter, so that these sums are exact and ties are ties.
            wrong = np.unpackbits(state.codes[found], axis=1) != (self.logits > 0)  # (n, 64)
            off = (wrong * np.abs(self.logits)).sum(axis=1)
            order = np.argsort(off, kind="stable")
            found, off = found[order], off[order]
            scores = np.round(1 - 2 * off / np.abs(self.logits).sum(), 12).tolist()
        take = self.limit if self.k is None else self.k
        hits = [(name(int(state.numbers[at])), int(distances[at]), one) for at, one in zip(found, scores, strict=False)]
        return hits[:take], total, self.k is not None or len(hits) <= take


# -- the storm ---------------------------------------------------------------------------------------------------------


class Storm:
    """One collection, its writer and its readers, until `deadline`."""

    def __init__(self, root: Path, seconds: float, seed: int) -> None:
        folder = root / "things"
        folder.mkdir()
        EmbeddedCollection.create(
            folder / STORE_FILE, CollectionConfig("things", 64, None, True, "2026-01-01T00:00:00Z")
        )
        self.path = folder / STORE_FILE
        self.collection = EmbeddedCollection(self.path, merge_at=64, copy_from=1, quiet_s=0.01)
        self.rng = np.random.default_rng(seed)
        self.centres = self.rng.integers(0, 256, (12, 8)).astype(np.uint8)
        self.deadline = time.monotonic() + seconds
        self.items: dict[int, tuple[bytes, int]] = {}
        self.states = [State.of({})]
        self.acknowledged = 0  # the newest state that is known to be committed
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self) -> None:
        works: list[Callable[[], None]] = [self.write]
        works += [lambda seed=seed: self.read(np.random.default_rng(seed)) for seed in range(READERS)]
        threads = [threading.Thread(target=self.watched, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.watched(self.settled)

    def watched(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            self.failures.append(traceback.format_exc())

    def goes_on(self) -> bool:
        return time.monotonic() < self.deadline and not self.failures

    # -- the writer ----------------------------------------------------------------------------------------

    def write(self) -> None:
        while self.goes_on():
            kind = WRITES[self.rng.integers(len(WRITES))]
            write, self.items = getattr(self, kind)(dict(self.items))
            self.states.append(State.of(self.items))  # before the commit: a reader may see it from then on
            write()
            self.acknowledged = len(self.states) - 1
            self.done[kind] += 1

    def codes(self, count: int) -> list[bytes]:
        """Codes near one of the centres, so that some are equal and every radius finds something."""
        flips = np.packbits(self.rng.random((count, 64)) < 0.03, axis=1)
        return [code.tobytes() for code in self.centres[self.rng.integers(0, len(self.centres), count)] ^ flips]

    def numbers(self, most: int) -> list[int]:
        return [int(number) for number in self.rng.integers(0, NAMES, self.rng.integers(1, most))]

    def put(self, items: dict[int, tuple[bytes, int]]) -> Any:
        numbers = self.numbers(40)
        new = {n: (code, int(self.rng.integers(LABELS))) for n, code in zip(numbers, self.codes(40), strict=False)}
        return self.storing(items, new, lambda: self.collection.put([item(n, *new[n]) for n in new]))

    def put_codes(self, items: dict[int, tuple[bytes, int]]) -> Any:
        numbers = self.numbers(40)
        new = {number: (code, NO_LABEL) for number, code in zip(numbers, self.codes(40), strict=False)}
        array = np.frombuffer(b"".join(code for code, _ in new.values()), np.uint8).reshape(-1, 8)
        return self.storing(items, new, lambda: self.collection.put_codes([name(number) for number in new], array))

    def update(self, items: dict[int, tuple[bytes, int]]) -> Any:
        """Of the items in question every second one gets a new code, the others stay as they are."""
        numbers = [number for number in self.numbers(20) if number in items]
        new = {number: items[number] for number in numbers}
        new |= {n: (code, items[n][1]) for n, code in zip(numbers[::2], self.codes(20), strict=False)}
        return self.storing(items, new, lambda: self.collection.put([item(n, *new[n]) for n in new]))

    def storing(
        self, items: dict[int, tuple[bytes, int]], new: dict[int, tuple[bytes, int]], write: Callable[[], PutResult]
    ) -> Any:
        created = len(new.keys() - items.keys())
        unchanged = sum(items.get(number) == one for number, one in new.items())
        want = PutResult(created, len(new) - created - unchanged, unchanged)
        return lambda: equal(write(), want), items | new

    def delete(self, items: dict[int, tuple[bytes, int]]) -> Any:
        doomed = set(self.numbers(40))
        want = len(doomed & items.keys())
        left = {number: one for number, one in items.items() if number not in doomed}
        return lambda: equal(self.collection.delete([name(number) for number in doomed]), want), left

    def delete_where(self, items: dict[int, tuple[bytes, int]]) -> Any:
        label, odd = int(self.rng.integers(LABELS)), int(self.rng.integers(2))
        filter = {"label": label, "odd": odd}
        left = {number: one for number, one in items.items() if one[1] != label or number % 2 != odd}
        return lambda: equal(self.collection.delete_where(filter), len(items) - len(left)), left

    # -- the readers ---------------------------------------------------------------------------------------

    def read(self, rng: np.random.Generator) -> None:
        while self.goes_on():
            kind = KINDS[rng.integers(len(KINDS))]
            question = self.question(kind, rng)
            first = self.acknowledged
            got, method = question.asked(self.collection)
            last = len(self.states)
            if not any(question.answer(self.states[at]) == got for at in range(first, last)):
                self.failures.append(f"{question} was answered {got}, which holds in no state of {first} to {last - 1}")
            self.done.update([kind, method])

    def question(self, kind: str, rng: np.random.Generator) -> Question:
        centre = self.centres[rng.integers(len(self.centres))]
        code = centre ^ np.packbits(rng.random(64) < 0.02)
        k, radius = int(rng.integers(1, 30)), int(rng.integers(0, rng.choice([9, 9, 9, 65])))
        if kind == "k":
            return Question(code, k=k)
        if kind == "radius":
            return Question(code, radius=radius, limit=int(rng.choice([5, 1000])))
        if kind == "k within radius":
            return Question(code, k=k, radius=radius)
        if kind == "count":
            return Question(code, radius=radius, count_only=True)
        filter, labels = some_filter(rng)
        which: dict[str, Any] = {"k": k} if rng.random() < 0.5 else {"radius": radius}
        if kind == "filter":
            return Question(code, labels, filter=filter, **which)
        logits = rng.integers(-8, 9, 64) / 4
        logits[0] = 1
        if kind == "soft":
            return Question(code, logits=logits, **which)
        return Question(code, labels, filter=filter, logits=logits, **which)

    def settled(self) -> None:
        """What is left is the last state, in memory, on disk and after a start."""
        want = {name(number): item(number, *one) for number, one in self.items.items()}
        for _ in range(2):
            equal(self.collection.check().faults, ())
            equal({one.id: one for one in self.collection.scan()}, want)
            self.collection.close()
            self.collection = EmbeddedCollection(self.path)
        self.collection.close()


KINDS = ("k", "radius", "k within radius", "count", "filter", "soft", "soft filter")
WRITES = ("put", "put_codes", "update", "delete", "delete_where")


def item(number: int, code: bytes, label: int) -> Item:
    return Item(name(number), code, None if label == NO_LABEL else {"label": label, "odd": number % 2})


def some_filter(rng: np.random.Generator) -> tuple[dict[str, Any], frozenset[int]]:
    """More filters than are kept, and the labels that each selects."""
    low, high = sorted(int(label) for label in rng.integers(0, LABELS + 1, 2))
    every = frozenset(range(LABELS))
    return [
        ({"label": low}, frozenset([low])),
        ({"label": {"$ne": low}}, (every | {NO_LABEL}) - {low}),
        ({"label": {"$gte": low, "$lt": high}}, frozenset(range(low, high))),
        ({"label": {"$exists": False}}, frozenset([NO_LABEL])),
        ({"nobody.has.this": {"$exists": False}}, every | {NO_LABEL}),
        ({"nobody.has.this": low}, frozenset[int]()),
    ][rng.integers(6)]


def equal(got: object, want: object) -> None:
    assert got == want, f"{got} is not {want}"


def main(root: str, seconds: str, seed: str) -> int:
    """Run the storm; prints how often what was done."""
    sys.setswitchinterval(1e-4)  # threads take turns often
    # What happens at many items is made to happen at few: buckets, no scan instead of them, filters worked out.
    MultiHashIndex = multihash.MultiHashIndex
    MultiHashIndex.build.__func__.__kwdefaults__["hashed_from"] = 0  # type: ignore[attr-defined]
    multihash.PRICES = np.zeros(3)
    query.CHECKED = 12
    storm = Storm(Path(root), float(seconds), int(seed))
    replace = Live._replace

    def counted(self: Live, earlier: Any, base: Any) -> None:
        storm.done["merge"] += 1
        replace(self, earlier, base)

    Live._replace = counted  # type: ignore[method-assign]
    storm.run()
    storm.done["states"] = len(storm.states)
    print("\n".join(storm.failures[:3]) or json.dumps(storm.done))  # noqa: T201
    return 1 if storm.failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
