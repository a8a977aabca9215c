"""Problem documents (RFC 9457): every answer that is not a success, whoever raised it."""

import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app.errors import InvalidRequest, MethodNotAllowed, NotFound, ServiceError, TooLarge, UploadStalled, plain

MEDIA_TYPE = "application/problem+json"
_URN = "urn:rootnote:problem:"
_REALM = 'Bearer realm="rootnote"'
_BY_STATUS: dict[int, type[ServiceError]] = {
    400: InvalidRequest,
    **{each.status: each for each in (NotFound, MethodNotAllowed, UploadStalled, TooLarge)},
}
_log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """What is wrong with one part of a request; `pointer` leads there in a body (RFC 6901), `field` in words."""

    field: str
    pointer: str | None = None
    message: str


class Problem(BaseModel):
    """Why a request or a job failed; `type` is stable and `request_id` finds it in the logs."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": _URN + "too-short",
                "title": "The audio is too short",
                "status": 422,
                "detail": "0.2 s of audio; at least 1 s is needed",
                "instance": "/v1/attributions",
                "request_id": "01980000-0000-7000-8000-000000000000",
            }
        },
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str | None = None
    errors: list[FieldError] | None = Field(None, description="What is wrong with which part of the request.")


def type_uri(slug: str) -> str:
    """Return the stable URI of a problem type."""
    return _URN + slug


def title_of(slug: str) -> str:
    """Return the title of a problem type that a job stored, or the slug where no such type exists any more."""
    return next((error.title for error in _family(ServiceError) if error.type == slug), slug)


def document(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """Describe, for the interface's own documentation, the problems of a route; any may refuse an invalid request."""
    return described(InvalidRequest, *errors)


def described(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """Describe problems by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for each in errors:
        entry = found.setdefault(
            each.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}},
        )
        entry["description"] = "; ".join(filter(None, (entry["description"], f"`{each.type}`: {each.title}")))
    return found


def respond(request: Request, error: ServiceError, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Render an error as the answer to a request; `more` are further members of the document."""
    return _render(_problem(request, error, **more), headers)


def install(app: FastAPI) -> None:
    """Make every failing answer of an application a problem document."""
    app.exception_handler(ServiceError)(_service_error)
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(ClientDisconnect)(_gone)
    app.exception_handler(Exception)(_unexpected)


def _family(error: type[ServiceError]) -> Iterable[type[ServiceError]]:
    yield error
    for each in error.__subclasses__():
        yield from _family(each)


def _problem(request: Request, error: ServiceError, **more: Any) -> Problem:
    request.app.state.metrics.refused(error.type)
    return Problem(
        type=type_uri(error.type),
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=request.url.path,
        request_id=request.scope.get("request_id"),
        **more,
    )


def _render(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, problem.status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


async def _service_error(request: Request, error: ServiceError) -> Response:
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(math.ceil(error.retry_after_s), 1))
    if error.challenge is not None:
        headers["WWW-Authenticate"] = ", ".join(filter(None, (_REALM, error.challenge)))
    return respond(request, error, headers)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    kind = _BY_STATUS.get(error.status_code, ServiceError)
    problem = _problem(request, kind(str(error.detail)))
    problem.status = error.status_code
    if kind is ServiceError:
        problem.type, problem.title = "about:blank", HTTPStatus(error.status_code).phrase
    return _render(problem, error.headers)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    found = [_field_error(each) for each in error.errors()]
    detail = "; ".join(f"{each.field}: {each.message}" for each in found)
    return respond(request, InvalidRequest(detail), errors=found)


async def _gone(request: Request, _: ClientDisconnect) -> Response:
    return respond(request, InvalidRequest("the request ended before its body did"))


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("request failed", path=request.url.path, exc_info=error)
    request_id = request.scope.get("request_id")
    return respond(request, ServiceError(), {"X-Request-ID": request_id} if request_id else None)


def _field_error(found: Mapping[str, Any]) -> FieldError:
    place, *path = map(str, found["loc"])
    message = plain(found["msg"])
    if found["type"] == "json_invalid":
        return FieldError(field="body", message=f"not JSON from character {path[0]} on")
    escaped = "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)
    return FieldError(
        field=".".join(path) or place, pointer=f"#/{escaped}" if place == "body" and path else None, message=message
    )
