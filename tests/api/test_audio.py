"""Sounds through the whole service: stored, found, repaired, made, and given back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support import assert_problem, part_of
from typer.testing import CliRunner

from index.catalogue import STORE_FILE
from models.data import Dataset, load
from models.sounds import Sound, as_written, decode_sound, encode_wav, resample
from service.app import create_app
from service.cli.base import app
from service.cli.ingest import ingest_dataset
from service.engine import Engine
from service.kept import dataset_of
from service.settings import Settings
from service.training import Training, train

pytestmark = pytest.mark.xdist_group("sounds")  # one process makes what they all use

MODELS = (
    ("tones-hash", "binary-autoencoder", {"epochs": 5, "hidden": 64}),
    ("tones-vae", "vae", {"epochs": 5, "hidden": 64}),
    ("tones-denoise", "denoising-autoencoder", {"epochs": 5, "hidden": 64}),
)


def wav(sound: Sound) -> str:
    return base64.b64encode(encode_wav(sound)).decode()


def sound_of(output: dict[str, Any]) -> Sound:
    return decode_sound(base64.b64decode(output["audio"]))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return part_of(load("tones"), 120)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> Path:
    root = tmp_path_factory.mktemp("sounds")
    with Engine(Settings(data_dir=root)) as engine:
        for name, family, params in MODELS:
            draft = engine.registry.draft(name)
            for _ in train(Training(name, family, 64, params), data, draft):
                pass
            engine.registry.add(name, draft)
        ingest_dataset(engine, data, "tones", "tones-hash")
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    settings = Settings(data_dir=root, max_audio_seconds=20, max_request_audio_seconds=50)
    with TestClient(create_app(settings), raise_server_exceptions=False) as found:
        yield found


def search(client: TestClient, sound: Sound, **more: Any) -> Any:
    return client.post("/search", json={"collection": "tones", "query": {"audio": wav(sound)}, **more})


# -- stored and found --------------------------------------------------------------------------------------------------


def test_a_sound_is_found_by_itself_and_by_what_sounds_like_it(client: TestClient, data: Dataset) -> None:
    hits = search(client, data.items[7], k=3).json()["hits"]
    assert (hits[0]["id"], hits[0]["distance"]) == (data.ids[7], 0)
    assert hits[0]["payload"]["notes"] == data.payloads[7]["notes"] if data.payloads else False
    louder = Sound(as_written(data.items[7].samples * 0.3), data.items[7].rate)
    faster = Sound(as_written(resample(data.items[7].samples, 4_000, 16_000)), 16_000)
    for alike in (louder, faster):
        hits = search(client, alike, k=5).json()["hits"]
        assert data.ids[7] in [hit["id"] for hit in hits], hits


def test_every_way_in_stores_the_same(client: TestClient, data: Dataset) -> None:
    sounds = data.items[:3]
    form = {"collection": "by-form", "model": "tones-hash"}
    files = [("files", (f"{place}.wav", encode_wav(sound))) for place, sound in enumerate(sounds)]
    assert client.post("/ingest", data=form, files=files).json()["created"] == 3
    items = [{"id": f"{place}.wav", "audio": wav(sound)} for place, sound in enumerate(sounds)]
    body = {"collection": "by-json", "model": "tones-hash", "items": items}
    assert client.post("/ingest", json=body).json()["created"] == 3
    lines = "\n".join(map(json.dumps, items))
    where = "/ingest?collection=by-lines&model=tones-hash"
    streamed = client.post(where, content=lines, headers={"content-type": "application/x-ndjson"})
    assert streamed.json()["created"] == 3
    for place, sound in enumerate(sounds):
        stored = [
            client.get(f"/collections/{name}/items/{place}.wav").json() for name in ("by-form", "by-json", "by-lines")
        ]
        assert len({item["code"] for item in stored}) == 1
        assert all(item["input"] == {"audio": wav(sound)} for item in stored), "the file itself is kept"
    again = client.post("/encode", json={"model": "tones-hash", "inputs": [{"audio": wav(sounds[0])}]})
    assert again.json()["codes"] == [client.get("/collections/by-form/items/0.wav").json()["code"]]


def test_a_stream_of_more_than_a_request_may_hold_is_stored_in_parts(client: TestClient) -> None:
    long = wav(Sound(np.zeros(4_000 * 19, np.float32), 4_000))
    lines = "\n".join(json.dumps({"id": f"l{place}", "audio": long}) for place in range(4))
    where = "/ingest?collection=long&model=tones-hash"
    reply = client.post(where, content=lines, headers={"content-type": "application/x-ndjson"})
    assert reply.json()["created"] == 4, reply.text
    body = {"collection": "long", "items": [{"audio": long}] * 4}
    problem = assert_problem(client.post("/ingest", json=body), 422, "invalid-request")
    assert "max_request_audio_seconds" in problem["detail"]


@pytest.mark.parametrize(
    ("audio", "why"),
    [
        ("", "not a WAV or FLAC"),
        ("not base64!", "not base64"),
        (base64.b64encode(b"OggS" + bytes(99)).decode(), "not a WAV or FLAC"),
        (base64.b64encode(encode_wav(Sound(np.zeros(900, np.float32), 4_000))[:500]).decode(), "broken"),
        (wav(Sound(np.zeros(0, np.float32), 4_000)), "empty"),
        (wav(Sound(np.zeros(4_000 * 21, np.float32), 4_000)), "lasts 21.0 s"),
    ],
    ids=["nothing", "text", "ogg", "cut", "empty", "long"],
)
def test_sounds_that_are_refused(client: TestClient, audio: str, why: str) -> None:
    body = {"collection": "refused", "model": "tones-hash", "items": [{"audio": audio}]}
    problem = assert_problem(client.post("/ingest", json=body), 422)
    assert why in problem["detail"]
    query = client.post("/search", json={"collection": "tones", "query": {"audio": audio}})
    assert why in assert_problem(query, 413 if "lasts" in why else 422)["detail"]


def test_one_kind_is_not_another(client: TestClient, data: Dataset) -> None:
    assert_problem(client.post("/search", json={"collection": "tones", "query": {"text": "loud"}}), 422)
    both = {"audio": wav(data.items[0]), "text": "loud"}
    assert_problem(client.post("/search", json={"collection": "tones", "query": both}), 422)


# -- made and repaired -------------------------------------------------------------------------------------------------


def test_what_is_generated_is_a_wav_with_its_code(client: TestClient, data: Dataset) -> None:
    body = {"model": "tones-vae", "n": 3, "seed": 1, "collection": "tones"}
    reply = client.post("/generate", json=body)
    items = reply.json()["items"]
    assert client.post("/generate", json=body).json() == reply.json()
    for item in items:
        sound = sound_of(item)
        assert (sound.rate, len(sound.samples)) == (4_000, 4_096)
        assert np.abs(sound.samples).max() > 0.01
        assert len(item["nearest"]) == 3
        code = client.post("/encode", json={"model": "tones-vae", "inputs": [{"audio": item["audio"]}]})
        assert code.json()["codes"] == [item["code"]], "what is sent back has the code that it was given out with"
    near = client.post("/generate", json={"model": "tones-vae", "near": {"audio": wav(data.items[0])}})
    assert sound_of(near.json()["items"][0]).rate == 4_000
    asked = client.post("/generate", json={"model": "tones-vae"}, headers={"accept": "image/png"})
    assert_problem(asked, 415)


def test_codes_decode_into_sounds(client: TestClient) -> None:
    reply = client.post("/decode", json={"model": "tones-hash", "codes": ["0123456789abcdef", "ff" * 8]}).json()
    assert all(len(sound_of(item).samples) == 4_096 for item in reply["items"])


def test_a_denoised_sound_surprises_the_model_less(client: TestClient, data: Dataset) -> None:
    rng = np.random.default_rng(0)
    clean = data.items[5]
    noisy = Sound(as_written(clean.samples + 0.05 * rng.normal(size=len(clean.samples))), clean.rate)
    body = {"model": "tones-denoise", "input": {"audio": wav(noisy)}, "search": {"collection": "tones", "k": 4}}
    reply = client.post("/denoise", json=body).json()
    out = sound_of(reply["output"])
    assert len(out.samples) == 4_096
    assert reply["error_after"] < reply["error_before"]
    assert search(client, out, k=4).json()["hits"] == reply["hits"]


@pytest.mark.parametrize("model", ["tones-denoise", "tones-vae"])
@pytest.mark.parametrize("steps", [1, 3])
def test_inpainting_leaves_known_samples_alone(client: TestClient, data: Dataset, model: str, steps: int) -> None:
    original = data.items[9].samples
    mask = np.zeros(len(original), int)
    mask[1_000:1_500] = 1
    spoiled = Sound(np.where(mask == 1, 0, original).astype(np.float32), 4_000)
    body = {"model": model, "input": {"audio": wav(spoiled)}, "mask": mask.tolist(), "steps": steps}
    reply = client.post("/denoise", json=body)
    out = sound_of(reply.json()["output"]).samples
    assert np.array_equal(out[mask == 0], original[mask == 0])
    assert np.abs(out[mask == 1]).max() > 0
    assert client.post("/denoise", json=body).json() == reply.json()


@pytest.mark.parametrize("mask", [[0] * 4_095, [2] * 4_096, [[0] * 4_096], "AAAA", [], [0.5] * 4_096])
def test_masks_that_are_refused(client: TestClient, data: Dataset, mask: Any) -> None:
    body = {"model": "tones-denoise", "input": {"audio": wav(data.items[0])}, "mask": mask}
    assert_problem(client.post("/denoise", json=body), 422, "invalid-input")


# -- the command line --------------------------------------------------------------------------------------------------


def test_a_folder_of_sounds_from_the_command_line(tmp_path: Path, data: Dataset) -> None:
    assert data.labels is not None
    for place in range(30):
        folder = tmp_path / "sounds" / data.labels[place]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place:02}.wav").write_bytes(encode_wav(data.items[place]))
    place = ["--data-dir", str(tmp_path / "data")]
    sounds = str(tmp_path / "sounds")
    runner = CliRunner()
    for arguments in (
        ["train", "--data", sounds, "--name", "folder", "--family", "itq", "--bits", "32", *place],
        ["ingest", "--data", sounds, "--collection", "sounds", "--model", "folder", *place],
    ):
        done = runner.invoke(app, arguments)
        assert done.exit_code == 0, done.output
    query = next((tmp_path / "sounds").rglob("05.wav"))
    done = runner.invoke(app, ["search", "--collection", "sounds", "--audio", str(query), "-k", "2", "--json", *place])
    assert done.exit_code == 0, done.output
    hits = json.loads(done.stdout)["hits"]
    assert hits[0]["id"] == query.relative_to(sounds).as_posix()
    assert hits[0]["payload"] == {"label": query.parent.name}
    with dataset_of(tmp_path / "data" / "collections" / "sounds" / STORE_FILE, "sounds") as kept:
        assert (kept.kind, len(kept)) == ("audio", 30)
        stored = kept.items[list(kept.ids).index(hits[0]["id"])]
        assert np.array_equal(stored.samples, data.items[5].samples)
