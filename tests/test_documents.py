"""README and docs: every block runs, every page is found, and nothing that the program has is left out of them."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import embedding
import numpy as np
import pytest
from pages import LANGUAGES, MARKS, ROOT, Block, blocks, follow, keys, pages, words
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from support import part_of, sounds, topics, vectors

from models.base import families
from models.capabilities import CAPABILITIES
from models.data import Dataset, load
from models.images import encode_png
from models.proofs.base import PROOFS
from models.sounds import encode_wav
from service import reference
from service.scopes import PUBLIC

DOCS = ROOT / "docs"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in pages()}
BLOCKS = {name: blocks(path) for name, path in PAGES.items()}


# -- what lies in the reader's folder: small files of the same names -------------------------------------------------


def _folders(root: Path, data: Dataset, encode: Callable[[Any], bytes], suffix: str) -> None:
    """`data` as files, in a folder for each label."""
    assert data.labels is not None
    for item, id, label in zip(data.items, data.ids, data.labels, strict=True):
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{id}{suffix}").write_bytes(encode(item))


def _pictures(seed: int, names: tuple[str, ...] = ("dress", "hat", "t-shirt")) -> Dataset:
    rng = np.random.default_rng(seed)
    items = [rng.integers(0, 256, (24, 20, 3)).astype(np.uint8) for _ in range(30)]
    labels = [names[place % len(names)] for place in range(30)]
    return Dataset("pictures", "image", items, [f"{place:02d}" for place in range(30)], labels)


def photos(folder: Path) -> None:
    _folders(folder / "photos", _pictures(0), encode_png, ".jpg")
    _folders(folder / "queries", _pictures(1), encode_png, ".jpg")
    shutil.copy(folder / "photos" / "dress" / "00.jpg", folder / "query.jpg")
    (folder / "same.csv").write_text("a,b,same\ndress/00.jpg,dress/03.jpg,true\nhat/01.jpg,dress/00.jpg,false\n")


def texts(folder: Path) -> None:
    of_topics = topics(load("python-docs"), 3, 30)
    _folders(folder / "texts", part_of(of_topics, 60), str.encode, "")
    _folders(folder / "queries", part_of(of_topics, 20), str.encode, "")


def recordings(folder: Path) -> None:
    _folders(folder / "sounds", sounds(60), encode_wav, ".wav")


def embeddings(folder: Path) -> None:
    data = vectors(120)
    np.savez(folder / "embeddings.npz", vectors=data.items, ids=[f"word-{place}" for place in range(120)])


def published(folder: Path) -> None:
    """The files that docs/quality.md measures on, with few items in each."""
    digits = part_of(load("digits"), 60)
    for part in ("train", "t10k"):
        pixels = np.repeat(np.repeat(digits.items, 4, 1), 4, 2)[:, 2:30, 2:30, 0]
        header = b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
        labels = np.array(digits.labels, np.uint8)
        header = b"\0\0\x08\x01" + struct.pack(">I", len(labels))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes()))
    for part in ("train", "test"):
        (folder / "made" / f"20news-bydate-{part}" / "sci.space").mkdir(parents=True)
    shutil.make_archive(str(folder / "20news-bydate"), "xztar", folder / "made")
    (folder / "20news-bydate.tar.xz").exists() or (folder / "20news-bydate.tar").rename(folder / "20news-bydate.tar.xz")
    shutil.make_archive(str(folder / "cifar10-jpeg-6k"), "zip", folder / "made")
    table = np.random.default_rng(0).integers(0, 200, (30, 129))
    np.savetxt(folder / "sift-dataset-5k.tsv", table, fmt="%d", delimiter="\t")
    places = np.arange(30)
    np.savez(folder / "sift-5k-4500-500-L2-top100.npz", base_rows=places[:20], query_rows=places[20:])


def long_texts(folder: Path) -> None:
    data = topics(load("python-docs"), 2, 30)
    lines = [json.dumps({"text": text, "id": id}) for text, id in zip(data.items, data.ids, strict=True)]
    (folder / "texts.jsonl").write_text("\n".join(lines))


def no_docker(folder: Path) -> None:
    """`docker run ... hammingbird WORDS` is `hammingbird WORDS`, but for the container, which tests/image has."""
    (folder / ".bin").mkdir()
    command = folder / ".bin" / "docker"
    script = 'while [ "$1" != hammingbird ]; do shift; done; [ $# = 1 ] || HAMMINGBIRD_DATA_DIR=container exec "$@"'
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def nothing(folder: Path) -> None:
    pass


@dataclass(frozen=True)
class Stage:
    """Where a page is followed."""

    files: Callable[[Path], None] = nothing
    demo: str | None = None
    """Where the demo's data lies that is served meanwhile."""
    data: str | None = None
    """Where it lies, not served."""
    needs: tuple[str, ...] = ()
    slow: bool = False


STAGES: Mapping[str, Stage] = {
    "README.md": Stage(photos, "demo"),
    "docs/deploy.md": Stage(),
    "docs/keys.md": Stage(no_docker),
    "docs/milvus.md": Stage(data="hammingbird-data"),
    "docs/operations.md": Stage(no_docker, "hammingbird-data", slow=True),
    "docs/quality.md": Stage(published, needs=("unzip",)),
    "docs/scale.md": Stage(),
    "docs/snapshots.md": Stage(demo="hammingbird-data"),
    "docs/text-embeddings.md": Stage(long_texts, slow=True),
    "docs/training.md": Stage(photos, "demo", slow=True),
    "docs/tutorial-embeddings.md": Stage(embeddings, slow=True),
    "docs/tutorial-photos.md": Stage(photos),
    "docs/tutorial-sounds.md": Stage(recordings, slow=True),
    "docs/tutorial-texts.md": Stage(texts, slow=True),
}
ELSEWHERE = {"docs/cli.md": "tests/test_cli_docs.py"}
FOLLOWED = [name for name, found in BLOCKS.items() if any(block.runs for block in found) and name not in ELSEWHERE]


def test_every_block_says_how_it_is_run() -> None:
    for name, found in BLOCKS.items():
        assert PAGES[name].read_text().count("\n```") == 2 * len(found), f"{name}: a fence within another, or indented"
        for block in found:
            assert block.language in LANGUAGES, f"{name}:{block.line}"
            assert block.mark in ("", *MARKS), f"{name}:{block.line}"
    assert all((ROOT / file).exists() for file in ELSEWHERE.values())
    assert set(FOLLOWED) == set(STAGES), "say in STAGES what lies in the reader's folder"


def check(found: list[Block], said: dict[int, str]) -> None:
    """What a page says is printed, is: by its keys, or by its words."""
    before = None
    for block in found:
        if block.runs:
            before = block.line
        elif block.language in ("json", "text") and block.mark != "example":
            assert before is not None, f"{block.page}:{block.line}: nothing was run that could print this"
            where = f"{block.page}:{block.line}\n{said[before][:2000]}"
            if block.language == "json":
                printed = set(re.findall(r'"(\w+)":', said[before]))
                assert keys(json.loads(block.text)) <= printed, where
            else:
                assert words(block.text) <= words(said[before]), where


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples are written with curl")
@pytest.mark.timeout(300)  # on a machine that is busy with much else
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * STAGES[name].slow) for name in FOLLOWED]
)
def test_a_page_works_as_pasted(name: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = STAGES[name]
    for program in stage.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{name} uses {program}, which is not here")
    folder = tmp_path / "reader"
    folder.mkdir()
    stage.files(folder)
    if there := stage.demo or stage.data:
        shutil.move(data_dir, folder / there)
    embedding.install(tmp_path / "packages")
    with embedding.known(monkeypatch, tmp_path / "packages", name="all-minilm-l6-v2"):
        said = follow(BLOCKS[name], folder, demo=stage.demo, timeout_s=280)
    assert "urn:hammingbird:problem" not in "".join(said.values()), said
    check(BLOCKS[name], said)
    if name == "README.md":
        out = "".join(said.values())
        assert (folder / "digits.png").read_bytes().startswith(b"\x89PNG")
        assert out.count('"hits"') >= 3
        assert '"score":' in out
        assert out.count('"created":2') == 1
        assert '"id":"b","distance":1' in out
        assert "dress/00.jpg" in out


DATA = os.environ.get("EVALUATION_DATA")
"""A folder with the published files that the tutorials' figures are of; see docs/README.md."""


def _clothing(folder: Path) -> None:
    shutil.unpack_archive(Path(DATA or "") / "clothing-photos" / "clothing-200.zip", folder)
    root = next(path for path in folder.rglob("train"))
    root.rename(folder / "photos")
    root.with_name("test").rename(folder / "queries")


def _newsgroups(folder: Path) -> None:
    shutil.unpack_archive(Path(DATA or "") / "20newsgroups" / "20news-bydate.tar.xz", folder, filter="data")
    (folder / "20news-bydate-train").rename(folder / "texts")
    (folder / "20news-bydate-test").rename(folder / "queries")


def _spoken(folder: Path) -> None:
    shutil.unpack_archive(Path(DATA or "") / "fsdd" / "fsdd-600.tar.xz", folder, filter="data")
    for path in list(folder.rglob("*.wav")):
        label = folder / "sounds" / path.name.split("_")[0]
        label.mkdir(parents=True, exist_ok=True)
        path.rename(label / path.name)


def _words(folder: Path) -> None:
    arrays = np.load(Path(DATA or "") / "word2vec-1000" / "word2vec-googlenews-1000x300.npz")
    np.savez(folder / "embeddings.npz", vectors=arrays["vectors"], ids=arrays["words"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(DATA is None, reason="EVALUATION_DATA names no folder with the published data sets")
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("docs/tutorial-photos.md", _clothing),
        ("docs/tutorial-embeddings.md", _words),
        ("docs/tutorial-sounds.md", _spoken),
        ("docs/tutorial-texts.md", _newsgroups),
    ],
)
def test_a_tutorial_in_earnest(name: str, files: Callable[[Path], None], tmp_path: Path) -> None:
    """With the data that its figures are of, by the real command, trained for as long as it takes."""
    files(tmp_path)
    said = follow(BLOCKS[name], tmp_path, earnest=True, timeout_s=3500)
    assert "urn:hammingbird:problem" not in "".join(said.values()), said
    check(BLOCKS[name], said)


def test_what_is_installed_is_what_the_makefile_makes() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):.*## ", makefile, re.MULTILINE))
    found = [block for page in BLOCKS.values() for block in page if block.mark == "install"]
    assert found
    for line in "".join(block.text for block in found).splitlines():
        asked = line.split("#")[0].split()
        assert asked in ([".", ".venv/bin/activate"], []) or (asked[0] == "make" and asked[1] in targets), line
    assert "VENV ?= .venv\n" in makefile


# -- nothing is left out ---------------------------------------------------------------------------------------------


def test_every_page_is_linked_from_the_index_and_every_link_leads_somewhere() -> None:
    linked = set()
    for name, path in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if re.match(r"https?://", target):
                continue
            file, _, anchor = target.partition("#")
            to = (path.parent / file).resolve() if file else path
            assert to.exists(), f"{name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{name}: {target}"
            if name in ("docs/README.md", "docs/families.md"):
                linked.add(to)
    assert {path for path in PAGES.values() if path.is_relative_to(DOCS)} <= {*linked, DOCS / "README.md"}
    assert "docs/README.md" in (ROOT / "README.md").read_text()


def test_pages_and_files_that_are_named_are_there() -> None:
    for name, path in PAGES.items():
        for named in re.findall(r"`((?:docs|tests|tools|models|index|service)/[\w./-]+?)(?:::\w+)?`", path.read_text()):
            assert (ROOT / named).exists(), f"{name} names {named}"


def test_every_route_is_on_its_page(shared_client: TestClient) -> None:
    page = (DOCS / "routes.md").read_text()
    assert page == reference.routes_page(shared_client.app), "run tools/reference-pages"  # type: ignore[arg-type]
    for path, methods in shared_client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            assert f"| `{method.upper()} {path}` |" in page
    for line in PUBLIC:
        assert f"`{line}`" in page


def test_every_error_is_on_its_page() -> None:
    page = (DOCS / "routes.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    slugs = set(re.findall(r'problem\(\s*\d{3},\s*"([a-z-]+)"', source))
    assert {"unauthorized", "body-timeout", "internal-error"} <= slugs
    for slug in slugs:
        assert f"`{slug}`" in page


@pytest.mark.parametrize("name", sorted(families()))
def test_every_family_has_a_page(name: str) -> None:
    page = (DOCS / "families" / f"{name}.md").read_text()
    assert page.startswith(f"# `{name}`\n")
    for heading in ("When to use it", "What it can do and how it is set", "Measured"):
        assert f"\n## {heading}\n" in page
    facts = page.split(reference.BEGIN)[1].split(reference.END)[0].strip()
    assert facts == reference.family_facts(families()[name]), "run tools/reference-pages"
    for field in families()[name].Params.model_fields:
        assert f"| `{field}` |" in facts
    assert re.search(r"\b(19|20)\d\d\b", page.split("##")[0]) or name == "pca-sign", "a paper has a year"


def test_the_index_of_families_explains_every_verb_and_links_every_page() -> None:
    index = (DOCS / "families.md").read_text()
    explained = re.findall(r"^\| `(\w+)` \| .*`POST |^\| `(\w+)` \| within", index, re.MULTILINE)
    assert {one or other for one, other in explained} == {"encode", *CAPABILITIES}
    for name in families():
        assert f"](families/{name}.md)" in index


def test_what_families_are_said_to_measure_was_measured() -> None:
    """Rows of proofs and of README stand in the pages of families as they stand there; proofs that are named exist."""
    sources = [(DOCS / "families.md").read_text(), (ROOT / "README.md").read_text()]
    known = {line for text in sources for line in text.splitlines() if line.startswith("|")}
    own = {"| measured by |", "| data, bits |"}
    checked = 0
    for name in families():
        page = (DOCS / "families" / f"{name}.md").read_text()
        for proof in re.findall(r"--only ([\w-]+)", page):
            assert proof in PROOFS, f"{name}: {proof}"
        for line in page.split("\n## Measured\n")[1].splitlines():
            if not line.startswith("|") or line.startswith(("|---", "| measured", "| family", *own)):
                continue
            assert line in known, f"{name}: {line}"
            checked += 1
    assert checked > 40


def test_every_metric_is_on_its_page(shared_client: TestClient) -> None:
    shown = {family.name for family in text_string_to_metric_families(shared_client.get("/metrics").text)}
    page = (DOCS / "operations.md").read_text()
    own = {name for name in shown if name.startswith("hammingbird_") and not name.endswith("_created")}
    assert len(own) > 30
    named = set(re.findall(r"^\| `(hammingbird_\w+)` \|", page, re.MULTILINE))
    assert {name.removesuffix("_total") for name in named} == {name.removesuffix("_total") for name in own}
    for prefix in {name.split("_")[0] for name in shown} - {"hammingbird"}:
        assert f"`{prefix}_" in page, f"the metrics {prefix}_... are not mentioned"
