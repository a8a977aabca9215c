"""The page at which a caller signs in; what it sends is taken by the service's own sign-in."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.deps import PUBLIC
from app.pages.rendering import SIGN_IN, PageRoute, page

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get(SIGN_IN, dependencies=[PUBLIC])
async def sign_in(request: Request, after: Annotated[str, Query(alias="next", max_length=500)] = "/") -> Response:
    """Show the form."""
    here = after if after.startswith("/") and not after.startswith(("//", "/\\")) else "/"
    return page(request, "sign_in.html", after=here)
