"""compose.yaml, deploy/ and the image's description: right by their schemas, and as safe as the documents say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from starlette.testclient import TestClient

from service.keys import PATTERN
from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
OBJECTS = [(path, item) for path in MANIFESTS for item in yaml.safe_load_all(path.read_text())]
PODS = [
    (item["metadata"]["name"], item["spec"]["template"])
    for _, item in OBJECTS
    if item["kind"] in ("Deployment", "StatefulSet")
]
REPLICA = {"HAMMINGBIRD_MILVUS_URI", "HAMMINGBIRD_DEFAULT_BACKEND", "HAMMINGBIRD_MODELS_DIR", "HAMMINGBIRD_KEYS_DIR"}
GRACE_S = Settings.model_fields["shutdown_grace_s"].default
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+(-\w+)?")


def test_nothing_has_a_password_or_goes_without_one() -> None:
    for path in (ROOT / "compose.yaml", ROOT / "Dockerfile", *(ROOT / "deploy").rglob("*.*")):
        text = path.read_text()
        assert not PATTERN.search(text), path
        code = re.sub(r"#.*", "", text)
        assert not re.search(r"(?i)allow_open|password|secret_key|minioadmin", code), path


def test_settings_that_are_named_are_settings() -> None:
    own = {"HAMMINGBIRD_KERNELS"}  # read before there are settings
    for path in (ROOT / "compose.yaml", ROOT / "Dockerfile", *MANIFESTS):
        for name in re.findall(r"\bHAMMINGBIRD_[A-Z_]+\b", path.read_text()):
            assert name in own or name.removeprefix("HAMMINGBIRD_").lower() in Settings.model_fields, (path, name)


# -- compose.yaml ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_a_service_of_compose_is_as_confined_as_it_can_be(name: str) -> None:
    service = COMPOSE["services"][name]
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "publishing further is the reader's own decision"
    assert service["image"] == "hammingbird" or PINNED.fullmatch(service["image"])
    assert service["restart"] == "unless-stopped"
    if name != "milvus":
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    if service["image"] == "hammingbird":
        assert int(service["stop_grace_period"].removesuffix("s")) > GRACE_S
        assert any(volume.endswith(":/data") for volume in service["volumes"])
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        assert (ROOT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]
    assert set(service.get("networks", ())) <= set(COMPOSE["networks"])
    assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])


def test_compose_is_one_service_and_in_a_profile_two_replicas_over_milvus() -> None:
    services = COMPOSE["services"]
    alone = [name for name, service in services.items() if "profiles" not in service]
    assert alone == ["hammingbird"]
    assert all(services[name]["profiles"] == ["milvus"] for name in set(services) - {"hammingbird"})
    assert COMPOSE["networks"]["milvus"] == {"internal": True}
    assert "ports" not in services["milvus"]
    assert services["milvus"]["networks"] == ["milvus"], "it asks for no password"
    replicas = [services[name] for name in ("replica-1", "replica-2")]
    for replica in replicas:
        assert set(replica["environment"]) == REPLICA
        assert set(replica["networks"]) == {"default", "milvus"}
        assert "shared:/shared" in replica["volumes"]
        assert "ports" not in replica
    assert replicas[0]["environment"] == replicas[1]["environment"]
    own = [next(volume for volume in replica["volumes"] if volume.endswith(":/data")) for replica in replicas]
    assert own[0] != own[1], "a data directory belongs to one process"
    aliases = [alias for replica in replicas for alias in replica["networks"]["default"]["aliases"]]
    assert aliases.count("hammingbird-first") == 1
    assert aliases.count("hammingbird-any") == 2


# -- Kubernetes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "item"), OBJECTS, ids=lambda part: part["kind"] if isinstance(part, dict) else "")
def test_a_manifest_is_right_by_its_schema(path: Path, item: dict[str, Any]) -> None:
    kubernetes_validate.validate(item, "1.37", strict=True)


@pytest.mark.parametrize(("name", "template"), PODS, ids=[name for name, _ in PODS])
def test_a_pod_may_do_as_little_as_it_can(name: str, template: dict[str, Any]) -> None:
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == (101 if name.endswith("gateway") else 10001)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service called hammingbird would set HAMMINGBIRD_PORT to a URL"
    (container,) = pod["containers"]
    assert PINNED.fullmatch(container["image"])
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= set(container["resources"])
    assert {mount["name"] for mount in container["volumeMounts"]} >= {"scratch"}
    volumes = {volume["name"] for volume in pod["volumes"]} | ({"data"} if name == "hammingbird" else set())
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    if name.endswith("gateway"):
        return
    assert pod["terminationGracePeriodSeconds"] > GRACE_S + (5 if "lifecycle" in container else 0)
    assert container["readinessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    paths = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert paths["/etc/hammingbird"] is True
    assert {"/data", "/tmp"} <= set(paths)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_objects_of_a_manifest_find_each_other(path: Path) -> None:
    items = [item for of, item in OBJECTS if of == path]
    pods = [item["spec"]["template"] for item in items if "template" in item.get("spec", {})]
    labels = [pod["metadata"]["labels"] for pod in pods]
    claims = {item["metadata"]["name"] for item in items if item["kind"] == "PersistentVolumeClaim"}
    for item in items:
        spec = item.get("spec", {})
        if "selector" in spec:
            wanted = spec["selector"].get("matchLabels", spec["selector"])
            matching = [own for own in labels if wanted.items() <= own.items()]
            assert matching, item["metadata"]["name"]
            if "template" in spec:
                assert matching == [spec["template"]["metadata"]["labels"]], "a workload selects its own pods alone"
        for volume in spec.get("template", {}).get("spec", {}).get("volumes", ()):
            assert volume.get("persistentVolumeClaim", {"claimName": None})["claimName"] in {None, *claims}
    created = set(re.findall(r"^# +kubectl create (?:secret generic|configmap) (\S+)", path.read_text(), re.MULTILINE))
    made = {item["metadata"]["name"] for item in items if item["kind"] == "ConfigMap"}
    text = json.dumps(items)
    asked = set(
        re.findall(r'"(?:secretName|configMapRef": {"name|secretKeyRef": {"name|configMap": {"name)": "(.*?)"', text)
    )
    assert asked - made <= created | {"hammingbird-keys"}, "the first lines say how to make it"


def test_replicas_are_the_same_in_compose_and_in_kubernetes() -> None:
    (given,) = [item["data"] for _, item in OBJECTS if item["metadata"]["name"] == "hammingbird-replicas"]
    own = COMPOSE["services"]["replica-1"]["environment"]
    assert {**given, "HAMMINGBIRD_KEYS_DIR": "/shared"} == own
    services = {item["metadata"]["name"] for _, item in OBJECTS if item["kind"] == "Service"}
    named = set(re.findall(r"server ([\w-]+):8000", (ROOT / "deploy" / "nginx.conf").read_text()))
    assert named == {"hammingbird-first", "hammingbird-any"} <= services
    gateways = {
        COMPOSE["services"]["gateway"]["image"],
        dict(PODS)["hammingbird-gateway"]["spec"]["containers"][0]["image"],
    }
    assert len(gateways) == 1


# -- nginx -----------------------------------------------------------------------------------------------------------

FIRST = re.compile(
    r"/(jobs|train|snapshots)(/.*)?"
    r"|/collections/[^/]+/(reencode|standby|flip|rollback|duplicates|calibrate|calibration|restore|snapshots)(/.*)?"
)
"""What needs the folder of the replica that ran the job."""
NAMESPACES = ["unshare", "--map-root-user", "--mount", "--net"]


def gateway(*steps: tuple[str, str, int]) -> Iterator[dict[str, Any]]:
    for program in ("nginx", "unshare", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs namespaces of its own")
    command = [*NAMESPACES, sys.executable, str(ROOT / "tests" / "gateway.py")]
    done = subprocess.run(command, input=json.dumps(steps), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return iter(json.loads(done.stdout))


def test_the_gateway_sends_every_route_where_it_can_be_answered(shared_client: TestClient) -> None:
    paths = shared_client.get("/openapi.json").json()["paths"]
    routes = sorted((method.upper(), path) for path, methods in paths.items() for method in methods)
    routes += [("GET", "/"), ("GET", "/docs"), ("GET", "/metrics"), ("POST", "/trainer"), ("GET", "/jobsite")]
    assert len(routes) > 45
    steps = [(method, re.sub(r"\{\w+\}", "a%20name", path), 0) for method, path in routes for _ in range(2)]
    answers = gateway(*steps)
    for method, path in routes:
        said = [json.loads(next(answers)["body"]) for _ in range(2)]
        expected = {"first"} if FIRST.fullmatch(path) else {"first", "second"}
        assert {reply["replica"] for reply in said} == expected, f"{method} {path}"
        for reply in said:
            assert reply["path"] == re.sub(r"\{\w+\}", "a%20name", path), "as it came"
            assert reply["host"] == "codes.example:8080", "the service compares it with the origin of a page"


def test_the_gateway_goes_on_when_a_replica_is_gone() -> None:
    many = [("POST", "/search", 10), ("GET", "/collections", 0), ("POST", "/ingest", 10)]
    answers = gateway(*many, ("stop", "second", 0), *many * 6, ("GET", "/jobs", 0), ("stop", "first", 0), *many)
    for _ in range(3):
        assert next(answers)["status"] == 200
    for _ in range(3 * 6 + 1):
        reply = next(answers)
        assert (reply["status"], json.loads(reply["body"])["replica"]) == (200, "first")
    for reply in answers:
        assert reply["status"] == 503
        assert reply["headers"]["retry-after"] == "2"
        assert reply["headers"]["content-type"] == "application/problem+json"
        body = json.loads(reply["body"])
        assert {"type", "title", "status", "detail"} == set(body)
        assert body["status"] == 503


def test_the_gateway_bounds_what_it_holds_and_nothing_that_streams() -> None:
    most = Settings.model_fields["max_body_bytes"].default
    steps = [("POST", "/search", most), ("POST", "/search", most + 1), ("POST", "/ingest", most + 2**20)]
    fits, refused, streamed = gateway(*steps)
    assert json.loads(fits["body"])["bytes"] == most
    assert refused["status"] == 413
    assert refused["headers"]["content-type"] == "application/problem+json"
    assert f"{most // 2**20} MiB" in json.loads(refused["body"])["detail"]
    assert json.loads(streamed["body"])["bytes"] == most + 2**20
