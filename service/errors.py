"""From exceptions to RFC 9457 problems: one table, one shape, on every route.

The body never repeats what the client sent: a field at fault is named by its JSON pointer.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from index import errors as index_errors
from models import errors as model_errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ServiceError(Exception):
    """Base of what the service itself refuses; `errors` are (JSON pointer, what is wrong) pairs."""

    def __init__(self, message: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class InvalidRequest(ServiceError):
    """A request that is well-formed but cannot be meant."""


class TooLarge(ServiceError):
    """A part of the request beyond a stated limit."""


class UnsupportedMedia(ServiceError):
    """A body of a type that the route does not take."""


class CapabilityMissing(ServiceError):
    """The model cannot do what was asked."""


class InUse(ServiceError):
    """Something that others depend on cannot be taken away."""


class GateRefused(ServiceError):
    """The codes of another model are not good enough to serve; `result` is what was measured."""

    def __init__(self, message: str, result: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.result = result


class UnknownJob(ServiceError):
    """No job of that id."""


class UnknownSnapshot(ServiceError):
    """No snapshot of that name."""


class SnapshotExists(ServiceError):
    """A snapshot of that name is already there."""


class SnapshotRefused(ServiceError):
    """A file that is not a snapshot, or no longer what was written."""


class NotCalibrated(ServiceError):
    """It is not known what a radius means in the collection."""


class NoCalibration(NotCalibrated):
    """There is no calibration to show."""


class PrecisionOutOfReach(ServiceError):
    """No radius is known to have the precision that was asked for."""


class NoGroups(ServiceError):
    """A job that has no groups to show."""


class Overloaded(ServiceError):
    """A queue is full; the client should come back."""


class TimedOut(ServiceError):
    """It took longer than a request may."""


class NotReady(ServiceError):
    """The service cannot do its work at the moment."""


class NoRoom(ServiceError):
    """Less of the disk is left than is kept free."""


class Stopped(ServiceError):
    """The service is about to end, and what was asked goes on for longer."""


# The first row whose class matches wins, so subclasses stand before their bases.
TABLE: Sequence[tuple[type[Exception], HTTPStatus, str, str]] = (
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", "The request is not valid"),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The request is too large"),
    (
        UnsupportedMedia,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "The body's type is not taken here",
    ),
    (CapabilityMissing, HTTPStatus.CONFLICT, "capability-missing", "The model cannot do this"),
    (InUse, HTTPStatus.CONFLICT, "in-use", "Something depends on it"),
    (GateRefused, HTTPStatus.CONFLICT, "gate-refused", "The other model does not pass"),
    (UnknownJob, HTTPStatus.NOT_FOUND, "unknown-job", "There is no such job"),
    (UnknownSnapshot, HTTPStatus.NOT_FOUND, "unknown-snapshot", "There is no such snapshot"),
    (SnapshotExists, HTTPStatus.CONFLICT, "snapshot-exists", "The snapshot is already there"),
    (SnapshotRefused, HTTPStatus.UNPROCESSABLE_ENTITY, "snapshot-refused", "The snapshot cannot be used"),
    (NoCalibration, HTTPStatus.NOT_FOUND, "not-calibrated", "The collection is not calibrated"),
    (NotCalibrated, HTTPStatus.CONFLICT, "not-calibrated", "The collection is not calibrated"),
    (PrecisionOutOfReach, HTTPStatus.UNPROCESSABLE_ENTITY, "precision-out-of-reach", "No radius is so precise"),
    (NoGroups, HTTPStatus.NOT_FOUND, "no-groups", "The job has no groups"),
    (Overloaded, HTTPStatus.TOO_MANY_REQUESTS, "overloaded", "The service is busy"),
    (TimedOut, HTTPStatus.SERVICE_UNAVAILABLE, "timeout", "It took too long"),
    (NotReady, HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "The service is not ready"),
    (NoRoom, HTTPStatus.INSUFFICIENT_STORAGE, "disk-full", "The disk is full"),
    (Stopped, HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "The service is stopping"),
    (index_errors.InvalidCode, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-code", "The code is not valid"),
    (index_errors.InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", "The request is not valid"),
    (index_errors.KeyReused, HTTPStatus.CONFLICT, "key-reused", "The Idempotency-Key was used before"),
    (index_errors.UnknownCollection, HTTPStatus.NOT_FOUND, "unknown-collection", "There is no such collection"),
    (index_errors.UnknownItem, HTTPStatus.NOT_FOUND, "unknown-item", "There is no such item"),
    (index_errors.CollectionExists, HTTPStatus.CONFLICT, "collection-exists", "The collection is already there"),
    (index_errors.ModelMismatch, HTTPStatus.CONFLICT, "model-mismatch", "Another model filled the collection"),
    (index_errors.GenerationChanged, HTTPStatus.CONFLICT, "model-changed", "The collection changed its model"),
    (index_errors.InputsMissing, HTTPStatus.CONFLICT, "inputs-missing", "Items have no kept input"),
    (index_errors.NoSuchGeneration, HTTPStatus.CONFLICT, "no-second-model", "There is no such set of codes"),
    (index_errors.StoreBusy, HTTPStatus.CONFLICT, "in-use", "Something depends on it"),
    (index_errors.StoreFull, HTTPStatus.INSUFFICIENT_STORAGE, "disk-full", "The disk is full"),
    (
        index_errors.BackendUnavailable,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "backend-unavailable",
        "Milvus cannot be reached",
    ),
    (index_errors.StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable", "The disk refused"),
    (index_errors.StoreDamaged, HTTPStatus.SERVICE_UNAVAILABLE, "store-damaged", "Stored data is damaged"),
    (model_errors.InputTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The request is too large"),
    (model_errors.InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-input", "The model cannot take this item"),
    (model_errors.InvalidParams, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-parameters", "The parameters are not valid"),
    (model_errors.DataError, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-data", "The data cannot be used"),
    (model_errors.UnknownModel, HTTPStatus.NOT_FOUND, "unknown-model", "There is no such model"),
    (model_errors.ArtefactDamaged, HTTPStatus.SERVICE_UNAVAILABLE, "model-damaged", "A saved model is damaged"),
    (
        model_errors.EmbeddingUnavailable,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "embedding-unavailable",
        "The embedding of texts is not installed as the model needs it",
    ),
)


_PASSING = (Overloaded, Stopped, TimedOut, NotReady, index_errors.BackendUnavailable)
"""What is over in a moment, so that it is worth coming back."""


def problem(
    status: int,
    slug: str,
    title: str,
    detail: str,
    errors: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem reply."""
    return JSONResponse(describe(status, slug, title, detail, errors), status, headers=headers, media_type=MEDIA_TYPE)


def describe(status: int, slug: str, title: str, detail: str, errors: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The members of a problem."""
    body: dict[str, Any] = {
        "type": f"urn:hammingbird:problem:{slug}",
        "title": title,
        "status": int(status),
        "detail": detail,
    }
    if errors:
        body["errors"] = [{"pointer": pointer, "detail": text} for pointer, text in errors]
    return body


def describe_error(error: Exception) -> dict[str, Any] | None:
    """The problem that `error` stands for, or None for one that is not in the table."""
    for kind, status, slug, title in TABLE:
        if isinstance(error, kind):
            return describe(status, slug, title, str(error), getattr(error, "errors", ()))
    return None


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) to a part of the body; a name that the client made up is cut short."""
    return "".join(f"/{short(str(part)).replace('~', '~0').replace('/', '~1')}" for part in parts)


def short(text: str, most: int = 64) -> str:
    """What a client sent, cut to where it can still be recognised: problems do not give payloads back."""
    return text if len(text) <= most else f"{text[:most]}..."


def install(app: FastAPI) -> None:
    """Let every error of `app` leave as a problem."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        reply = reply_to(error)
        if reply is None:
            raise error
        return reply

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        detail = {
            404: f"there is nothing at {short(request.url.path)}; the routes are listed at /docs",
            405: f"{short(request.url.path)} does not take {short(request.method)}; the routes are listed at /docs",
        }.get(error.status_code, str(error.detail))
        slug = phrase.lower().replace(" ", "-")
        return problem(error.status_code, slug, phrase, detail, headers=error.headers)

    for kind, *_ in TABLE:
        app.add_exception_handler(kind, known)
    app.add_exception_handler(OSError, known)
    app.add_exception_handler(RequestValidationError, known)
    app.add_exception_handler(HTTPException, http)


def reply_to(error: Exception) -> JSONResponse | None:
    """The problem reply that `error` means, or None where it is a defect of the service."""
    if isinstance(error, RequestValidationError):
        # A place begins with the part of the request that it is in, such as "body" or "query".
        return invalid_body([{**fault, "loc": fault["loc"][1:]} for fault in error.errors()])
    body = describe_error(error)
    if body is not None:
        if body["status"] >= 500:
            log.error("%s: %s", body["type"], body["detail"])
        headers = {"retry-after": "1"} if isinstance(error, _PASSING) else {}
        if isinstance(error, Stopped):
            headers["connection"] = "close"  # what remains of the body is not read
        return JSONResponse(body, body["status"], headers=headers, media_type=MEDIA_TYPE)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        detail = "the disk that holds the data directory is full; free some space and send the request again"
        return problem(507, "disk-full", "The disk is full", detail)
    return None


def internal_error() -> JSONResponse:
    """The reply to a request that met a defect of the service."""
    return problem(500, "internal-error", "The service failed", "this is a defect of the service; its log says more")


# What pydantic says of some faults presupposes that one knows pydantic.
_PLAINER = {
    "extra_forbidden": "unknown field",
    "none_required": "not supported yet",
    "model_attributes_type": "expected a JSON object; is the content type application/json?",
    "model_type": "expected a JSON object",
    "dict_type": "expected a JSON object",
}


_MOST_FAULTS = 1_000
"""A body may have hundreds of thousands, each an object of its own, and twenty are told."""


def faults_of(error: ValidationError) -> Sequence[Any]:
    """What pydantic found wrong, without what it saw; one fault for all where they are too many to be told."""
    if error.error_count() > _MOST_FAULTS:
        return [{"type": "value_error", "loc": (), "msg": f"{error.error_count():,} fields are unknown or wrong"}]
    return error.errors(include_url=False, include_input=False, include_context=False)


def refused_body(error: ValidationError) -> RequestValidationError:
    """What a route that parses its body itself raises where the body fails its schema."""
    return RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults_of(error)])


def invalid_body(faults: Sequence[Any]) -> JSONResponse:
    """The reply to a body or parameter that fails its schema: where and why, never the value."""
    detail, errors = plainly(faults)
    return problem(422, "invalid-request", "The request is not valid", detail, errors)


def plainly(faults: Sequence[Any]) -> tuple[str, list[tuple[str, str]]]:
    """What pydantic found wrong: in one sentence, and as pairs of JSON pointer and fault."""
    errors = []
    for fault in faults[:20]:
        if fault["type"] == "json_invalid":
            errors.append(("", "not valid JSON"))
            continue
        errors.append((pointer(*fault["loc"]), _PLAINER.get(fault["type"], fault["msg"].removeprefix("Value error, "))))
    first = f"{errors[0][0] or 'the body'}: {errors[0][1]}" if errors else "the body is not valid"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return first + more, errors
