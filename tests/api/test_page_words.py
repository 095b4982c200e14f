"""What the page says of the service in words of its own is what the service says."""

from __future__ import annotations

import re

from models.base import families
from models.builtin import BUILTIN
from models.capabilities import capabilities
from service.pages import Page
from service.schemas.generations import GateOptions


def text_of(path: str) -> str:
    return Page().files[path].content.decode()


def constant(path: str, name: str) -> str:
    """The text of an object or list that a file of the page exports."""
    found = re.search(rf"^export const {name} = [{{\[](.*?)^[}}\]];", text_of(path), re.M | re.S)
    assert found is not None
    return found[1]


def test_the_built_in_data_sets() -> None:
    assert set(re.findall(r"^  '?([\w-]+)'?:", constant("js/models/train.js", "BUILTIN"), re.M)) == set(BUILTIN)


def test_every_capability_is_explained() -> None:
    known = {name for family in families().values() for name in capabilities(family)}
    assert set(re.findall(r"^  (\w+):", constant("js/models/families.js", "CAPABILITIES"), re.M)) == known


def test_the_limits_of_the_gate_have_their_defaults() -> None:
    limits = dict(re.findall(r"'(m\w+)',\s*([\d.]+)", constant("js/models/gate.js", "LIMITS")))
    usual = {name: field.default for name, field in GateOptions.model_fields.items() if name != "queries"}
    assert {name: float(value) for name, value in limits.items()} == usual
