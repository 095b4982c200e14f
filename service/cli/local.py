"""A command's answers from a data directory that this process holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from index import Screen

from .. import create
from ..engine import Engine
from ..errors import InvalidRequest, faults_of, plainly
from ..ingest import Prepared, ingest
from ..jobs import JobStore
from ..restore import restore
from ..routes import calibration, duplicates, generations, jobs
from ..routes import collections as collection_routes
from ..routes import models as model_routes
from ..runner import Runner
from ..schemas import CollectionRequest, DenoiseRequest, GenerateRequest, IngestRequest, SearchRequest, TrainRequest
from ..schemas.calibration import CalibrateRequest
from ..schemas.duplicates import DuplicatesRequest
from ..schemas.generations import ReencodeRequest
from ..search import search
from .base import CommandError
from .interrupts import whole
from .places import Body, Job, Reply, Service

Asked = TypeVar("Asked", bound=BaseModel)


class Local(Service):
    """The engine, asked as the REST API is."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *exc: object) -> None:
        if "_runner" in vars(self):  # what jobs need, where there were some
            self._runner.close()

    def search(self, body: Body) -> Reply:
        reply: Reply = json.loads(search(self.engine, _asked(SearchRequest, body)).json())
        return reply

    def ingest(self, body: Body, duplicates: tuple[str, int] | None = None) -> Reply:
        asked, screen = _asked(IngestRequest, body), _screen(duplicates)
        with whole():
            reply = ingest(self.engine, asked.collection, asked.model, asked.items, skip_bad=True, screen=screen)
        return _told(reply)

    def store(
        self, collection: str, model: str | None, items: Sequence[Prepared], duplicates: tuple[str, int] | None
    ) -> Reply:
        """The same of items whose codes were made by another process."""
        with whole():
            reply = ingest(self.engine, collection, model, items, skip_bad=True, screen=_screen(duplicates))
        return _told(reply)

    def generate(self, body: Body) -> Reply:
        return _told(create.generate(self.engine, _asked(GenerateRequest, body))[0])

    def denoise(self, body: Body) -> Reply:
        return _told(create.denoise(self.engine, _asked(DenoiseRequest, body)))

    def item(self, collection: str, id: str) -> Reply:
        return _told(collection_routes.item(collection, id, self.engine))

    def collections(self) -> Reply:
        return _told(collection_routes.collections(self.engine))

    def collection(self, name: str) -> Reply:
        return _told(collection_routes.collection(name, self.engine))

    def health(self, name: str) -> Reply:
        from ..health import Examinations
        from ..routes.code_health import reply_for

        examinations = Examinations(self.engine)
        try:
            return _told(reply_for(name, examinations.ask(self.engine.catalogue.get(name)).result()))
        finally:
            examinations.close()

    def create_collection(self, body: Body) -> Reply:
        with whole():
            return _told(collection_routes.create(_asked(CollectionRequest, body), self.engine))

    def delete_collection(self, name: str) -> None:
        with whole():
            self.engine.catalogue.delete(name)

    def models(self) -> Reply:
        return _told(model_routes.models(self.engine))

    def model(self, reference: str) -> Reply:
        return _told(model_routes.model(reference, self.engine))

    def set_alias(self, name: str, alias: str, version: int) -> Reply:
        with whole():
            return _told(model_routes.model_card(self.engine.registry.alias(f"{name}:{version}", alias)))

    def delete_model(self, reference: str) -> None:
        with whole():
            self.engine.delete_model(reference)

    def add_model(self, name: str, train: Callable[[Path], None]) -> Reply:
        draft = self.engine.registry.draft(name)
        try:
            train(draft)
            with whole():
                return _told(model_routes.model_card(self.engine.registry.add(name, draft)))
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            with suppress(OSError):  # it holds versions, this one or others
                draft.parent.rmdir()

    @cached_property
    def _runner(self) -> Runner:
        settings = self.engine.settings
        return Runner(JobStore(settings.data_dir / "jobs.db"), most_waiting=1, admit=self.engine.check_room)

    def begin(self, kind: Job, body: Body, collection: str = "") -> Reply:
        if kind == "train":
            return _told(jobs.train(_asked(TrainRequest, body), self.engine, self._runner))
        if kind == "reencode":
            return _told(generations.reencode(collection, _asked(ReencodeRequest, body), self.engine, self._runner))
        if kind == "calibrate":
            return _told(calibration.calibrate(collection, _asked(CalibrateRequest, body), self.engine, self._runner))
        return _told(duplicates.duplicates(collection, _asked(DuplicatesRequest, body), self.engine, self._runner))

    def job(self, id: str) -> Reply:
        return self._runner.store.get(id)

    def cancel(self, id: str) -> None:
        self._runner.cancel(id)

    def rollback(self, collection: str) -> Reply:
        with whole():
            return _told(generations.rollback(collection, self.engine))

    def restore(self, file: Path, name: str | None, replace: bool, progress: Callable[[float, str], None]) -> Reply:
        try:
            archive = file.open("rb")
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}") from None

        class Followed:
            """The file, read under a progress bar."""

            def read(self, size: int, /) -> bytes:
                progress(archive.tell(), "")
                return archive.read(size)

        with archive:
            done = restore(self.engine, Followed(), name=name, replace_there=replace, linger_s=0)
        models = [
            {
                "name": one.entry.name,
                "version": one.entry.version,
                "fingerprint": one.entry.fingerprint,
                "added": one.added,
                "archived_as": one.archived.reference,
            }
            for one in done.models
        ]
        return {
            "collections": [self.collection(one) for one in done.collections],
            "replaced": done.replaced,
            "models": models,
        }


def _asked(kind: type[Asked], body: Body) -> Asked:
    """`body` as a route would take it. Raises `InvalidRequest`."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest(*plainly(faults_of(error))) from None


def _screen(duplicates: tuple[str, int] | None) -> Screen | None:
    return None if duplicates is None else Screen(duplicates[1], duplicates[0] == "tag")


def _told(reply: BaseModel) -> Reply:
    return reply.model_dump(mode="json")
