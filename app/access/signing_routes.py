"""Signing in to the pages with a key, and out again; the page that asks for the key is one of the pages."""

from dataclasses import replace
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request, Response, status
from fastapi.concurrency import run_in_threadpool
from pydantic import SecretStr

from app.access import sessions
from app.access.gate import COOKIE, Gate
from app.callers import knock_of
from app.deps import PUBLIC
from app.errors import ForeignOrigin, InvalidKey
from app.pages.rendering import PageRoute

router = APIRouter(route_class=PageRoute, tags=["pages"], dependencies=[PUBLIC], include_in_schema=False)

HOME = "/"


@router.post("/sign-in")
async def sign_in(
    request: Request,
    key: Annotated[SecretStr, Form()],
    after: Annotated[str, Form(alias="next", max_length=500)] = HOME,
) -> Response:
    """Take a key and lead on, with a session in a cookie that no script can read and no other site's page sends."""
    _from_here(request)
    gate: Gate = request.app.state.gate
    shown = replace(knock_of(request), authorization=f"Bearer {key.get_secret_value().strip()}", session=None)
    caller = await run_in_threadpool(gate.caller, shown)
    if caller.key_id is None:
        raise InvalidKey("sign in with a key")
    answer = Response(status_code=status.HTTP_303_SEE_OTHER, headers={"Location": _own(after)})
    answer.set_cookie(
        COOKIE,
        gate.session_of(caller.key_id),
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
    answer = Response(status_code=status.HTTP_303_SEE_OTHER, headers={"Location": HOME})
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
