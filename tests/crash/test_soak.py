"""Full load for ten minutes, or SOAK_SECONDS: memory stays flat, nothing leaks, nothing fails. (reliability.md X1, X4)

A real server on this machine, closed-loop clients beside it: searches by code, vector, image, stored item, with filters
and soft; ingest of codes, vectors, images, streams; deletion; generation; and a housekeeper that makes, snapshots,
restores, replaces, compacts and deletes collections. What is stored is bounded, so memory has to be, too.

    SOAK_SECONDS=600 pytest -m slow -s tests/crash/test_soak.py

Criteria, after a warm-up of a fifth of the time: the resident memory's fitted growth over the rest of the run is below
`GROWTH` of it; idle again, the server has the threads and descriptors that it had when it was idle after the warm-up,
none to a file that is gone, and to each store no more connections than there were readers at once;
every reply is a 2xx, save a 404 for an item that its own client deleted; at the end what is stored is what was
acknowledged. The p99 of each operation is printed, with the conditions.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import png, server

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
CLIENTS = 6
GROWTH = 0.05 if SECONDS >= 300 else 0.15
"""Of memory. In a short run what is filled once (pools, caches, the allocator's own) weighs more."""
SLACK = 3
"""Threads and descriptors: a merge or a retired connection may be on its way just when it is counted."""
AT_ONCE = CLIENTS + 4
"""Connections to a store: its writer's, and one for each that has ever read at once; these are kept."""
RING = 3000
"""Ids of each client, written over and over."""
JSON = {"content-type": "application/json"}


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_ten_minutes_at_full_load(data_dir: Path) -> None:
    seed = random.randrange(2**32)
    print(f"\nseed {seed}, {SECONDS:g} s, {CLIENTS} clients and a housekeeper")  # noqa: T201
    with server(data_dir) as (address, process):
        soak = Soak(int(address.rsplit(":", 1)[1]), process.pid, seed)
        soak.prepare()
        soak.load(SECONDS / 5)
        before = soak.idle()
        soak.timings.clear()
        soak.load(SECONDS * 4 / 5)
        after = soak.idle()
        soak.report(before, after)
        soak.settled()
        assert soak.growth() < GROWTH, f"memory grew by {soak.growth():.1%} of itself"
        assert after.memory < before.memory * (1 + GROWTH), (before, after)
        assert after.threads <= before.threads + SLACK, (before, after)
        assert after.others <= before.others + SLACK, (before, after)
        assert after.deleted == []
        assert len(after.stores) == len(before.stores)
        assert max(after.stores.values()) <= AT_ONCE, after.stores
    log = (data_dir.parent / f"server-{soak.port}.log").read_text()
    assert "Traceback" not in log
    assert '"level": "error"' not in log.lower()


class Sample:
    """What the server takes at one moment."""

    def __init__(self, pid: int) -> None:
        self.at = time.monotonic()
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        self.memory = int(text.split("Rss:")[1].split()[0]) / 1024  # MiB
        self.threads = len(os.listdir(f"/proc/{pid}/task"))
        self.stores: Counter[str] = Counter()  # descriptors of each store's main file: one a connection
        self.deleted: list[str] = []
        self.others = 0
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed since
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.endswith(" (deleted)"):
                    self.deleted.append(target)
                elif target.endswith("/items.db"):
                    self.stores[target] += 1
                elif not target.endswith(("/items.db-wal", "/items.db-shm")):
                    self.others += 1

    def __repr__(self) -> str:
        return (
            f"{self.memory:.0f} MiB, {self.threads} threads, {self.others} descriptors and those of "
            f"{sum(self.stores.values())} connections to {len(self.stores)} stores"
        )


class Soak:
    """The clients, and what they saw."""

    def __init__(self, port: int, pid: int, seed: int) -> None:
        self.port, self.pid = port, pid
        self.timings: dict[str, list[float]] = defaultdict(list)
        self.samples: list[Sample] = []
        self.failures: list[str] = []
        self.clients = [Client(self, number, random.Random(seed + number)) for number in range(CLIENTS)]
        self.keeper = Housekeeper(self, random.Random(seed - 1))
        self.stop = threading.Event()

    def prepare(self) -> None:
        with self.keeper.connected():
            self.keeper.ask("prepare", "POST", "/collections", {"name": "codes", "bits": 64, "indexes": ["n"]})

    def load(self, seconds: float) -> None:
        """Everybody at work for so long."""
        self.stop.clear()
        threads = [threading.Thread(target=self._watched, args=(one,)) for one in (*self.clients, self.keeper)]
        self.samples = []
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.failures:
            self.samples.append(Sample(self.pid))
            time.sleep(min(1.0, seconds / 20))
        self.stop.set()
        for thread in threads:
            thread.join()
        assert self.failures == [], f"after {seconds - deadline + time.monotonic():.0f} s: {self.failures[0]}"

    def _watched(self, who: Client | Housekeeper) -> None:
        try:
            with who.connected():
                while not (self.stop.is_set() or self.failures):
                    who.act()
        except BaseException:
            self.failures.append(traceback.format_exc())

    def idle(self) -> Sample:
        """When connections that nobody uses have ended (after 5 s) and merges are made."""
        time.sleep(8)
        return Sample(self.pid)

    def growth(self) -> float:
        """The line through the samples of memory: how much it rises over the whole time, as a share."""
        at = np.array([sample.at for sample in self.samples])
        memory = np.array([sample.memory for sample in self.samples])
        slope, _ = np.polyfit(at - at[0], memory, 1)
        return float(slope * (at[-1] - at[0]) / memory.mean())

    def report(self, before: Sample, after: Sample) -> None:
        seconds = self.samples[-1].at - self.samples[0].at
        lines = [f"{'operation':30}{'calls':>9}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}"]
        for name, times in sorted(self.timings.items()):
            p50, p99, most = np.percentile(times, [50, 99, 100]) * 1000
            lines.append(f"{name:30}{len(times):9}{len(times) / seconds:10.1f}{p50:9.1f}{p99:9.1f}{most:9.1f}")
        asked = sum(map(len, self.timings.values())) / seconds
        memory = [sample.memory for sample in self.samples]
        fifths = [np.mean(part) for part in np.array_split(memory, 5)]
        lines += [
            f"all: {asked:.0f} requests a second, {os.cpu_count()} cores shared with the clients, load average "
            f"{os.getloadavg()[0]:.1f}",
            f"memory under load, by fifths of the time: {', '.join(f'{part:.0f}' for part in fifths)} MiB; fitted "
            f"growth {self.growth():+.2%} over {seconds:.0f} s, which is "
            f"{self.growth() * np.mean(memory) * 60 / seconds:+.2f} MiB a minute; at most {GROWTH:.0%} allowed",
            f"threads under load: at most {max(sample.threads for sample in self.samples)}; connections to one store: "
            f"at most {max(max(sample.stores.values()) for sample in self.samples)}",
            f"idle after the warm-up: {before!r}; at the end: {after!r}",
        ]
        print("\n".join(lines))  # noqa: T201

    def settled(self) -> None:
        """What is stored is what the clients know to have been stored."""
        want = {id: code for client in self.clients for id, code in client.stored.items()}
        found: dict[str, str] = {}
        cursor = ""
        with self.keeper.connected():
            while cursor is not None:
                more = f"&cursor={cursor}" if cursor else ""
                page = self.keeper.ask("settled", "GET", f"/collections/codes/items?limit=1000{more}")
                found |= {item["id"]: item["code"] for item in page["items"]}
                cursor = page["cursor"]
            assert found == want
            search = {"collection": "codes", "query": {"code": "0" * 16}, "radius": 64, "count_only": True}
            assert self.keeper.ask("settled", "POST", "/search", search)["total"] == len(want)


class Caller:
    """Somebody with a connection."""

    def __init__(self, soak: Soak, rng: random.Random) -> None:
        self.soak, self.rng = soak, rng
        self._connection: http.client.HTTPConnection

    @contextmanager
    def connected(self) -> Iterator[None]:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.soak.port, timeout=120)
        try:
            yield
        finally:
            self._connection.close()

    def ask(
        self, name: str, method: str, path: str, body: Any = None, *, also: int = 0, headers: dict[str, str] = JSON
    ) -> Any:
        """The reply; `also` is a status besides 2xx that is right, too, and gives None."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        started = time.perf_counter()
        self._connection.request(method, path, data, headers)
        reply = self._connection.getresponse()
        content = reply.read()
        self.soak.timings[name].append(time.perf_counter() - started)
        if reply.status == also:
            return None
        assert 200 <= reply.status < 300, f"{method} {path}: {reply.status} {content[:500]!r}"
        if reply.getheader("content-type", "").startswith("application/json"):
            return json.loads(content)
        return content


class Client(Caller):
    """Searches and writes; nobody else touches its ids."""

    def __init__(self, soak: Soak, number: int, rng: random.Random) -> None:
        super().__init__(soak, rng)
        self.number = number
        self.stored: dict[str, str] = {}
        shapes = np.random.default_rng(number)
        self.vectors = [base64.b64encode(shapes.normal(size=24).astype("<f4").tobytes()).decode() for _ in range(100)]
        self.images = [png(shapes.integers(0, 256, (8, 8, 1)).astype(np.uint8)) for _ in range(50)]
        works: list[tuple[Callable[[], None], int]] = [
            (self.search_code, 20),
            (self.search_radius, 15),
            (self.search_vector, 15),
            (self.search_image, 6),
            (self.search_filter, 5),
            (self.search_soft, 2),
            (self.search_batch, 2),
            (self.ingest_codes, 10),
            (self.ingest_vectors, 6),
            (self.ingest_images, 2),
            (self.ingest_stream, 1),
            (self.delete_ids, 4),
            (self.delete_filter, 1),
            (self.get_item, 4),
            (self.list_items, 1),
            (self.generate, 2),
            (self.denoise, 1),
            (self.encode, 2),
            (self.decode, 1),
            (self.look_around, 1),
        ]
        self.works, self.weights = zip(*works, strict=True)

    def act(self) -> None:
        self.rng.choices(self.works, self.weights)[0]()

    # -- searches ------------------------------------------------------------------------------------------

    def search(self, name: str, **search: Any) -> Any:
        return self.ask(f"search {name}", "POST", "/search", search)

    def code(self) -> str:
        """Of few, so that some are near."""
        return f"{self.rng.getrandbits(12) * 0x0010_0100_1001_0010 & (1 << 64) - 1:016x}"

    def search_code(self) -> None:
        self.search("code", collection="codes", query={"code": self.code()}, k=self.rng.choice([1, 10, 100]))

    def search_radius(self) -> None:
        self.search("radius", collection="codes", query={"code": self.code()}, radius=self.rng.randrange(7), limit=100)

    def search_vector(self) -> None:
        self.search("vector", collection="vectors", query={"vector_b64": self.rng.choice(self.vectors)}, k=10)

    def search_image(self) -> None:
        self.search("image", collection="digits", query={"image": self.rng.choice(self.images)}, k=10)

    def search_filter(self) -> None:
        filter = {"n": {"$lt": self.rng.randrange(RING)}, "client": self.number}
        self.search("filter", collection="codes", query={"code": self.code()}, k=10, filter=filter)

    def search_soft(self) -> None:
        query = {"vector_b64": self.rng.choice(self.vectors)}
        self.search("soft", collection="vectors", query=query, k=10, rerank="soft")

    def search_batch(self) -> None:
        searches = [{"collection": "codes", "query": {"code": self.code()}, "k": 5} for _ in range(20)]
        self.ask("search batch of 20", "POST", "/search/batch", {"searches": searches})

    # -- writes --------------------------------------------------------------------------------------------

    def some(self, count: int) -> dict[str, str]:
        """Ids of this client with new codes."""
        return {f"c{self.number}-{number}": self.code() for number in self.rng.sample(range(RING), count)}

    def lines(self, items: dict[str, str]) -> list[dict[str, Any]]:
        return [
            {"id": id, "code": code, "payload": {"n": int(id.split("-")[1]), "client": self.number}}
            for id, code in items.items()
        ]

    def ingest_codes(self) -> None:
        items = self.some(50)
        reply = self.ask("ingest 50 codes", "POST", "/ingest", {"collection": "codes", "items": self.lines(items)})
        self.stored |= items
        assert reply["created"] + reply["updated"] + reply["unchanged"] == 50

    def ingest_stream(self) -> None:
        items = self.some(1000)
        body = b"".join(json.dumps(line).encode() + b"\n" for line in self.lines(items))
        kind = {"content-type": "application/x-ndjson"}
        self.ask("ingest 1000 lines", "POST", "/ingest?collection=codes", body, headers=kind)
        self.stored |= items

    def ingest_vectors(self) -> None:
        items = [
            {"id": f"c{self.number}-{self.rng.randrange(300)}", "vector_b64": self.rng.choice(self.vectors)}
            for _ in range(10)
        ]
        self.ask("ingest 10 vectors", "POST", "/ingest", {"collection": "vectors", "items": items})

    def ingest_images(self) -> None:
        items = [
            {"id": f"c{self.number}-{self.rng.randrange(100)}", "image": self.rng.choice(self.images)} for _ in range(4)
        ]
        self.ask("ingest 4 images", "POST", "/ingest", {"collection": "digits", "items": items})

    def delete_ids(self) -> None:
        ids = [f"c{self.number}-{number}" for number in self.rng.sample(range(RING), 100)]
        reply = self.ask("delete 100 ids", "POST", "/collections/codes/delete", {"ids": ids})
        gone = [id for id in ids if self.stored.pop(id, None) is not None]
        assert reply["deleted"] == len(gone)

    def delete_filter(self) -> None:
        start = self.rng.randrange(RING)
        numbers = range(start, min(RING, start + 50))
        filter = {"client": self.number, "n": {"$gte": numbers.start, "$lt": numbers.stop}}
        reply = self.ask("delete by filter", "POST", "/collections/codes/delete", {"filter": filter})
        gone = [number for number in numbers if self.stored.pop(f"c{self.number}-{number}", None) is not None]
        assert reply["deleted"] == len(gone)

    # -- the rest ------------------------------------------------------------------------------------------

    def get_item(self) -> None:
        id = f"c{self.number}-{self.rng.randrange(RING)}"
        reply = self.ask("get item", "GET", f"/collections/codes/items/{id}", also=404)
        assert (reply and reply["code"]) == self.stored.get(id)

    def list_items(self) -> None:
        self.ask("list 100 items", "GET", "/collections/digits/items?limit=100&include=input")

    def generate(self) -> None:
        body = {"model": "digits-vae", "n": 4, "seed": self.rng.randrange(1000), "collection": "digits"}
        assert len(self.ask("generate 4", "POST", "/generate", body)["items"]) == 4

    def denoise(self) -> None:
        body = {"model": "digits-denoise", "input": {"image": self.rng.choice(self.images)}, "steps": 2}
        self.ask("denoise", "POST", "/denoise", body)

    def encode(self) -> None:
        inputs = [{"image": image} for image in self.rng.sample(self.images, 8)]
        self.ask("encode 8 images", "POST", "/encode", {"model": "digits-hash", "inputs": inputs})

    def decode(self) -> None:
        self.ask("decode", "POST", "/decode", {"model": "digits-hash", "codes": [self.code()]})

    def look_around(self) -> None:
        for path in ("/collections", "/models", "/jobs", "/readyz", "/metrics", "/collections/codes/health"):
            self.ask(f"GET {path}", "GET", path)


class Housekeeper(Caller):
    """Makes and ends collections, and moves them about."""

    def act(self) -> None:
        name = f"temporary-{self.rng.randrange(10**9)}"
        self.ask("create", "POST", "/collections", {"name": name, "bits": 128})
        items = [{"id": f"i{n}", "code": f"{self.rng.getrandbits(128):032x}"} for n in range(500)]
        self.ask("ingest 500 new", "POST", "/ingest", {"collection": name, "items": items})
        self.ask("snapshot", "POST", f"/collections/{name}/snapshots?name=one")
        data = self.ask("fetch snapshot", "GET", f"/collections/{name}/snapshots/one")
        self.ask("restore", "POST", f"/collections/{name}-again/restore", {"snapshot": "one", "source": name})
        self.ask("delete items", "POST", f"/collections/{name}/delete", {"filter": {}})
        self.ask("compact", "POST", f"/collections/{name}/compact")
        self.ask("replace", "POST", f"/collections/{name}/restore", {"snapshot": "one", "replace": True})
        kind = {"content-type": "application/x-tar"}
        self.ask("upload", "POST", f"/snapshots/restore?collection={name}-sent", data, headers=kind)
        search = {"query": {"id": "i7"}, "radius": 128, "count_only": True}
        for copy in (name, f"{name}-again", f"{name}-sent"):
            assert self.ask("search copy", "POST", "/search", {"collection": copy, **search})["total"] == 500
            self.ask("delete collection", "DELETE", f"/collections/{copy}")
        self.ask("delete snapshot", "DELETE", f"/collections/{name}/snapshots/one")
        self.ask("snapshot digits", "POST", "/collections/digits/snapshots?name=now")
        self.ask(
            "replace digits",
            "POST",
            "/collections/digits-twin/restore",
            {"snapshot": "now", "source": "digits", "replace": True},
        )
        self.ask("delete snapshot", "DELETE", "/collections/digits/snapshots/now")
        self.soak.stop.wait(1)
