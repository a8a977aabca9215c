"""All pages, and the files that they are made with."""

from fastapi import FastAPI

from app.pages import forgetting, holders, models, report, signing, songs, statements, upload
from app.pages.rendering import FILES, files

ROUTERS = (
    *(upload.router, report.router, forgetting.router),
    *(songs.router, holders.router, statements.router, models.router),
    signing.router,
)


def install(app: FastAPI) -> None:
    """Serve styles and scripts; their address holds a digest of them, and any digest will do."""
    app.mount(f"{FILES}/{{version}}", files(), name="static")
