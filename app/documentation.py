"""The page that shows the OpenAPI document, from files of our own: a service behind a firewall has it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request  # noqa: TC002  read by FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles

from app.deps import PUBLIC

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse

PAGE = "/docs"
FILES = "/docs-files"


def install(app: FastAPI) -> None:
    """Serve the page and its script and style, which the package fastapi-offline carries."""
    app.mount(FILES, StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-files")
    app.add_api_route(PAGE, page, include_in_schema=False, response_model=None, dependencies=[PUBLIC])


def page(request: Request) -> HTMLResponse:
    """Return the page of the application that is asked."""
    return get_swagger_ui_html(
        openapi_url=request.app.openapi_url or "",
        title=request.app.title,
        swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES}/swagger-ui.css",
        swagger_favicon_url=f"{FILES}/favicon.png",
    )
