"""Signing in with a key and out again: a browser keeps a session that names the key and ends with it."""

from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import SecretStr

from app.access import sessions
from app.access.gate import COOKIE, Gate
from app.callers import PUBLIC, knock_of
from app.errors import ForeignOrigin, InvalidKey
from app.pages.rendering import SIGN_IN, PageRoute, leading_to, page

router = APIRouter(route_class=PageRoute, include_in_schema=False, dependencies=[PUBLIC])

HOME = "/"


@dataclass(frozen=True)
class Credentials:
    """A key, and the page that was asked for."""

    key: str
    after: str


async def credentials(
    key: Annotated[SecretStr, Form(max_length=200)] = SecretStr(""),  # noqa: B008  an empty field is no field
    after: Annotated[str, Form(alias="next", max_length=500)] = HOME,
) -> Credentials:
    """Read the form."""
    return Credentials(key.get_secret_value().strip(), _own(after))


@router.get(SIGN_IN)
async def form(request: Request, after: Annotated[str, Query(alias="next", max_length=500)] = HOME) -> Response:
    """Show the form."""
    return page(request, "sign_in.html", after=_own(after), error=None)


@router.post(SIGN_IN)
async def sign_in(request: Request, given: Annotated[Credentials, Depends(credentials)]) -> Response:
    """Take a key and lead on, with a session in a cookie that no script can read and no other site's page sends.

    A rights-holder who asked for no page in particular is led to its own.
    """
    _from_here(request)
    gate: Gate = request.app.state.gate
    shown = replace(knock_of(request), authorization=f"Bearer {given.key}", session=None)
    try:
        caller = await run_in_threadpool(gate.caller, shown)
    except InvalidKey as error:
        return page(request, "sign_in.html", error.status, after=given.after, error=error)
    home = HOME if caller.holder_id is None else f"/holders/{caller.holder_id}"
    answer = leading_to(home if given.after == HOME else given.after)
    answer.set_cookie(
        COOKIE,
        gate.session_of(caller.key_id or ""),
        max_age=int(sessions.LASTING.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=_encrypted(request),
    )
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Forget the session of this browser."""
    _from_here(request)
    answer = leading_to(SIGN_IN)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=_encrypted(request))
    return answer


def _from_here(request: Request) -> None:
    if not knock_of(request).from_own_page:
        raise ForeignOrigin("only the service's own page signs in and out")


def _own(after: str) -> str:
    """An address of this service, whatever was asked for."""
    parts = urlsplit(after)
    here = after.startswith("/") and not after.startswith(("//", "/\\")) and not parts.netloc and after.isprintable()
    return after if here else HOME


def _encrypted(request: Request) -> bool:
    """Whether the browser speaks https, to us or to a proxy before us; a forged answer only harms its own sender."""
    return "https" in {request.url.scheme, request.headers.get("x-forwarded-proto", "").split(",")[0].strip()}
