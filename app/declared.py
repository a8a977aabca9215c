"""What each route declares that its callers must be allowed to do; one that declares nothing is not served at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute, iter_route_contexts

from app.callers import Needs, everybody
from app.errors import ForeignHost, ForeignOrigin, InsufficientScope, InvalidKey, NeedsKey, Unreadable
from app.problems import described

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastapi.dependencies.models import Dependant
    from starlette.routing import BaseRoute

    from app.access.scopes import Scope

SCHEME = "key"
_SCHEMES = {
    SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "rn_…",
        "description": "Made by `rootnote keys create`. While none has been made, callers on this machine need none.",
    }
}


class Undeclared(RuntimeError):
    """A route says neither which scopes it needs nor that it is for everybody."""


def declarations(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, frozenset[str], tuple[Scope, ...]]]:
    """Yield path, methods and scopes (none: for everybody) of every route. Raises Undeclared."""
    for context in iter_route_contexts(list(routes)):
        if not isinstance(context.original_route, APIRoute):
            continue
        path, methods = str(context.path), frozenset(context.methods or ())
        calls = list(_calls(context.dependant))
        scopes = [call.scopes for call in calls if isinstance(call, Needs)]
        if len(scopes) + (everybody in calls) != 1:
            raise Undeclared(
                f"{sorted(methods)} {path}: give the route `dependencies=[needs(Scope.…)]`, or "
                "`[PUBLIC]` where no key is needed; once, not several times (app.deps; docs/access.md)"
            )
        yield path, methods, scopes[0] if scopes else ()


def check(routes: Iterable[BaseRoute]) -> None:
    """Raise Undeclared where a route declares nothing."""
    for _ in declarations(routes):
        pass


def describe(document: dict[str, Any], routes: Iterable[BaseRoute]) -> None:
    """Add to an OpenAPI document which key each operation needs, and what is answered without it, or to a bad body."""
    document["components"]["securitySchemes"] = _SCHEMES
    _describe_bodies(document)
    refusals = described(NeedsKey, InvalidKey, InsufficientScope, ForeignHost, ForeignOrigin)
    for path, methods, scopes in declarations(routes):
        for method in map(str.lower, methods if scopes else ()):
            operation = document["paths"].get(path, {}).get(method)
            if operation is not None:
                operation["security"] = [{SCHEME: list(scopes)}]
                operation["description"] += f"\n\nScope: {' or '.join(f'`{scope}`' for scope in scopes)}."
                for status, answer in refusals.items():
                    operation["responses"].setdefault(str(status), answer)


def _describe_bodies(document: dict[str, Any]) -> None:
    unreadable = described(Unreadable)
    for operation in (each for methods in document["paths"].values() for each in methods.values()):
        for status, answer in unreadable.items() if "requestBody" in operation else ():
            operation["responses"].setdefault(str(status), answer)


def _calls(dependant: Dependant) -> Iterator[Any]:
    for each in dependant.dependencies:
        yield each.call
        yield from _calls(each)
