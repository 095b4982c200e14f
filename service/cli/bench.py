"""hammingbird bench"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .base import FAILED, AsJson, app, friendly, print_json, say

bench = typer.Typer(
    help="Measure this machine: searches side by side with other engines.\n\n"
    "Example: hammingbird bench index --items 10000000 --bits 64",
    no_args_is_help=True,
)
app.add_typer(bench, name="bench")

_NO_LIMIT = 1 << 62
_PEERS = ["faiss-multihash", "numpy", "usearch", "sqlite-vec", "lancedb"]


def _show(report: object, as_json: bool) -> None:
    from ..bench import Report

    assert isinstance(report, Report)
    if as_json:
        print_json(report.as_dict())
    else:
        sys.stdout.write("\n".join(report.markdown()) + "\n")
    if report.broken:
        raise typer.Exit(FAILED)


@bench.command()
@friendly
def index(
    items: Annotated[int, typer.Option(help="How many codes.", min=1000)] = 1_000_000,
    bits: Annotated[int, typer.Option(help="Width of a code.")] = 64,
    radius: Annotated[list[int] | None, typer.Option(help="Radius to search within; repeatable.")] = None,
    k: Annotated[list[int] | None, typer.Option("-k", help="Nearest neighbours to search for; repeatable.")] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help=f"Other engine; repeatable; none for none. All: {', '.join(_PEERS)}.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for each question and engine.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the codes, the queries and their order.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Exact Hamming search side by side.

    Example: hammingbird bench index --items 10000000 --bits 64

    The codes are clustered as real ones are. Every engine answers the same queries, interleaved in one run on one core,
    and every answer is compared with that of FAISS; one that should be exact and is not makes this command fail.
    """
    from functools import partial

    from index.multihash import MultiHashIndex

    from ..bench import IndexPeer, index_benchmark

    wanted = _PEERS if peer is None else [name for name in peer if name != "none"]
    for name in wanted:
        if name not in _PEERS:
            raise typer.BadParameter(f"there is no engine {name!r}; there are: {', '.join(_PEERS)}")
    report = index_benchmark(
        items=items,
        bits=bits,
        radii=radius or [0, 2, 4, 8],
        ks=k or [10, 100],
        peers=wanted,
        seconds=seconds,
        seed=seed,
        ours=IndexPeer.maker(MultiHashIndex.build, "Hammingbird"),
        also=[
            IndexPeer.maker(partial(MultiHashIndex.build, inline_bytes=_NO_LIMIT), "Hammingbird, inline"),
            IndexPeer.maker(partial(MultiHashIndex.build, hashed_from=_NO_LIMIT), "Hammingbird, scan"),
        ],
        say=say,
    )
    _show(report, as_json)


@bench.command()
@friendly
def store(
    items: Annotated[int, typer.Option(help="How many codes.", min=100_000)] = 1_000_000,
    bits: Annotated[int, typer.Option(help="Width of a code.")] = 64,
    radius: Annotated[int, typer.Option(help="Radius of the groups.", min=0)] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Where to store; on the disk to be measured.", exists=True, file_okay=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the codes.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Storing, starting and grouping, in process and over HTTP.

    Example: hammingbird bench store --items 10000000
    """
    from ..bench.store import store_benchmark

    report = store_benchmark(items=items, bits=bits, radius=radius, seed=seed, folder=folder, say=say)
    if as_json:
        print_json(report.as_dict())
    else:
        sys.stdout.write("\n".join(report.markdown()) + "\n")


@bench.command()
@friendly
def http(
    items: Annotated[int, typer.Option(help="How many codes.", min=1000)] = 100_000,
    bits: Annotated[int, typer.Option(help="Width of a code.")] = 64,
    family: Annotated[list[str] | None, typer.Option(help="Model of the vectors; repeatable.")] = None,
    connections: Annotated[
        list[int] | None, typer.Option(help="Requests at a time, each on a connection of its own; repeatable.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for each measurement of each server.")] = 3,
    rounds: Annotated[int, typer.Option(help="Turns that this time is cut into.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of the codes and the queries.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Searches over HTTP beside the smallest FastAPI application.

    Example: hammingbird bench http --items 100000

    Both servers are driven in turns by one client, under the same settings of uvicorn; what counts is the processor
    time that a server takes for a request.
    """
    from ..bench.http import http_benchmark

    report = http_benchmark(
        items=items,
        bits=bits,
        families=family or ["itq", "binary-autoencoder"],
        connections=connections or [1, 8, 32],
        seconds=seconds,
        rounds=rounds,
        seed=seed,
        say=say,
    )
    if as_json:
        print_json(report.as_dict())
    else:
        sys.stdout.write("\n".join(report.markdown()) + "\n")


@bench.command()
@friendly
def scale(
    items: Annotated[list[int] | None, typer.Option(help="How many items; repeatable.", min=1000)] = None,
    bits: Annotated[int, typer.Option(help="Width of a code.")] = 64,
    payloads: Annotated[bool, typer.Option("--payloads", help="Give every item a payload of one number.")] = False,
    shuffled: Annotated[bool, typer.Option("--shuffled", help="Let ids come in no order.")] = False,
    over_http: Annotated[bool, typer.Option("--http", help="Ask a service over HTTP as well.")] = False,
    seconds: Annotated[float, typer.Option(help="Time for each question.")] = 10,
    folder: Annotated[
        Path | None, typer.Option(help="Where to store; on the disk to be measured.", exists=True, file_okay=False)
    ] = None,
    milvus_uri: Annotated[
        str | None, typer.Option(help="Measure a collection in this Milvus: http://host:19530, or a Lite file.")
    ] = None,
    milvus_pid: Annotated[
        int | None,
        typer.Option(help="Process of that Milvus, if it runs here: its memory and processor time are told."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the codes and the queries.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What so many items take of a machine: disk, memory, time to store and to start, searches a second.

    Example: hammingbird bench scale --items 1000000 --items 10000000

    40 answers are compared with a plain comparison with every code; a wrong one makes this command fail.
    """
    from ..bench.scale import scale_benchmark

    report = scale_benchmark(
        items=items or [1_000_000],
        bits=bits,
        payloads=payloads,
        shuffled=shuffled,
        http=over_http,
        seconds=seconds,
        seed=seed,
        folder=folder,
        milvus_uri=milvus_uri,
        milvus_pid=milvus_pid,
        say=say,
    )
    if as_json:
        print_json(report.as_dict())
    else:
        sys.stdout.write("\n".join(report.markdown()) + "\n")
    if report.broken:
        raise typer.Exit(FAILED)
