"""Templates made into answers: under a policy that lets nothing from elsewhere in, and with errors as pages too."""

import hashlib
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException

from app.errors import InvalidRequest, NotFound, ServiceError, TooLarge
from app.pages import formats

HERE = Path(__file__).parent
SIGN_IN = "/sign-in"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
_BY_STATUS: dict[int, type[ServiceError]] = {404: NotFound, 413: TooLarge, 422: InvalidRequest}


class CrossSite(ServiceError):
    """A form was sent from another site."""

    status, type, title = 403, "cross-site", "This form was sent from another site"


def _version() -> str:
    """A digest of all static files: their address changes when they do."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted((HERE / "static").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


FILES = "/static"
VERSION = _version()


def files() -> StaticFiles:
    """Styles and scripts."""
    return StaticFiles(directory=HERE / "static")


def page(request: Request, template: str, status: int = 200, **shown: Any) -> Response:
    """Answer with a template; `shown` is what it shows."""
    body = _TEMPLATES.get_template(template).render(request=request, path=request.url.path, **shown)
    return HTMLResponse(body, status, HEADERS)


def leading_to(address: str) -> Response:
    """Lead the browser to a page after a form was taken."""
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, HEADERS)


def problem(request: Request, error: ServiceError) -> Response:
    """An error as a page; who is not signed in is led there, and back afterwards."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        back = request.url.path if request.method == "GET" else "/"
        return leading_to(f"{SIGN_IN}?next={quote(back)}")
    return page(request, "problem.html", error.status, error=error)


async def same_origin(request: Request) -> None:
    """Refuse a form that another site sends in the user's name; raises CrossSite."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin not in {None, "null"} and urlsplit(origin or "").netloc != request.headers.get("host")
    if request.method not in {"GET", "HEAD"} and (foreign or site not in {None, "same-origin", "none"}):
        raise CrossSite


class PageRoute(APIRoute):
    """A route whose errors are pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                return await handle(request)
            except ServiceError as error:
                return problem(request, error)
            except RequestValidationError as error:
                return problem(request, InvalidRequest(_wrong(error)))
            except HTTPException as error:
                return problem(request, _BY_STATUS.get(error.status_code, ServiceError)(str(error.detail)))

        return shown


def _wrong(error: RequestValidationError) -> str:
    return "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())


def _static(name: str) -> str:
    return f"{FILES}/{VERSION}/{name}"


def _query(request: Request, **changed: str | None) -> str:
    """The request's query with some names changed, or without them."""
    kept = {name: value for name, value in request.query_params.items() if value} | changed
    text = urlencode({name: value for name, value in kept.items() if value})
    return f"?{text}" if text else request.url.path


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("percent", "interval", "number", "clock", "moment", "day", "month", "tracks", "size", "short")
    made.filters |= {name: getattr(formats, name) for name in names}
    made.globals |= {"static": _static, "query": _query}
    return made


_TEMPLATES = _environment()
