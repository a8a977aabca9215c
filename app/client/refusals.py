"""What a service refuses, as the type that it was raised as there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from app import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from app.attributions.schemas import JobError

_URN = "urn:rootnote:problem:"


class Unreachable(errors.Unavailable):
    """No service answers at the address."""

    type, title = "unreachable", "The service does not answer"


class NotSucceeded(errors.Conflict):
    """The attribution was canceled, or waited too long."""

    type, title = "not-succeeded", "The attribution has no result"


class UnknownProblem(errors.ServiceError):
    """A problem of a type that this version of the client does not know."""

    type, title = "unknown-problem", "The service refused"


def refusal(response: httpx.Response) -> errors.ServiceError:
    """The error that a problem document names."""
    try:
        problem = response.json()
        name, title, detail = str(problem["type"]), str(problem["title"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return errors.ServiceError(f"{response.url} answered {response.status_code} {response.reason_phrase}")
    return _typed(name.removeprefix(_URN), title, detail)


def job_error(error: JobError) -> errors.ServiceError:
    """The error that an attribution failed with."""
    return _typed(error.type.removeprefix(_URN), error.title, error.detail)


def asked_to_wait(response: httpx.Response) -> float | None:
    """The seconds after which an answer says that it is worth asking again, None where it does not say."""
    try:
        seconds = float(response.headers.get("Retry-After", ""))
    except ValueError:  # a date, or nothing: no wait that we would keep
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _typed(slug: str, title: str, detail: str) -> errors.ServiceError:
    known = next((kind for kind in _family(errors.ServiceError) if kind.type == slug), None)
    return known(detail) if known else UnknownProblem(f"{title} ({slug}): {detail}")


def _family(kind: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _family(each)
