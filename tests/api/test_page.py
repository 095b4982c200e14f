"""The explorer page as it is served: its headers, its caching, its size, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support import assert_problem

from service.app import create_app
from service.pages import POLICY, Page
from service.settings import Settings

ROOT = Path(__file__).parents[2]
FILES = sorted(Page().files)
MOST_LINES = 400
FIRST_PAINT_BYTES = 200_000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a service without models and collections: the page is there all the same."""
    with TestClient(create_app(Settings(data_dir=tmp_path_factory.mktemp("empty")))) as found:
        yield found


def test_the_page_is_at_the_root_and_asked_for_every_time(page: TestClient) -> None:
    reply = page.get("/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"] == POLICY
    assert reply.headers["cache-control"] == "no-cache"
    same = page.get("/", headers={"if-none-match": reply.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert page.get("/", headers={"if-none-match": '"another"'}).status_code == 200
    assert page.head("/").status_code == 200


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_kept_for_ever_at_its_version(page: TestClient, path: str) -> None:
    reply = page.get(f"/page/{Page().version}/{path}")
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"] == POLICY


@pytest.mark.parametrize("path", ["0123456789abcdef/js/main.js", "{version}/js/none.js", "{version}/../pages.py", "x"])
def test_what_is_no_file_of_this_version_is_not_there(page: TestClient, path: str) -> None:
    assert_problem(page.get(f"/page/{path.format(version=Page().version)}"), 404)


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    allowed = {source for sources in rules.values() for source in sources.split()}
    assert allowed == {"'none'", "'self'", "data:", "blob:"}
    assert "data:" not in rules["script-src"] + rules["style-src"] + rules["connect-src"]


@pytest.mark.parametrize("path", [path for path in FILES if path.endswith((".js", ".html", ".css"))])
def test_every_file_names_no_other_site_and_makes_no_html_of_text(path: str) -> None:
    text = Page().files[path].content.decode()
    addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]+[^\s'\"]*", text)) - {"http://www.w3.org/2000/svg"}
    assert not addresses
    for banned in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert banned not in text
    if "vendor/" not in path:
        lines = text.split("\n")
        assert len(lines) <= MOST_LINES
        assert path.endswith(".html") or max(map(len, lines)) <= 120


def test_every_address_in_the_page_is_a_file(page: TestClient) -> None:
    html = page.get("/").text
    assert "{{" not in html
    links = re.findall(r'(?:src|href)="(/page/[^"]+)"', html)
    assert len(links) >= 4
    for link in links:
        assert page.get(link).status_code == 200
    for path in FILES:
        for imported in re.findall(r"from '(\.[^']+)'", Page().files[path].content.decode()):
            assert str((Path("/") / path).parent.joinpath(imported).resolve())[1:] in FILES, (path, imported)


def loaded(path: str) -> set[str]:
    """The file and all that it imports."""
    found, waiting = {path}, [path]
    while waiting:
        path = waiting.pop()
        for imported in re.findall(r"from '(\.[^']+)'", text_of(path)):
            other = str((Path("/") / path).parent.joinpath(imported).resolve())[1:]
            waiting += {other} - found
            found.add(other)
    return found


def text_of(path: str) -> str:
    return Page().files[path].content.decode()


def test_what_the_first_part_is_made_of_is_far_below_the_first_paint_promised() -> None:
    first = {path for path in FILES if path.endswith((".css", ".svg"))} | {"index.html"}
    first |= loaded("js/main.js") | loaded("js/parts/search.js")
    assert "js/hits.js" in first
    assert "js/plot.js" not in first
    assert sum(len(Page().files[path].content) for path in first) < 0.7 * FIRST_PAINT_BYTES


def test_the_page_is_part_of_the_wheel() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "page/**" in config["tool"]["setuptools"]["package-data"]["service"]
