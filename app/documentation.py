"""The page that shows the OpenAPI document, from files of our own: a service behind a firewall has it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

    def page() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=app.openapi_url or "",
            title=app.title,
            swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{FILES}/swagger-ui.css",
            swagger_favicon_url=f"{FILES}/favicon.png",
        )

    app.add_api_route(PAGE, page, include_in_schema=False, response_model=None, dependencies=[PUBLIC])
