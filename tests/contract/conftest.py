"""Collections of every kind, for the tests of what all of them do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import places
import pytest


@pytest.fixture(scope="session", autouse=True)
def _places_end() -> Iterator[None]:
    yield
    places.close()


@pytest.fixture(params=places.ALL)
def place(request: pytest.FixtureRequest) -> Any:
    """Where collections are kept: every place in turn."""
    return request.param()


@pytest.fixture
def make(place: places.Place) -> Iterator[places.Make]:
    """Makes an empty collection in the place."""
    made: list[Any] = []

    def new(*asked: Any, **more: Any) -> Any:
        made.append(place.make(*asked, **more))
        return made[-1]

    yield new
    for collection in made:
        place.done(collection)
