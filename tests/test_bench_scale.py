"""`bench scale`: the stages do what they say, a wrong answer fails, and the report has every figure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from index import Catalogue, hamming
from index.milvus import Connection, MilvusCatalogue
from service.bench.asking import ask, forget
from service.bench.codes import clustered, in_parts
from service.bench.filling import fill, ids_of, label_of
from service.bench.scale import Embedded, ScaleReport, Size, scale_benchmark
from service.bench.workload import COUNTED, RADIUS, Asked, Filled, Opened, Work
from service.cli import app

ITEMS = 20_000


def test_codes_in_parts_are_those_that_come_at_once() -> None:
    for items in (1, 16_384, 40_000):
        assert np.array_equal(np.concatenate(list(in_parts(items, 72, 5))), clustered(items, 72, 1, 5)[0])


@pytest.mark.parametrize("shuffled", [False, True])
def test_ids_have_ten_characters_and_come_once(shuffled: bool) -> None:
    ids = [id for start in (0, 5_000, 2**34) for id in ids_of(start, 5_000, shuffled)]
    assert len(set(ids)) == 15_000
    assert {len(id) for id in ids} <= ({10} if shuffled else {10, 11})
    assert (ids == sorted(ids)) != shuffled


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Work, Filled]:
    work = Work(str(tmp_path_factory.mktemp("scale") / "collections"), "own", ITEMS, 64, 1, 0.05, True, True)
    return work, fill(work)


def test_what_is_filled_is_there_and_counted(filled: tuple[Work, Filled]) -> None:
    work, done = filled
    codes, queries = clustered(ITEMS, 64, COUNTED, 1)
    for query, counts in zip(queries, done.distances, strict=True):
        assert np.array_equal(np.bincount(hamming(codes, query), minlength=65), counts)
    assert done.seconds > done.merge_seconds > 0
    assert done.written_bytes > 0
    catalogue = Catalogue(Path(work.folder))
    try:
        collection = catalogue.get(work.name)
        assert len(collection) == ITEMS
        assert collection.fields == ["label"]
        for number in (0, ITEMS - 1):
            item = collection.get(ids_of(number, 1, True)[0])
            assert item.code == codes[number].tobytes()
            assert item.payload == {"label": label_of(number)}
    finally:
        catalogue.close()


def test_every_question_is_asked_and_a_wrong_answer_counts(filled: tuple[Work, Filled]) -> None:
    work, done = filled
    opened = ask(work, done.distances, cold=False)
    assert opened.wrong == 0
    assert [(asked.what, asked.threads) for asked in opened.asked] == [
        (what, threads)
        for threads in (1, 2)
        for what in ("10 nearest", f"within {RADIUS}", "10 nearest, filtered", f"within {RADIUS}, filtered")
    ]
    for asked in opened.asked:
        assert 0 < asked.p50_us <= asked.p99_us
        assert asked.per_second > 0
        assert asked.cpu_us > 0
    assert opened.asked[0].found == 10
    assert opened.index_bytes >= 12 * ITEMS
    assert opened.first_filter_seconds is not None

    one_nearer = [[counts[0] + 1, *counts[1:]] for counts in done.distances]
    assert ask(work, one_nearer, cold=True).wrong == 0, "which compares nothing"
    assert ask(work, one_nearer, cold=False).wrong == 2 * COUNTED


def test_a_file_that_is_forgotten_is_still_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    forget(file)
    assert file.read_bytes() == b"x" * 100_000


def test_the_report_has_a_column_for_each_size_and_fails_where_an_answer_is_wrong() -> None:
    work = Work("", "own", 1_000, 64, 0, 1.0, False, False)
    filled = Filled(2.0, 1.0, 0.5, 3_000_000_000, 250_000, [])
    asked = Asked("10 nearest", 1, 100.0, 9_000.0, 20_000.0, 5_000.0, 10.0)
    opened = Opened(1.5, 23_400, 0, 20_000, None, [asked])
    cold = Opened(2.5, 0, 0, 0, None, [replace(asked, what="10 nearest, store read from disk")])
    small = Size(work, filled, opened, Embedded(60_000, 16_000, cold), None, 0.5)
    large = replace(small, work=replace(work, items=2_000), opened=replace(opened, wrong=1))
    assert not ScaleReport({}, [small]).broken
    report = ScaleReport({"cores": "2"}, [small, large])
    assert report.broken
    assert json.loads(json.dumps(report.as_dict()))["broken"] is True
    lines = report.markdown()
    assert len({line.count("|") for line in lines[2:]}) == 1
    for line in (
        "| stored a second | 500 | 1,000 |",
        "| bytes written an item, while filling | 250 | 125 |",
        "| bytes on disk an item, store | 60.0 | 30.0 |",
        "| memory bytes an item, resident | 23.4 | 11.7 |",
        "| most memory while filling | 3.00 GB | 3.00 GB |",
        "| answers compared, 40 | all right | **WRONG** 1 |",
    ):
        assert line in lines, line
    assert not [line for line in ScaleReport({}, [replace(small, embedded=None)]).markdown() if "disk" in line]
    assert any(line.startswith("| 10 nearest, 1 thread | 100/s; p50 9,000 us, p99 20 ms; ") for line in lines)


@pytest.mark.slow
def test_a_collection_in_milvus_is_asked_the_same_and_removed(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite")
    uri = str(tmp_path / "m.db")
    command = ["bench", "scale", "--items", "2000", "--payloads", "--seconds", "0.1", "--milvus-uri", uri, "--json"]
    done = CliRunner().invoke(app, [*command, "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (size,) = json.loads(done.stdout)["sizes"]
    assert size["embedded"] is None
    assert size["opened"]["wrong"] == 0
    assert [asked["threads"] for asked in size["opened"]["asked"]] == [1] * 4 + [8] * 4 + [1]
    catalogue = MilvusCatalogue(Connection(uri), owner="test")
    try:
        assert catalogue.all() == {}
    finally:
        catalogue.close()


@pytest.mark.slow
def test_the_whole_of_it(tmp_path: Path) -> None:
    said: list[str] = []
    report = scale_benchmark(
        items=[3_000, 30_000], bits=64, payloads=True, shuffled=False, http=True, seconds=0.1, seed=0,
        folder=tmp_path, milvus_uri=None, milvus_pid=None, say=said.append,
    )  # fmt: skip
    assert not report.broken
    rows = report.sizes[1].rows()
    assert {"service ready, s", "within 3, HTTP, 8 connections", "a filter's first answer, s"} <= rows.keys()
    assert report.sizes[1].embedded is not None
    assert report.sizes[1].embedded.copy_bytes == 64 + 16 * 30_000
    assert report.sizes[1].served is not None
    assert report.sizes[1].served.resident_bytes > 100_000_000
    assert list(tmp_path.iterdir()) == []
    done = CliRunner().invoke(app, ["bench", "scale", "--items", "1000", "--seconds", "0.1", "--folder", str(tmp_path)])
    assert done.exit_code == 0
    assert "| answers compared, 40 | all right |" in done.stdout
