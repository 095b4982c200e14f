"""H12: every operation of the OpenAPI document, with what its schema allows and what it does not: no 5xx, and every
reply is one that the document tells of. By Schemathesis, in this process, over a copy of the prepared data directory.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import EngineFinished, FatalError, NonFatalError, ScenarioFinished
from schemathesis.python.asgi import shutdown_lifespans

from service.app import create_app
from service.errors import MEDIA_TYPE
from service.examples import DIGIT, QUESTION
from service.schemas import INPUT_FIELDS
from service.settings import Settings

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "use_after_free",
    "problem_shape",
)
# Most requests should get past "there is no such collection".
NAMES = {
    "collections": ["digits", "python-docs", "vectors", "codes"],
    "models": ["digits-hash", "digits-vae", "digits-denoise", "docs-hash", "vectors-itq", "vectors-itq:1"],
    "items": ["digit-0000", "v1", "v2", "c1"],
    "hex": ["00" * 8, "ff" * 8, "00" * 4, "0123456789abcdef"],
    "families": ["lsh", "itq", "pca-sign", "binary-autoencoder"],
    "datasets": ["digits", "lines"],
    "width": [8, 32, 64, 128],
    "small": [1, 2, 3, 8],
}
WHERE = {
    "path.collection": "collections",
    "query.collection": "collections",
    "body.collection": "collections",
    "body.searches[*].collection": "collections",
    "body.search.collection": "collections",
    "body.data.collection": "collections",
    "path.reference": "models",
    "body.model": "models",
    "path.name": "models",
    "path.id": "items",
    "body.ids[*]": "items",
    "body.query.id": "items",
    "body.input.id": "items",
    "body.query.code": "hex",
    "body.items[*].code": "hex",
    "body.codes[*]": "hex",
    "body.near.code": "hex",
    "body.a.code": "hex",
    "body.b.code": "hex",
    "body.inputs[*].code": "hex",
    "body.family": "families",
    "body.data.dataset": "datasets",
    "body.bits": "width",
    **{
        f"body.{name}": "small"
        for name in ("k", "radius", "limit", "n", "steps", "searches[*].k", "searches[*].radius")
    },
}


# What an input can be: whatever is drawn is mostly replaced by one of these, since few drawn ones are pictures.
INPUTS: dict[str, list[dict[str, Any]]] = {
    "dig": [{"image": DIGIT}, {"code": "00" * 8}, {"id": "digit-0000"}],
    "pyt": [{"text": QUESTION}, {"code": "0f" * 16}],
    "doc": [{"text": QUESTION}],
    "vec": [
        {"vector": [0.5] * 24},
        {"vector_b64": base64.b64encode(np.ones(24, "<f4").tobytes()).decode()},
        {"id": "v1"},
    ],
}
LINES = [b'{"id": "l1", "code": "0123456789abcdef"}', b'{"code": "00"}', b"{}", b"", b'{"id": 1', b"\xff", b"[]"]


def with_inputs(value: Any, chance: random.Random, of: str = "") -> Any:
    """The body with most of its inputs and items replaced by good ones. of: the collection or model that is asked."""
    if isinstance(value, list):
        return [with_inputs(part, chance, of) for part in value]
    if not isinstance(value, dict):
        return value
    if value and set(value) <= {*INPUT_FIELDS, "id", "payload"} and chance.random() < 0.8:
        kind = of[:3] if of[:3] in INPUTS and chance.random() < 0.9 else chance.choice(list(INPUTS))
        item = {name: value[name] for name in ("id", "payload") if name in value and "payload" in value}
        return {**item, **chance.choice(INPUTS[kind])}
    of = next((value[name] for name in ("model", "collection") if isinstance(value.get(name), str)), of)
    return {name: with_inputs(part, chance, of) for name, part in value.items()}


@schemathesis.serializer("application/x-ndjson", "application/x-tar")
def as_it_is(context: Any, value: Any) -> Any:
    """A body that is bytes; the example in the document is text."""
    return (
        value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else json.dumps(value).encode()
    )


@schemathesis.check
def problem_shape(ctx: Any, response: Any, case: Any) -> None:
    """An error is a problem with all its members and nothing else, and no longer than one needs."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == [MEDIA_TYPE]
    body = json.loads(response.content)
    assert {"type", "title", "status", "detail"} <= set(body) <= {"type", "title", "status", "detail", "errors"}
    assert body["status"] == response.status_code
    assert body["type"].startswith("urn:hammingbird:problem:")
    assert len(response.content) < 6000, "what was sent is not given back"


@pytest.fixture
def application(prepared: Path, tmp_path: Path) -> Iterator[Any]:
    root = Path(shutil.copytree(prepared, tmp_path / "data"))
    yield create_app(Settings(data_dir=root))
    shutdown_lifespans()


def run(
    application: Any, seconds: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, str], Counter[str]]:
    """What went wrong, one example of each kind; and how many requests each operation was sent."""
    monkeypatch.setenv("SCHEMATHESIS_HOOKS", "")
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "max-time": seconds,
            "request-timeout": 60,
            "max-stream-events": 2,
            "checks": {"enabled": False} | {name: {"enabled": True} for name in CHECKS},
            "generation": {"database": "none", "with-security-parameters": False},
            "dictionaries": {name: {"values": values} for name, values in NAMES.items()},
            "parameters": {where: {"dictionary": name, "probability": 0.7} for where, name in WHERE.items()},
            "suppress-health-check": ["all"],
            # To delete a job is to cancel it: it can still be looked at.
            "operations": [
                {"include-path-regex": "^/jobs", "checks": {"use_after_free": {"enabled": False}}},
                {"include-path-regex": "events$", "request-timeout": 2},
            ],
            "phases": {
                "fuzzing": {"generation": {"max-examples": 30}},
                "stateful": {"generation": {"max-examples": 10}},
            },
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", application, config=config)

    @schema.hook
    def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        """What all requests are about stays: of the collections and models, only what was made here is deleted."""
        if path_parameters is None:
            return None
        operation = context.operation
        whole = operation.method == "delete" and operation.path in ("/collections/{collection}", "/models/{reference}")
        spared = {*NAMES["collections"], *NAMES["models"]} if whole else set()
        return {name: "spared" if str(value) in spared else value for name, value in path_parameters.items()}

    @schema.hook
    def map_body(context: Any, body: Any) -> Any:
        chance = random.Random(repr(body))
        if isinstance(body, bytes) and chance.random() < 0.5:
            return b"\n".join(chance.choices(LINES, k=chance.randrange(5)))
        return with_inputs(body, chance)

    wrong: dict[str, str] = {}
    sent: Counter[str] = Counter()
    statuses: dict[str, Counter[int]] = {}
    for event in from_schema(schema).execute():
        if isinstance(event, ScenarioFinished):
            recorder = event.recorder
            for case_id, interaction in recorder.interactions.items():
                if interaction.response is not None:
                    label = recorder.cases[case_id].value.operation.label
                    statuses.setdefault(label, Counter())[interaction.response.status_code] += 1
                    if interaction.response.elapsed > 3:
                        print(f"{label}: {interaction.response.elapsed:.1f} s")  # noqa: T201
            for node in recorder.cases.values():
                sent[node.value.operation.label] += 1
            for case_id, checks in recorder.checks.items():
                for check in checks:
                    if check.failure_info is not None:
                        label = recorder.cases[case_id].value.operation.label
                        failure = check.failure_info
                        what = f"{label}: {check.name}: {failure.failure.title}"
                        wrong.setdefault(what, f"{failure.failure.message}\n{failure.code_sample}"[:2000])
        elif isinstance(event, NonFatalError | FatalError):
            error = event.value if isinstance(event, NonFatalError) else event.exception
            wrong.setdefault(
                f"{type(error).__name__}: {error}"[:300], "".join(traceback.format_exception(error))[-2000:]
            )
        elif isinstance(event, EngineFinished):
            print(f"{sum(sent.values())} requests in {event.running_time:.0f} s, stopped by {event.stop_reason}")  # noqa: T201
    for label, counts in sorted(statuses.items()):
        print(label, dict(sorted(counts.items())))  # noqa: T201
    return wrong, sent


def report(wrong: dict[str, str]) -> str:
    return "\n\n".join(f"## {what}\n{example}" for what, example in wrong.items())


@pytest.mark.filterwarnings("default")
def test_some_seconds_of_every_operation(application: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """H12, in short, with one seed; the long one takes another each time."""
    seed = int(os.environ.get("H12_SEED", "7"))
    print(f"H12_SEED={seed}")  # noqa: T201
    for seconds in (6, 60):  # the second on a machine that is too busy for the first to say much
        wrong, sent = run(application, seconds, seed, monkeypatch)
        assert not wrong, f"H12_SEED={seed}\n{report(wrong)}"
        if sum(sent.values()) >= 20:
            return
    pytest.fail(f"only {sum(sent.values())} requests in a minute")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("default")
def test_ten_minutes_of_every_operation(application: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """H12"""
    seed = int(os.environ.get("H12_SEED", random.randrange(2**31)))
    seconds = int(os.environ.get("H12_SECONDS", 600))
    print(f"H12_SEED={seed}")  # noqa: T201
    wrong, sent = run(application, seconds, seed, monkeypatch)
    documented = {
        f"{method.upper()} {path}" for path, methods in application.openapi()["paths"].items() for method in methods
    }
    assert not wrong, f"H12_SEED={seed}\n{report(wrong)}"
    assert set(sent) >= documented
