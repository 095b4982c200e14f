"""The benchmark of the service over HTTP: what a search costs the server, beside the smallest FastAPI application.

Both run under the same settings of uvicorn, are driven by the same client in turns, and are measured by the processor
time that their processes use. No query comes twice before all have come once.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import Codes, Item
from models.data import Dataset

from ..engine import Engine
from ..settings import Settings
from ..training import Training, train
from . import machine
from .codes import clustered
from .drive import Load, Server, drive, in_turn, post, serving
from .echo import PATH as ECHO
from .table import table

QUERIES = 20_000
VECTORS = 500
DIM = 784
_CODES = "codes"
_STREAM = 500_000


@dataclass(frozen=True, slots=True)
class HttpRow:
    """One kind of request at one number of connections; times in microseconds."""

    what: str
    connections: int
    cpu_us: float
    echo_cpu_us: float  # of a request as small as a search by code
    same_cpu_us: float  # of a request of the same size
    p50_us: float
    p99_us: float
    echo_p50_us: float
    per_second: float
    echo_per_second: float

    @property
    def ratio(self) -> float:
        """The server's time beside that of the bare echo; below 1 praises us."""
        return self.cpu_us / self.echo_cpu_us

    @property
    def same_ratio(self) -> float:
        """The same beside an echo of as many bytes."""
        return self.cpu_us / self.same_cpu_us


@dataclass(frozen=True, slots=True)
class HttpReport:
    """What was measured, in order."""

    facts: dict[str, str]
    rows: Sequence[HttpRow]

    def as_dict(self) -> dict[str, Any]:
        rows = [{**asdict(row), "ratio": row.ratio, "same_ratio": row.same_ratio} for row in self.rows]
        return {"facts": self.facts, "rows": rows}

    def markdown(self) -> list[str]:
        lines = [f"- {name}: {value}" for name, value in self.facts.items()]
        cells = [
            (
                row.what,
                str(row.connections),
                *(f"{value:,.0f}" for value in (row.cpu_us, row.echo_cpu_us, row.same_cpu_us)),
                f"{row.ratio:.2f}x",
                f"{row.same_ratio:.2f}x",
                *(f"{value:,.0f}" for value in (row.p50_us, row.p99_us, row.echo_p50_us)),
                *(f"{value:,.0f}" for value in (row.per_second, row.echo_per_second)),
            )
            for row in self.rows
        ]
        return [*lines, "", *table(_HEAD, cells)]


_HEAD = (
    "request | connections | server us | bare echo us | echo of that size us | of the bare echo | of that size "
    "| p50 us | p99 us | echo p50 us | a second | echo a second"
)


def http_benchmark(
    *,
    items: int,
    bits: int,
    families: Sequence[str],
    connections: Sequence[int],
    seconds: float,
    rounds: int,
    seed: int,
    say: Callable[[str], None],
) -> HttpReport:
    """Measure a service with `items` codes, and as many vectors' codes of a model of each of `families`.

    seconds: of each measurement of each server, in `rounds` parts, in turns.
    """
    facts = machine.facts(["fastapi", "uvicorn", "uvloop", "httptools", "pydantic", "torch"])
    facts["codes"] = f"{items:,} x {bits} bits, clustered, seed {seed}; {QUERIES:,} queries"
    rows: list[HttpRow] = []
    with TemporaryDirectory() as name:
        root = Path(name)
        queries = _prepare(root, items, bits, families, seed, say)
        arguments = ("serve", "--port", "{port}", "--data-dir", str(root))
        with (
            serving("service", *arguments, ready="/readyz") as ours,
            serving("service.bench.echo", "{port}", ready="/openapi.json") as echo,
        ):
            bodies = _bodies(queries, families, seed)
            smallest = next(iter(bodies.values()))
            for what, cases in bodies.items():
                for number in connections:
                    row = _measured(what, cases, smallest, number, ours, echo, seconds, rounds)
                    rows.append(row)
                    say(f"{what}, {number} connections: {row.cpu_us:.0f} us, {row.ratio:.2f}x the bare echo")
            facts["codes stored, application/x-ndjson"] = _ingested(ours, bits, seed)
    return HttpReport(facts, rows)


def _prepare(
    root: Path, items: int, bits: int, families: Sequence[str], seed: int, say: Callable[[str], None]
) -> Codes:
    """Fill a data directory; returns codes to ask for `(QUERIES, bits / 8)`."""
    codes, queries = clustered(items, bits, QUERIES, seed)
    rng = np.random.default_rng(seed)
    with Engine(Settings(data_dir=root)) as engine:
        made = [engine.create_collection(_CODES, None, bits, False)]
        for family in families:
            say(f"training {family}")
            data = Dataset("vectors", "vector", _vectors(rng, 2_000), [f"v{n}" for n in range(2_000)])
            draft = engine.registry.draft(family)
            epochs = {} if family in ("itq", "lsh", "pca-sign") else {"epochs": 1}
            for _ in train(Training(family, family, bits, epochs, seed), data, draft):
                pass
            entry = engine.registry.add(family, draft)
            made.append(engine.collection_for(family, entry, keep_inputs=False))
        for collection in made:
            mark = collection.fingerprint
            for at in range(0, items, 10_000):
                part = enumerate(codes[at : at + 10_000], at)
                collection.put(
                    [Item(f"item-{n:09d}", code.tobytes(), {"label": n % 10}) for n, code in part], fingerprint=mark
                )
            engine.catalogue.embedded.get(collection.name).merge()
    return queries


def _vectors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(0).normal(size=(50, DIM))
    made: NDArray[np.float32] = (centres[rng.integers(0, 50, count)] + rng.normal(size=(count, DIM))).astype(np.float32)
    return made


def _bodies(queries: Codes, families: Sequence[str], seed: int) -> dict[str, list[bytes]]:
    """What is sent, by the name of the case."""
    asked = [code.tobytes().hex() for code in queries]
    bodies = {
        "by code, k = 10": [_json(collection=_CODES, query={"code": code}, k=10) for code in asked],
        "by code, radius 6": [_json(collection=_CODES, query={"code": code}, radius=6) for code in asked],
    }
    vectors = _vectors(np.random.default_rng(seed + 1), VECTORS)
    for family in families:
        bodies[f"{DIM} floats, {family}, k = 10"] = [
            _json(collection=family, query={"vector": [round(float(x), 6) for x in vector]}, k=10) for vector in vectors
        ]
        bodies[f"{DIM} floats in base64, {family}, k = 10"] = [
            _json(collection=family, query={"vector_b64": base64.b64encode(vector.tobytes()).decode()}, k=10)
            for vector in vectors
        ]
    return bodies


def _json(**members: Any) -> bytes:
    return json.dumps(members).encode()


def _measured(
    what: str,
    bodies: Sequence[bytes],
    smallest: Sequence[bytes],
    connections: int,
    ours: Server,
    echo: Server,
    seconds: float,
    rounds: int,
) -> HttpRow:
    mine, bare, same = Load(), Load(), Load()
    contestants: list[tuple[Server, Iterator[bytes], Load]] = [
        (ours, in_turn([post("/search", body) for body in bodies]), mine),
        (echo, in_turn([post(ECHO, body) for body in smallest]), bare),
        (echo, in_turn([post(ECHO, body) for body in bodies]), same),
    ]
    for server, requests, _ in contestants:
        drive(server, requests, connections, seconds / rounds / 4, Load())  # warms up, and does not count
    for _ in range(rounds):
        for server, requests, load in contestants:
            drive(server, requests, connections, seconds / rounds, load)
    return HttpRow(
        what,
        connections,
        mine.cpu_us,
        bare.cpu_us,
        same.cpu_us,
        mine.latency_us(50),
        mine.latency_us(99),
        bare.latency_us(50),
        mine.per_second,
        bare.per_second,
    )


def _ingested(server: Server, bits: int, seed: int) -> str:
    """How fast a stream of codes is stored."""
    codes, _ = clustered(_STREAM, bits, 1, seed + 1)
    lines = b"".join(
        b'{"id":"new-%09d","code":"%s"}\n' % (place, code.tobytes().hex().encode()) for place, code in enumerate(codes)
    )
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    started, spent = time.perf_counter(), server.cpu()
    connection.request("POST", f"/ingest?collection={_CODES}", lines, {"content-type": "application/x-ndjson"})
    reply = connection.getresponse()
    said = reply.read()
    took, used = time.perf_counter() - started, server.cpu() - spent
    connection.close()
    if reply.status != 200:
        raise RuntimeError(f"the stream was refused: {said[:500].decode()}")
    return f"{_STREAM / took:,.0f} a second, {1e6 * used / _STREAM:.1f} us of the server's processor each"
