"""Keys and scopes, and what keeps a browser's other pages out where there are none. (reliability.md H10)"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from support import assert_problem, server
from typer.testing import CliRunner

from index.errors import DataDirectoryError
from service import keys as keys_module
from service.app import create_app
from service.cli import app as command
from service.cli.serve import check_guarded
from service.errors import InvalidRequest, ServiceError
from service.keys import FILE, PATTERN, KeyFile, KeyRing
from service.scopes import NEEDED, PUBLIC, SCOPES, covers
from service.security import routes_of, secure
from service.settings import Settings

SEARCH = {"collection": "digits", "query": {"code": "00" * 8}}
UNKNOWN = "hb_" + "0" * 64


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The keys of the module's service, by scope; filled by `guarded`."""
    return {}


@pytest.fixture(scope="module")
def guarded(prepared: Path, tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]) -> Iterator[TestClient]:
    """A client of a service with a key of each scope."""
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("guarded") / "data"))
    for scope in SCOPES:
        _, texts[scope] = KeyFile(root).create(f"key-{scope}", scope)
    with TestClient(create_app(Settings(data_dir=root)), raise_server_exceptions=False) as client:
        yield client


def every_route(client: TestClient) -> list[tuple[str, str, str]]:
    """Method, a path that names nothing that is there, and what the route needs."""
    lines = sorted(routes_of(client.app))  # type: ignore[arg-type]
    assert len(lines) > 30
    return [
        (line.split()[0], re.sub(r"{[^}]*}", "nobody", line.split()[1]), NEEDED.get(line, "public")) for line in lines
    ]


def test_every_route_without_a_key_with_a_wrong_one_and_with_one_in_the_url(
    guarded: TestClient, texts: dict[str, str]
) -> None:
    """H10"""
    attempts: list[dict[str, Any]] = [
        {},
        {"headers": {"authorization": f"Bearer {UNKNOWN}"}},
        {"headers": {"x-api-key": UNKNOWN}},
        {"headers": {"authorization": f"Basic {texts['admin']}"}},
        {"headers": {"authorization": "Bearer"}},
        {"headers": {"x-api-key": texts["admin"][:-1]}},
        {"headers": {"x-api-key": texts["admin"].upper()}},
        {"params": {"api_key": texts["admin"], "x-api-key": texts["admin"], "key": texts["admin"]}},
    ]
    for method, path, needed in every_route(guarded):
        for attempt in attempts:
            response = guarded.request(method, path, **attempt)
            if needed == "public":
                assert response.status_code == (404 if "nobody" in path else 200), path
                continue
            assert_problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"].startswith('Bearer realm="hammingbird"')
            assert not PATTERN.search(response.text)


def test_every_route_with_a_key_of_every_scope(guarded: TestClient, texts: dict[str, str]) -> None:
    """H10: a lesser scope is refused and told which is needed; a sufficient one is let in, by either header."""
    for method, path, needed in every_route(guarded):
        if needed == "public":
            continue
        for scope in SCOPES:
            for headers in ({"authorization": f"Bearer {texts[scope]}"}, {"x-api-key": texts[scope]}):
                response = guarded.request(method, path, headers=headers)
                if covers(scope, needed):  # type: ignore[arg-type]
                    assert response.status_code not in (401, 403), (method, path, scope, response.text)
                    continue
                problem = assert_problem(response, 403, "forbidden")
                assert f"needs a key of scope {needed}" in problem["detail"]
                assert f'error="insufficient_scope", scope="{needed}"' in response.headers["www-authenticate"]
                assert not PATTERN.search(response.text)


def test_keys_do_what_they_are_for(guarded: TestClient, texts: dict[str, str]) -> None:
    def ask(scope: str, route: str, body: Any) -> int:
        return guarded.post(route, json=body, headers={"authorization": f"bearer {texts[scope]}"}).status_code

    items = {"collection": "digits", "items": [{"id": "by-key", "code": "00" * 8}]}
    assert [ask(scope, "/search", SEARCH) for scope in SCOPES] == [200, 200, 200]
    assert [ask(scope, "/ingest", items) for scope in SCOPES] == [403, 200, 200]
    assert [ask(scope, "/collections", {"name": f"c-{scope}", "bits": 8}) for scope in SCOPES] == [403, 403, 201]


def test_what_is_no_route_needs_a_key_too(guarded: TestClient, texts: dict[str, str]) -> None:
    """Nobody learns from a 404 what is there and what is not."""
    assert_problem(guarded.get("/nothing"), 401, "unauthorized")
    assert_problem(guarded.get("/nothing", headers={"x-api-key": texts["read"]}), 404)
    assert_problem(guarded.patch("/search", headers={"x-api-key": texts["read"]}), 405)
    # a path is matched as the router matches it
    for path in ("/collections/digits/../digits/items/digit-0000", "/collections/digits%2Fitems%2Fdigit-0000"):
        assert_problem(guarded.delete(path, headers={"x-api-key": texts["read"]}), 403, "forbidden")


def test_a_long_body_without_a_key_is_not_waited_for(guarded: TestClient) -> None:
    assert guarded.post("/ingest", content=b" " * 1_000_000).headers["connection"] == "close"
    assert "connection" not in guarded.post("/ingest", content=b"{}").headers


def test_a_route_without_a_scope_is_refused_at_the_start() -> None:
    app = FastAPI()
    app.add_api_route("/new/{thing}", lambda thing: thing, methods=["POST"])
    with pytest.raises(AssertionError, match=re.escape("POST /new/{thing}")):
        secure(app, KeyRing(Path("nowhere")))


def test_the_table_names_routes_that_are_there(guarded: TestClient) -> None:
    assert routes_of(guarded.app) == PUBLIC | NEEDED.keys()  # type: ignore[arg-type]


def test_the_document_says_what_each_route_needs(guarded: TestClient, shared_client: TestClient) -> None:
    document = guarded.get("/openapi.json").json()
    assert {"bearer", "header"} == set(document["components"]["securitySchemes"])
    assert document["paths"]["/search"]["post"]["security"] == [{"bearer": ["read"]}, {"header": ["read"]}]
    assert document["paths"]["/collections/{collection}/items/{id}"]["delete"]["security"][0] == {"bearer": ["write"]}
    assert document["paths"]["/train"]["post"]["security"][0] == {"bearer": ["admin"]}
    assert document["paths"]["/livez"]["get"]["security"] == []
    without_keys = shared_client.get("/openapi.json").json()
    assert without_keys["paths"]["/search"]["post"]["security"][0] == {}, "where there are no keys none is needed"


# -- the file of keys ----------------------------------------------------------------------------------------------


def test_only_the_hash_is_kept_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    key, text = KeyFile(tmp_path).create("a", "read")
    assert PATTERN.fullmatch(text)
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert text not in file.read_text()
    assert text[3:] not in file.read_text()
    assert KeyRing(tmp_path).find(text.encode()) == key
    assert {path.name for path in tmp_path.iterdir()} == {FILE, f"{FILE}.lock"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_a_key_made_by_root_is_readable_by_the_service(tmp_path: Path) -> None:
    """In a container the one who makes the key is often not the one who serves."""
    os.chown(tmp_path, 10001, 10001)
    KeyFile(tmp_path).create("a", "read")
    KeyFile(tmp_path).create("b", "read")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()} == {(10001, 10001)}


def test_keys_made_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: KeyFile(tmp_path).create(f"k{number}", "read")[1], range(24)))
    ring = KeyRing(tmp_path)
    assert len({ring.find(text.encode()) for text in made} - {None}) == 24


def test_a_key_ends_when_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = KeyFile(tmp_path).create("a", "read", timedelta(hours=1))
    ring = KeyRing(tmp_path)
    assert ring.find(text.encode())
    later = time.time() + 3601
    monkeypatch.setattr(keys_module.time, "time", lambda: later)
    assert ring.find(text.encode()) is None


def test_names_are_plain_and_used_once(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    key, _ = file.create("a", "read")
    for name in ("a", key.id, "", "x" * 65, "a\nb", "é"):
        with pytest.raises(InvalidRequest):
            file.create(name, "read")
    with pytest.raises(InvalidRequest, match="none"):
        KeyFile(tmp_path / "empty").revoke("a")
    assert [found.name for found in file.all()] == ["a"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1}', '{"version": 1, "keys": [{"id": "x"}]}', '{"version": 9}']
)
def test_a_damaged_file_keeps_the_service_from_starting(data_dir: Path, content: str) -> None:
    (data_dir / FILE).write_text(content)
    with pytest.raises(DataDirectoryError, match=FILE):
        create_app(Settings(data_dir=data_dir))


def test_a_file_that_is_lost_or_damaged_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys_module, "REFRESH_S", 0.0)
    ring = KeyRing(tmp_path)
    assert not ring.asked_for
    _, text = KeyFile(tmp_path).create("a", "read")
    assert ring.asked_for
    assert ring.find(text.encode())
    (tmp_path / FILE).write_text("damaged")
    assert ring.asked_for
    assert ring.find(text.encode()), "known before"
    (tmp_path / FILE).unlink()
    assert ring.asked_for
    assert ring.find(UNKNOWN.encode()) is None
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"{tmp_path / FILE} is damaged", f"{tmp_path / FILE} is gone"
    ]  # fmt: skip
    KeyFile(tmp_path).create("b", "read")
    assert ring.asked_for
    assert ring.find(text.encode()) is None, "the new file does not have it"


@pytest.mark.slow
def test_a_wrong_key_takes_as_long_however_near_it_is(tmp_path: Path) -> None:
    """H10: no timing signal beyond noise."""
    _, text = KeyFile(tmp_path).create("a", "read")
    ring = KeyRing(tmp_path)
    near, far = (text[:-1] + ("0" if text[-1] != "0" else "1")).encode(), UNKNOWN.encode()
    times: dict[bytes, list[int]] = {near: [], far: []}
    for _ in range(50_000):
        for wrong in (near, far):
            started = time.perf_counter_ns()
            ring.find(wrong)
            times[wrong].append(time.perf_counter_ns() - started)
    middle = {wrong: sorted(taken)[len(taken) // 2] for wrong, taken in times.items()}
    assert abs(middle[near] - middle[far]) < 0.1 * middle[far]


# -- the command line ----------------------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_keys_on_the_command_line(tmp_path: Path) -> None:
    made = run("keys", "create", "page", "--scope", "write", "--expires", "30d", "--data-dir", tmp_path)
    assert made.exit_code == 0
    text = made.stdout.strip()
    assert PATTERN.fullmatch(text), "nothing but the key on standard output, so that it can be captured"
    assert "write" in made.stderr
    assert text not in made.stderr
    listed = run("keys", "list", "--data-dir", tmp_path)
    assert "page" in listed.stdout
    assert text not in listed.stdout
    as_json = json.loads(run("keys", "list", "--json", "--data-dir", tmp_path).stdout)
    assert [(key["name"], key["scope"]) for key in as_json] == [("page", "write")]
    assert "sha256" not in as_json[0]
    assert run("keys", "revoke", "page", "--data-dir", tmp_path).exit_code == 0
    assert json.loads(run("keys", "list", "--json", "--data-dir", tmp_path).stdout) == []
    for wrong in (["revoke", "page"], ["create", "x", "--expires", "soon"], ["create", "x" * 100]):
        refused = run("keys", *wrong, "--data-dir", tmp_path)
        assert (refused.exit_code, refused.stderr[:6]) == (1, "error:")


def test_the_service_does_not_listen_beyond_loopback_without_keys(tmp_path: Path) -> None:
    for arguments in (["serve"], ["demo"]):
        refused = run(*arguments, "--host", "0.0.0.0", "--port", "0", "--data-dir", tmp_path)
        assert refused.exit_code == 1
        assert "hammingbird keys create" in refused.stderr
        assert "--allow-open" in refused.stderr

    def check(host: str, allow_open: bool = False) -> None:
        check_guarded(Settings(host=host, data_dir=tmp_path, allow_open=allow_open))

    for host in ("0.0.0.0", "", "::", "10.0.0.1", "example.org"):
        with pytest.raises(ServiceError):
            check(host)
        check(host, allow_open=True)
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        check(host)
    KeyFile(tmp_path).create("a", "admin")
    KeyFile(tmp_path).revoke("a")
    check("0.0.0.0")  # closed to everybody, until there is a key again


def test_keys_may_be_in_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of replicas that share them, or of a secret: made, asked for and revoked there, and nothing in the data."""
    data, shared = tmp_path / "data", tmp_path / "shared"
    monkeypatch.setenv("HAMMINGBIRD_KEYS_DIR", str(shared))
    monkeypatch.setenv("HAMMINGBIRD_DATA_DIR", str(data))
    made = CliRunner().invoke(command, ["keys", "create", "me"])
    assert made.exit_code == 0
    assert (shared / FILE).exists()
    check_guarded(Settings(host="0.0.0.0"))
    with TestClient(create_app(Settings())) as client:
        assert client.get("/models").status_code == 401
        assert client.get("/models", headers={"x-api-key": made.stdout.strip()}).status_code == 200
    assert "me" in CliRunner().invoke(command, ["keys", "list"]).stdout
    assert CliRunner().invoke(command, ["keys", "revoke", "me"]).exit_code == 0
    assert not (data / FILE).exists()


# -- a running service ---------------------------------------------------------------------------------------------


def test_keys_while_the_service_runs_and_never_in_its_log(tmp_path: Path) -> None:
    """H10: made and revoked keys count within a second; no key is in the log, at its most talkative, or the process."""
    root = tmp_path / "data"
    texts: list[str] = []
    with server(root, HAMMINGBIRD_LOG_LEVEL="debug") as (address, process):

        def status(path: str, **headers: str) -> int:
            try:
                with urlopen(Request(f"{address}{path}", headers=headers), timeout=10) as reply:
                    return int(reply.status)
            except OSError as error:
                return int(error.code)  # type: ignore[attr-defined]

        def becomes(expected: int, **headers: str) -> None:
            started = time.monotonic()
            while status("/collections", **headers) != expected:
                assert time.monotonic() - started < 1
                time.sleep(0.02)

        assert status("/collections") == 200
        texts.append(run("keys", "create", "first", "--scope", "admin", "--data-dir", root).stdout.strip())
        becomes(401)
        bearer = {"authorization": f"Bearer {texts[0]}"}
        assert status("/collections", **bearer) == 200
        assert status(f"/collections?key={texts[0]}") == 401
        assert status(f"/collections/{texts[0]}", **bearer) == 404
        assert status("/jobs/x", **{"x-api-key": texts[0], "x-request-id": texts[0]}) == 404
        assert status(f"/{texts[0]}", **bearer) == 404
        texts.append(run("keys", "create", "second", "--data-dir", root).stdout.strip())
        becomes(200, **{"x-api-key": texts[1]})
        run("keys", "revoke", "first", "--data-dir", root)
        becomes(401, **bearer)
        assert status("/collections", **{"x-api-key": texts[1]}) == 200
        for name in ("cmdline", "environ"):
            seen = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert not any(text.encode() in seen for text in texts)
    log = next(tmp_path.glob("server-*.log")).read_text()
    assert '"key": "first"' in log
    for text in texts:
        assert text not in log
        assert text[3:] not in log


# -- without keys: pages of other sites, names of other sites --------------------------------------------------------


def test_a_page_of_another_site_changes_nothing(client: TestClient) -> None:
    """Also by what a browser sends without asking first: forms, plain text, no body at all."""
    before = client.get("/collections").json()
    files = {"files": ("evil", b"\0" * 8)}
    attempts: list[dict[str, Any]] = [
        {"url": "/ingest", "data": {"collection": "digits"}, "files": files},
        {"url": "/collections/digits/compact"},
        {"url": "/collections", "content": b'{"name": "evil", "bits": 8}', "headers": {"content-type": "text/plain"}},
    ]
    foreign = [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver:81"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://testserver"},
    ]
    for attempt in attempts:
        for headers in foreign:
            merged = {**attempt, "headers": {**attempt.get("headers", {}), **headers}}
            assert_problem(client.post(**merged), 403, "cross-site")
    plain = attempts[2]
    assert_problem(client.post(**plain), 422)
    assert client.get("/collections").json()["collections"] == before["collections"]
    own = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert client.post("/search", json=SEARCH, headers=own).status_code == 200
    assert client.post("/search", json=SEARCH, headers={"origin": "http://testserver"}).status_code == 200


def test_a_name_that_somebody_made_to_mean_this_machine_is_refused(shared_client: TestClient) -> None:
    """DNS rebinding: a page's own name, with a dot, is none of ours; addresses and local names are."""
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "x."):
        assert_problem(shared_client.get("/collections", headers={"host": host}), 400, "unknown-host")
    for host in (
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:8000",
        "[::1]:8000",
        "app.localhost",
        "hammingbird",
        "10.1.2.3",
    ):
        assert shared_client.get("/collections", headers={"host": host}).status_code == 200


def test_names_and_origins_that_were_allowed(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMMINGBIRD_ALLOWED_HOSTS", "codes.example.org, other.example.org")
    monkeypatch.setenv("HAMMINGBIRD_CORS_ORIGINS", "https://app.example.org")
    root = Path(shutil.copytree(prepared, tmp_path / "data"))
    with TestClient(create_app(Settings(data_dir=root)), base_url="http://codes.example.org") as client:
        assert client.get("/collections").status_code == 200
        assert_problem(client.get("/collections", headers={"host": "testserver"}), 400, "unknown-host")
        page = {"origin": "https://app.example.org", "sec-fetch-site": "cross-site"}
        preflight = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-api-key",
        }
        asked = client.options("/search", headers=page | preflight)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "https://app.example.org"
        reply = client.post("/search", json=SEARCH, headers=page)
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "access-control-allow-credentials" not in reply.headers
        other = {"origin": "https://evil.example"}
        assert "access-control-allow-origin" not in client.options("/search", headers=other | preflight).headers
        assert_problem(client.post("/search", json=SEARCH, headers=other), 403, "cross-site")


def test_no_origin_is_allowed_unless_told_so(shared_client: TestClient, guarded: TestClient) -> None:
    page = {"origin": "https://app.example.org", "access-control-request-method": "POST"}
    for client in (shared_client, guarded):
        asked = client.options("/search", headers=page)
        assert asked.status_code in (401, 405)
        assert not [name for name in asked.headers if name.startswith("access-control")]


def test_threads_see_one_set_of_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload while others look a key up: each sees the keys of before or of after, never something between."""
    monkeypatch.setattr(keys_module, "REFRESH_S", 0.0)
    file = KeyFile(tmp_path)
    _, kept = file.create("kept", "read")
    ring, stop, missed = KeyRing(tmp_path), threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            if not ring.asked_for or ring.find(kept.encode()) is None:
                missed.append(1)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        file.create(f"n{number}", "read")
    stop.set()
    for thread in threads:
        thread.join()
    assert not missed
