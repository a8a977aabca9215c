"""Who calls, what they must be allowed to do, and the database as they may see it."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from app.access.audit import Deed, Refusals
from app.access.gate import COOKIE, Caller, Gate, Knock, RetiredKey
from app.access.scopes import Scope
from app.acting import HOLDER_ROLE, SYSTEM, TENANT_ROLE, Acting
from app.db import Database
from app.errors import InsufficientScope

_PROXIED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


async def caller(request: Request) -> Caller:
    """Return who asks; raises NeedsKey, InvalidKey, ForeignHost, ForeignOrigin, DatabaseUnavailable."""
    gate: Gate = request.app.state.gate
    knock = knock_of(request)
    known = gate.remembered(knock)
    if known is not None:
        return known
    try:
        return await run_in_threadpool(gate.caller, knock)
    except RetiredKey as refusal:
        await _refused(request, refusal.caller, refusal.type)
        raise


CallerDep = Annotated[Caller, Depends(caller)]


@dataclass(frozen=True)
class Needs:
    """Lets those pass who may do one of these; raises InsufficientScope for others, and writes that down."""

    scopes: tuple[Scope, ...]

    async def __call__(self, request: Request, caller: CallerDep) -> None:
        """Look at the caller."""
        if not caller.may(*self.scopes):
            await _refused(request, caller, InsufficientScope.type)
            raise InsufficientScope(*self.scopes)


def needs(*scopes: Scope) -> Any:
    """Declare, in a route's `dependencies`, what a caller must be allowed to do: one of these."""
    return Depends(Needs(scopes))


async def everybody() -> None:
    """Let everybody pass."""


PUBLIC = Depends(everybody)
"""Declares, in a route's or a router's `dependencies`, that no key is needed."""


async def database_of(request: Request, caller: CallerDep) -> Database:
    """Return the database as the caller may see it; what it changes is written into the audit log, with the change."""
    database: Database = request.app.state.database
    role = TENANT_ROLE if caller.holder_id is None else HOLDER_ROLE
    witness = None if request.method in _READING else deed(request, caller)
    return database.on_behalf_of(Acting(role, caller.tenant_id, caller.holder_id or "", witness))


async def system_of(request: Request) -> Database:
    """Return the database with every tenant in it: for what tells nobody's rows to a caller."""
    database: Database = request.app.state.database
    return database.on_behalf_of(SYSTEM)


DatabaseDep = Annotated[Database, Depends(database_of)]
SystemDep = Annotated[Database, Depends(system_of)]


def deed(request: Request, caller: Caller) -> Deed:
    """Say in the words of the audit log what a request does to what."""
    route = request.scope.get("route")
    named = getattr(route, "operation_id", None) or getattr(route, "name", None)
    kind = next((part for part in request.url.path.split("/") if part not in {"", "v1"}), None)
    return Deed(
        tenant_id=caller.tenant_id,
        actor=_actor(caller),
        action=str(named or request.method)[:100],
        key_id=caller.key_id,
        kind=kind and kind[:64],
        ident=next((str(value)[:200] for value in request.path_params.values()), None),
        request_id=request.scope.get("request_id"),
    )


def _actor(caller: Caller) -> str:
    if caller.holder_id is not None:
        return f"holder {caller.holder_id}"
    return "this machine" if caller.key_id is None else "key"


async def _refused(request: Request, caller: Caller, why: str) -> None:
    refusals: Refusals = request.app.state.refusals
    await run_in_threadpool(refusals.write, deed(request, caller), why)


def knock_of(request: Request) -> Knock:
    """Return what a request shows of its sender."""
    headers = request.headers
    return Knock(
        peer=request.client.host if request.client else None,
        host=headers.get("host", ""),
        authorization=headers.get("authorization"),
        session=request.cookies.get(COOKIE),
        origin=headers.get("origin"),
        site=headers.get("sec-fetch-site"),
        forwarded=not _PROXIED.isdisjoint(headers),
        changes=request.method not in _READING,
    )
