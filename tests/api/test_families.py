"""Every family behind every route: 200 where it can, 409 naming those that can where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support import assert_problem, part_of, png

from models.artefact import save_artefact
from models.base import build, families
from models.capabilities import capabilities
from models.data import load
from models.inputs import INPUTS
from models.registry import Registry
from models.train import TrainConfig, Trainer
from service.app import create_app
from service.settings import Settings
from service.training import Training, check

pytestmark = pytest.mark.xdist_group("families")  # one process makes what they all use

FAMILIES = sorted(families())
SMALL: dict[str, Any] = {"hidden": 16, "channels": 4, "groups": [1, 1], "latents": 2, "prior_channels": 8}
HOLE = [[1] * 8] * 4 + [[0] * 8] * 4
# route, the capability it takes, and the rest of a body
VERBS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "encode": ("/encode", "encode", {"inputs": ["image"], "latents": True}),
    "decode": ("/decode", "decode", {"codes": ["0123456789abcdef"], "flip": [0, 63]}),
    "sample": ("/generate", "sample", {"n": 2, "seed": 1}),
    "vary": ("/generate", "vary", {"n": 2, "near": "image"}),
    "denoise": ("/denoise", "denoise", {"input": "image"}),
    "inpaint": ("/denoise", "inpaint", {"input": "image", "mask": HOLE}),
    "interpolate": ("/interpolate", "interpolate", {"a": "image", "b": "image", "steps": 3}),
    "score": ("/score", "score", {"inputs": ["image"]}),
    "weigh": ("/score", "weigh", {"inputs": ["image"], "relative_to": "image"}),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service that holds a hastily trained model of every family, named after it."""
    root = Path(tmp_path_factory.mktemp("families"))
    data = part_of(load("digits"), 60)
    registry = Registry(root / "models")
    for name in FAMILIES:
        known = families()[name].Params.model_fields
        params = {key: value for key, value in SMALL.items() if key in known}
        model = build(name, INPUTS["image"].fit(data.items), 64, params)
        list(Trainer(model, TrainConfig(epochs=1, batch_size=30)).fit(data.items, data.labels))
        draft = registry.draft(name)
        save_artefact(model, draft, metrics={}, training={}, title=name)
        registry.add(name, draft)
    with TestClient(create_app(Settings(data_dir=root))) as found:
        yield found


def filled(value: Any, image: str) -> Any:
    """A body with the picture where "image" stands."""
    if isinstance(value, dict):
        return {key: filled(member, image) for key, member in value.items()}
    if isinstance(value, list) and value == ["image"]:
        return [{"image": image}]
    return {"image": image} if value == "image" else value


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_behind_every_route(client: TestClient, family: str, verb: str) -> None:
    route, capability, rest = VERBS[verb]
    body = {"model": family, **filled(rest, png(load("digits").items[0]))}
    response = client.post(route, json=body)
    if capability in capabilities(families()[family]):
        assert response.status_code == 200, response.text
        assert response.json()["model"]["name"] == family
        return
    problem = assert_problem(response, 409, "capability-missing")
    able = [name for name in FAMILIES if capability in capabilities(families()[name])]
    assert all(name in problem["detail"] for name in able)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_asked_for_before_any_data_is_read(family: str) -> None:
    check(Training("name", family, 64, {}))
