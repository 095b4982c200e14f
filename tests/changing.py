"""A random walk over a collection that goes over to another model and back while it is read and written."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from generating import BITS, assert_holds, fill, item_of, key_of, put
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from index import Item, PutResult
from index.errors import GenerationChanged, InputsMissing, ModelMismatch, NoSuchGeneration

ids = st.sampled_from(["a", "b", "ä", "日本", *map(str, range(12))])
things = st.builds(item_of, ids, st.binary(max_size=2), st.none() | st.fixed_dictionaries({"n": st.integers(0, 3)}))


class GenerationMachine(RuleBasedStateMachine):
    """The random walk of reliability.md X8, with changes of model at any moment."""

    place: ClassVar[Any]
    collection: Any

    @initialize()
    def start(self) -> None:
        self.collection = self.place().make(BITS[0], key_of(0))
        self.known: dict[str, Item] = {}
        self.serving = 0
        self.other: tuple[int, str, int] | None = None  # number, state, model

    def teardown(self) -> None:
        if hasattr(self, "collection"):
            self.place().done(self.collection)

    @property
    def models(self) -> list[int]:
        return [self.serving] if self.other is None else [self.serving, self.other[2]]

    @rule(batch=st.lists(things, max_size=5), turned=st.booleans())
    def put(self, batch: list[Item], turned: bool) -> None:
        """Whichever of the two models the writer takes for the first."""
        models = self.models[::-1] if turned else self.models
        result = put(self.collection, batch, models)
        latest = {item.id: item for item in batch}
        created = [id for id in latest if id not in self.known]
        same = [id for id in latest if id in self.known and latest[id] == self.known[id]]
        assert result == PutResult(len(created), len(latest) - len(created) - len(same), len(same))
        self.known.update(latest)

    @rule(batch=st.lists(things, min_size=1, max_size=3))
    def put_for_one_model(self, batch: list[Item]) -> None:
        """A writer that does not know of the second model is told; nothing of it is stored."""
        if self.other is not None:
            with pytest.raises(GenerationChanged):
                put(self.collection, batch, [self.serving])
            with pytest.raises(InputsMissing):
                self.collection.put_codes(["x"], np.zeros((1, BITS[self.serving] // 8), np.uint8))

    @rule(doomed=st.lists(ids, max_size=4))
    def delete(self, doomed: list[str]) -> None:
        assert self.collection.delete(doomed) == len({id for id in doomed if id in self.known})
        for id in doomed:
            self.known.pop(id, None)

    @rule(n=st.integers(0, 3))
    def delete_where(self, n: int) -> None:
        gone = [id for id, item in self.known.items() if item.payload == {"n": n}]
        assert self.collection.delete_where({"n": n}) == len(gone)
        for id in gone:
            del self.known[id]

    @rule(model=st.sampled_from(range(len(BITS))))
    def begin(self, model: int) -> None:
        if model == self.serving:
            with pytest.raises((ModelMismatch, NoSuchGeneration)):
                self.collection.generations.begin(key_of(model), BITS[model])
        elif self.other is not None and self.other[1] != "kept":
            with pytest.raises(NoSuchGeneration):
                self.collection.generations.begin(key_of(model), BITS[model])
        else:
            generation = self.collection.generations.begin(key_of(model), BITS[model])
            self.other = generation.number, "filling", model

    @precondition(lambda self: self.other is not None)
    @rule(most=st.integers(0, 20))
    def fill(self, most: int) -> None:
        number, state, model = self.other  # type: ignore[misc]
        if state == "filling":
            fill(self.collection, number, model, most=most)
        else:
            with pytest.raises(NoSuchGeneration):
                fill(self.collection, number, model)

    @precondition(lambda self: self.other is not None)
    @rule(whole=st.booleans(), ready=st.booleans())
    def flip(self, whole: bool, ready: bool) -> None:
        number, state, model = self.other  # type: ignore[misc]
        if state == "filling" and whole:
            fill(self.collection, number, model)
            if ready:
                self.collection.generations.make_ready(number)
                self.other = number, "ready", model
        held = next(one for one in self.collection.generations.all() if one.number == number)
        if held.items < len(self.known):
            with pytest.raises(NoSuchGeneration):
                self.collection.generations.flip(number)
            return
        old = next(one for one in self.collection.generations.all() if one.state == "serving")
        self.collection.generations.flip(number)
        self.other, self.serving = (old.number, "kept", self.serving), model

    @precondition(lambda self: self.other is not None)
    @rule()
    def drop(self) -> None:
        assert self.collection.generations.drop(self.other[0])  # type: ignore[index]
        self.other = None

    @rule()
    def compact(self) -> None:
        self.collection.compact()

    @rule(copy=st.booleans())
    def restart(self, copy: bool) -> None:
        self.collection = self.place().again(self.collection, keep_copy=copy)
        if self.other is not None and self.other[1] == "filling":
            self.other = None

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "collection"):
            return
        assert_holds(self.collection, self.known, self.serving)
        states = {(one.number, one.state) for one in self.collection.generations.all() if one.state != "serving"}
        assert states == (set() if self.other is None else {self.other[:2]})
        for model in range(len(BITS)):
            query, fingerprint = np.zeros(BITS[model] // 8, np.uint8), key_of(model).fingerprint
            if model != self.serving:
                with pytest.raises((GenerationChanged, ModelMismatch)):
                    self.collection.search(query, k=1, fingerprint=fingerprint)
