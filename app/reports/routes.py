"""Signed reports over HTTP: issued, as a table, verified, and the keys to verify them with."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app import errors
from app.access.scopes import Scope
from app.config import Settings
from app.db import Database, reading, transaction
from app.deps import CallerDep, DatabaseDep, SettingsDep, needs
from app.problems import document
from app.reports import keys, report, sealing, tables
from app.reports.schemas import ReportKey, ReportKeyList, Verification

router = APIRouter(prefix="/v1", tags=["reports"])

ANY = needs(*Scope)
"""Whoever was given a key at all may verify what was given to it."""
CSV = "text/csv; charset=utf-8"
SIGNED: dict[str, Any] = {
    "schema": {
        "type": "object",
        "required": ["document", "signature"],
        "properties": {
            "document": {"type": "object", "description": "See docs/reports.md."},
            "signature": {
                "type": "object",
                "required": ["algorithm", "key_id", "value"],
                "properties": {name: {"type": "string"} for name in ("algorithm", "key_id", "value")},
            },
        },
    }
}
_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {}}},
        "description": "The file, byte for byte; whether it is a signed document (docs/reports.md) is the answer.",
    }
}


@router.get(
    "/attributions/{attribution_id}/report",
    operation_id="getReport",
    summary="Get a signed report of what was found",
    response_class=Response,
    dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.STATEMENTS_READ)],
    responses=document(errors.NotFound, errors.NoResult)
    | {200: {"description": "Canonical JSON with a signature.", "content": {"application/json": SIGNED}}},
)
def issue(database: DatabaseDep, settings: SettingsDep, caller: CallerDep, attribution_id: str) -> Response:
    """Show all that was found, with what is needed to judge and repeat it, as canonical JSON under a signature.

    The same attribution gives the same bytes while the catalogue calls its songs the same and the key stays.
    """
    with reading(database) as session:
        found = report.document(session, tenant_id=caller.tenant_id, attribution_id=attribution_id)
    return Response(signed(database, settings, found), media_type="application/json")


@router.get(
    "/attributions/{attribution_id}/report.csv",
    operation_id="getReportTable",
    summary="Get a report's influences as CSV",
    response_class=Response,
    dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.STATEMENTS_READ)],
    responses=document(errors.NotFound, errors.NoResult)
    | {200: {"description": "A row a song.", "content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def as_table(database: DatabaseDep, caller: CallerDep, attribution_id: str) -> Response:
    """Show the same influences as the signed report, a row a song, then what no song explains."""
    with reading(database) as session:
        found = report.document(session, tenant_id=caller.tenant_id, attribution_id=attribution_id)
    name = {"Content-Disposition": f'attachment; filename="rootnote-report-{found["attribution"]["id"]}.csv"'}
    return Response(tables.influences(found), media_type=CSV, headers=name)


@router.post(
    "/reports/verify",
    operation_id="verifyReport",
    summary="Verify a signed report or statement",
    openapi_extra=_FILE,
    dependencies=[ANY],
    responses=document(errors.TooLarge),
)
async def verify(request: Request, database: DatabaseDep) -> Verification:
    """Say whether a file is, to the last byte, a document that this service signed, with whichever of its keys."""
    data = b"".join([chunk async for chunk in request.stream()])
    if not data:
        raise errors.InvalidRequest("the request has no body")
    return await run_in_threadpool(_verify, database, data)


@router.get(
    "/report-keys",
    operation_id="listReportKeys",
    summary="See the keys that verify reports",
    responses=document(),
    dependencies=[ANY],
)
def listing(database: DatabaseDep, settings: SettingsDep) -> ReportKeyList:
    """Show every public key that documents were ever signed with, the newest first."""
    signing = _published(database, settings)
    with reading(database) as session:
        found = keys.listed(session)
    return ReportKeyList(items=[ReportKey.of(row, signing) for row in found])


def signed(database: Database, settings: Settings, found: dict[str, Any]) -> bytes:
    """Return a document under the signature of a key that is published."""
    _published(database, settings)
    return sealing.seal(found, keys.signing(settings))


def _published(database: Database, settings: Settings) -> str:
    """Publish the key that signs, unless it is; return its id."""
    key = keys.signing(settings).public_key()
    with reading(database) as session:
        known = keys.published(session, sealing.key_id(key)) is not None
    if not known:
        with transaction(database) as session:
            keys.publish(session, key)
    return sealing.key_id(key)


def _verify(database: Database, data: bytes) -> Verification:
    with reading(database) as session:
        return Verification.of(sealing.unseal(data, lambda ident: keys.published(session, ident)))
