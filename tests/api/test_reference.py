"""`/docs`: everything comes from the service itself, under the policy of the explorer page."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from service.pages import POLICY

SCRIPT, STYLE = "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"


def test_the_page_names_files_of_the_service_only(shared_client: TestClient) -> None:
    reply = shared_client.get("/docs")
    assert reply.headers["content-security-policy"] == POLICY
    named = re.findall(r'(?:src|href)="([^"]+)"', reply.text)
    assert {SCRIPT, STYLE, "/openapi.json"} <= set(named)
    for path in named:
        assert path.startswith("/")
        assert not path.startswith("//")
        assert shared_client.get(path).status_code == 200


def test_nothing_of_it_is_a_script_in_the_page(shared_client: TestClient) -> None:
    assert not re.findall(r"<script(?![^>]*\bsrc=)", shared_client.get("/docs").text)


@pytest.mark.parametrize(("path", "type", "most"), [(SCRIPT, "text/javascript", 550_000), (STYLE, "text/css", 40_000)])
def test_files_are_packed_and_not_sent_twice(shared_client: TestClient, path: str, type: str, most: int) -> None:
    packed = shared_client.get(path, headers={"accept-encoding": "gzip"})
    assert packed.headers["content-type"].startswith(type)
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < most
    whole = shared_client.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in whole.headers
    assert whole.content == packed.content  # which the client has unpacked
    for etag, status in ((packed.headers["etag"], 304), ('"another"', 200)):
        assert shared_client.get(path, headers={"if-none-match": etag}).status_code == status


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect"])
def test_what_would_load_from_elsewhere_is_not_there(shared_client: TestClient, path: str) -> None:
    assert shared_client.get(path).status_code == 404
