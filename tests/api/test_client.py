"""A client generated from the OpenAPI document, used against the live service; and what makes the document fit for it.

The client is made by openapi-python-client, offline, with the settings in docs/openapi-python-client.yaml.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "hammingbird_client"
CODES = ["00" * 8, "00" * 7 + "01", "ff" * 8]


@pytest.fixture(scope="module")
def document(shared_client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = shared_client.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the client's package lies in, which can be imported."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document))
    command = [Path(sys.executable).parent / "openapi-python-client", "generate", "--path", "openapi.json", "--meta",
               "none", "--config", ROOT / "docs" / "openapi-python-client.yaml", "--output-path", PACKAGE,
               "--fail-on-warning"]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


class _Bridge(httpx.BaseTransport):
    """Hands the client's requests to the application in this process."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = [(name, value) for name, value in request.headers.multi_items() if name != "host"]
        path = request.url.raw_path.decode()
        reply = self._client.request(request.method, path, content=request.read(), headers=headers)
        return httpx.Response(reply.status_code, headers=list(reply.headers.items()), content=reply.content)


class Api:
    """The generated package: its models by name, and its operations as functions that take no client."""

    def __init__(self, folder: Path, client: TestClient) -> None:
        self.models = importlib.import_module(f"{PACKAGE}.models")
        self.types = importlib.import_module(f"{PACKAGE}.types")
        self._folder = folder
        made = importlib.import_module(f"{PACKAGE}.client").Client(base_url="http://testserver")
        self._client = made.set_httpx_client(httpx.Client(base_url="http://testserver", transport=_Bridge(client)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        (path,) = (self._folder / PACKAGE / "api").glob(f"*/{name}.py")
        module = importlib.import_module(f"{PACKAGE}.api.{path.parent.name}.{name}")

        def call(*arguments: Any, **named: Any) -> Any:
            return module.sync(*arguments, client=self._client, **named)

        return call


@pytest.fixture
def api(generated: Path, client: TestClient) -> Api:
    return Api(generated, client)


def test_a_collection_from_making_it_to_deleting_it(api: Api) -> None:
    m = api.models
    info = api.create_collection(body=m.CollectionRequest(name="ready-made", bits=64, indexes=["label"]))
    assert isinstance(info, m.CollectionInfo)
    assert (info.name, info.items, info.model) == ("ready-made", 0, None)
    items = [
        m.IngestItem(id=f"a/{place}", code=code, payload=m.Payload.from_dict({"label": place}))
        for place, code in enumerate(CODES)
    ]
    stored = api.ingest_items(body=m.IngestRequest(collection="ready-made", items=items))
    assert isinstance(stored, m.IngestReply)
    assert (stored.created, stored.ids) == (3, ["a/0", "a/1", "a/2"])
    found = api.search(
        body=m.SearchRequest(
            collection="ready-made",
            query=m.Input(code=CODES[0]),
            radius=1,
            filter_=m.Filter.from_dict({"label": {"$lt": 2}}),
            include=[m.SearchRequestIncludeItem.PAYLOAD, m.SearchRequestIncludeItem.CODE],
        )
    )
    assert isinstance(found, m.SearchReply)
    assert [(hit.id, hit.distance, hit.payload["label"], hit.code) for hit in found.hits] == [
        ("a/0", 0, 0, CODES[0]),
        ("a/1", 1, 1, CODES[1]),
    ]
    assert (found.total, found.complete, found.plan.method) == (2, True, m.PlanMethod.SCAN)
    both = api.search_batch(
        body=m.SearchBatchRequest(
            searches=[m.SearchRequest(collection="ready-made", query=m.Input(id="a/2"), k=k) for k in (1, 2)]
        )
    )
    assert [len(reply.hits) for reply in both.results] == [1, 2]
    item = api.get_item("ready-made", "a/1")
    assert (item.code, item.payload.to_dict()) == (CODES[1], {"label": 1})
    assert [item.id for item in api.list_items("ready-made", limit=2).items] == ["a/0", "a/1"]
    health = api.code_health("ready-made")
    assert (health.codes.distinct, health.status, health.drift) == (3, m.CodeHealthStatus.OK, None)
    assert api.delete_item("ready-made", "a/0").deleted == 1
    assert api.delete_items("ready-made", body=m.DeleteRequest(ids=["a/1", "nobody"])).deleted == 1
    assert api.delete_collection("ready-made") is None
    assert [one.name for one in api.list_collections().collections] == ["digits", "python-docs", "vectors"]


def test_an_item_through_its_model(api: Api) -> None:
    m = api.models
    query = m.Input(vector=[0.5] * 24)
    (code,) = api.encode(body=m.EncodeRequest(model="vectors-itq", inputs=[query])).codes
    found = api.search(body=m.SearchRequest(collection="vectors", query=query, k=3))
    assert found.code == code
    assert isinstance(found.hits[0].payload, m.Payload)
    assert found.model.fingerprint == api.get_model("vectors-itq").fingerprint
    made = api.generate(body=m.GenerateRequest(model="digits-vae", n=2, seed=7))
    assert all(isinstance(item.image, str) for item in made.items)


def test_lines_and_files(api: Api) -> None:
    """The bodies that are not JSON: a stream of lines, and files."""
    m = api.models
    lines = "\n".join(json.dumps({"id": f"l{place}", "code": code}) for place, code in enumerate(CODES))
    api.create_collection(body=m.CollectionRequest(name="lines", bits=64))
    file = api.types.File(payload=BytesIO(lines.encode()), mime_type="application/x-ndjson")
    assert api.ingest_items(body=file, collection="lines").created == 3
    text = api.types.File(payload=BytesIO(b"open a file"), file_name="a.txt", mime_type="text/plain")
    form = m.IngestItemsFilesBody(collection="python-docs", files=[text])
    assert api.ingest_items(body=form).ids == ["a.txt"]


def test_errors_are_problems(api: Api) -> None:
    m = api.models
    missing = api.get_collection("nowhere")
    assert isinstance(missing, m.Problem)
    assert (missing.status, missing.type_) == (404, "urn:hammingbird:problem:unknown-collection")
    wrong = api.search(body=m.SearchRequest(collection="digits", query=m.Input(), k=0))
    assert isinstance(wrong, m.Problem)
    assert wrong.status == 422
    assert {fault.pointer for fault in wrong.errors} == {"/k", "/query"}
    assert isinstance(api.delete_model("digits-hash"), m.Problem), "a collection uses it"


@pytest.mark.slow
def test_a_training(api: Api) -> None:
    m = api.models
    data = m.TrainData(dataset="digits")
    job = api.train(body=m.TrainRequest(name="mine", family="lsh", data=data, bits=32))
    assert isinstance(job, m.Job)
    deadline = time.monotonic() + 60
    while job.state in (m.JobState.QUEUED, m.JobState.RUNNING):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        job = api.get_job(job.id)
    assert (job.state, job.kind, job.error) == (m.JobState.SUCCEEDED, m.JobKind.TRAIN, None)
    assert api.get_model("mine").bits == 32
    assert isinstance(api.get_job("nobody"), m.Problem)
    failed = api.train(body=m.TrainRequest(name="mine", family="no-such", data=data))
    assert isinstance(failed, m.Problem)


@pytest.mark.slow
def test_the_client_passes_a_type_checker(generated: Path) -> None:
    use = generated / "use.py"
    use.write_text(
        f"from {PACKAGE} import AuthenticatedClient\n"
        f"from {PACKAGE}.api.search import search\n"
        f"from {PACKAGE}.models import Input, Problem, SearchReply, SearchRequest\n\n"
        "def nearest(client: AuthenticatedClient, image: str) -> list[str]:\n"
        "    body = SearchRequest(collection='digits', query=Input(image=image), k=3)\n"
        "    reply: SearchReply | Problem | None = search.sync(client=client, body=body)\n"
        "    if isinstance(reply, Problem):\n"
        "        raise ValueError(reply.detail)\n"
        "    return [hit.id for hit in reply.hits] if reply else []\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", ".mypy", "--follow-imports", "silent", "use.py"]
    done = subprocess.run(command, cwd=generated, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- the document ----------------------------------------------------------------------------------------------------


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", spec)
        for path, methods in document["paths"].items()
        for method, spec in methods.items()
    ]


def test_every_operation_has_a_short_name_of_its_own(document: dict[str, Any]) -> None:
    names = {where: spec["operationId"] for where, spec in operations(document)}
    unnamed = [where for where, name in names.items() if not re.fullmatch(r"[a-z]+(_[a-z]+){0,2}", name)]
    assert not unnamed, "name these in service/openapi.py"
    assert len(set(names.values())) == len(names)


def test_every_error_is_the_one_problem_and_every_reply_has_its_id(document: dict[str, Any]) -> None:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for where, spec in operations(document):
        for code, response in spec["responses"].items():
            assert response["headers"]["x-request-id"] == {"$ref": "#/components/headers/RequestId"}, where
            assert response["description"], where
            if code[0] in "45":
                assert response["content"] == problem, where
        assert {"4XX", "5XX"} <= set(spec["responses"]), where


def test_nothing_is_described_twice_or_refers_to_nothing(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    titles = [schema.get("title", name) for name, schema in schemas.items()]
    assert sorted(titles) == sorted(schemas), "a schema is called what it is"
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert used == set(schemas)
    assert "$defs" not in json.dumps(document)
