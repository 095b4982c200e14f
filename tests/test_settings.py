"""Settings: each has its reason, its unit and its line in the documentation, and each limit is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, as_markdown

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == as_markdown(), "run tools/settings-table"


def test_every_setting_is_on_the_page_with_its_reason() -> None:
    lines = {line.split("`")[1]: line for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    assert lines.keys() == Settings.model_fields.keys()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description in lines[name]


def test_every_limit_is_read_from_the_environment_and_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        name for name in Settings.model_fields if name.startswith(("max_", "min_")) or name.endswith(("_s", "_ms"))
    ]
    assert len(names) > 20
    for name in names:
        variable = f"HAMMINGBIRD_{name.upper()}"
        default = Settings.model_fields[name].default
        monkeypatch.setenv(variable, str(default))
        assert getattr(Settings(), name) == default
        monkeypatch.setenv(variable, "-1")
        with pytest.raises(ValidationError, match=name):
            Settings()
        monkeypatch.delenv(variable)


def test_a_list_is_given_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMMINGBIRD_CORS_ORIGINS", "https://a.example, https://b.example")
    assert Settings().cors_origins == ("https://a.example", "https://b.example")
    monkeypatch.setenv("HAMMINGBIRD_CORS_ORIGINS", "")
    assert Settings().cors_origins == ()
