"""A model of sentence embeddings behind the service: text in, codes out, nothing made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from embedding import NAME, install, known
from starlette.testclient import TestClient
from support import assert_problem
from typer.testing import CliRunner

from models.data import Dataset
from service.app import create_app
from service.cli import app
from service.engine import Engine
from service.settings import Settings
from service.training import Training, train

TEXTS = ["".join(np.random.default_rng(place).choice(list("abcdefgh mnop."), 12)) for place in range(60)]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    install(tmp_path / "site")
    with known(monkeypatch, tmp_path / "site"):
        settings = Settings(data_dir=tmp_path / "data")
        data = Dataset("texts", "text", TEXTS, [str(place) for place in range(60)])
        with Engine(settings) as engine:
            draft = engine.registry.draft("meaning")
            for _ in train(
                Training("meaning", "binary-autoencoder", 32, {"embedding": NAME, "epochs": 2}), data, draft
            ):
                pass
            engine.registry.add("meaning", draft)
        with TestClient(create_app(settings), raise_server_exceptions=False) as found:
            yield found


def test_texts_are_stored_and_found(client: TestClient) -> None:
    items = [{"id": str(place), "text": text} for place, text in enumerate(TEXTS)]
    reply = client.post("/ingest", json={"collection": "texts", "model": "meaning", "items": items})
    assert reply.json()["created"] == 60, reply.text
    codes = client.post("/encode", json={"model": "meaning", "inputs": [{"text": text} for text in TEXTS]}).json()[
        "codes"
    ]
    for place in range(0, 60, 7):
        for query in ({"text": TEXTS[place]}, {"id": str(place)}, {"code": codes[place]}):
            found = client.post("/search", json={"collection": "texts", "query": query, "radius": 0}).json()
            assert str(place) in [hit["id"] for hit in found["hits"]]
            assert found["code"] == codes[place]
    assert_problem(client.post("/search", json={"collection": "texts", "query": {"text": " "}}), 422, "invalid-input")
    assert_problem(client.post("/search", json={"collection": "texts", "query": {"vector": [1.0] * 16}}), 422)
    slow = client.post("/search", json={"collection": "texts", "query": {"text": TEXTS[0]}, "rerank": "exact"})
    assert "rerank soft" in assert_problem(slow, 422, "invalid-request")["detail"]
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    encoder = engine.encoders.of(engine.model_of(engine.catalogue.get("texts"))[1])
    assert not encoder.quick, "an embedding takes milliseconds, which the event loop has not"


def test_the_model_says_what_it_can_and_does_no_more(client: TestClient) -> None:
    card = client.get("/models/meaning").json()
    assert card["capabilities"] == ["encode"]
    assert card["input"]["kind"] == "text"
    assert card["input"]["embedding"]["package"] == "tiny-embedding"
    text = {"text": TEXTS[0]}
    for route, body in {
        "/decode": {"codes": ["00000000"]},
        "/denoise": {"input": text},
        "/generate": {"n": 1},
        "/interpolate": {"a": text, "b": text},
    }.items():
        problem = assert_problem(client.post(route, json={"model": "meaning", **body}), 409, "capability-missing")
    client_can = assert_problem(client.post("/decode", json={"model": "meaning", "codes": ["00000000"]}), 409)
    assert "embedding" in client_can["detail"]
    assert problem["detail"]
    assert "all-minilm-l6-v2" in client.get("/families").json()["input"]["properties"]["embedding"]["description"]


def test_without_the_package_nothing_is_guessed(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {"id": "a", "text": "abc"}
    assert client.post("/ingest", json={"collection": "c", "model": "meaning", "items": [item]}).status_code == 200
    with known(monkeypatch), TestClient(create_app(Settings(data_dir=tmp_path / "data-2"))) as other:
        body = {"name": "n", "family": "itq", "data": {"dataset": "python-docs"}, "params": {"embedding": NAME}}
        problem = assert_problem(other.post("/train", json=body), 503, "embedding-unavailable")
        assert "pip install 'hammingbird[text-embeddings]'" in problem["detail"]
        body["params"] = {"embedding": "nothing"}
        assert "known are tiny" in assert_problem(other.post("/train", json=body), 422)["detail"]
    client.close()


def test_a_service_without_the_package_says_so_and_serves_the_rest(
    tmp_path: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {"id": "a", "text": "abc"}
    client.post("/ingest", json={"collection": "c", "model": "meaning", "items": [item]})
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
    with known(monkeypatch):
        engine.registry._loaded.clear()
        query = {"collection": "c", "query": {"text": "abc"}}
        problem = assert_problem(client.post("/search", json=query), 503, "embedding-unavailable")
        assert "hammingbird[text-embeddings]" in problem["detail"]
        assert client.post("/search", json={"collection": "c", "query": {"id": "a"}}).json()["hits"][0]["id"] == "a"
        assert client.get("/models/meaning").json()["capabilities"] == ["encode"]
        assert client.get("/collections/c/items/a").json()["input"] == {"text": "abc"}


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, used and compared with words by the same commands as any other."""
    install(tmp_path / "site")
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text, "label": text[0]}) for text in TEXTS))
    source, data_dir = str(tmp_path / "texts.jsonl"), str(tmp_path / "data")

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    with known(monkeypatch, tmp_path / "site"):
        chosen = ("--set", f"embedding={NAME}")
        run(
            "train", "--data", source, "--name", "t", "--family", "itq", "--bits", "16", *chosen, "--data-dir", data_dir
        )
        run("ingest", "--data", source, "--collection", "t", "--model", "t", "--data-dir", data_dir)
        assert "000007" in run(
            "search", "--collection", "t", "--text", TEXTS[7], "--radius", "0", "--data-dir", data_dir
        )
        told = run("evaluate", "--data", source, "--family", "itq", "--bits", "16", "--seeds", "1", *chosen, "--json")
        assert {row["name"] for row in json.loads(told)["rows"]} >= {"float cosine", "itq"}
        done = CliRunner().invoke(app, ["train", "--data", "digits", "--name", "d", *chosen, "--data-dir", data_dir])
        assert done.exit_code == 1
        assert "items of kind image" in done.output
