"""Batches over HTTP: parse, call the service, show."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Request, Response, status
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile

from app import answers, errors
from app.access.scopes import Scope
from app.attributions import batches
from app.attributions.batch_schemas import (
    MAX_ITEMS,
    NEW_ITEM,
    Batch,
    BatchItem,
    BatchItemPage,
    BatchName,
    BatchReceipt,
    CustomId,
    ItemAnswer,
    NewItem,
)
from app.attributions.intake import Intake
from app.attributions.schemas import Attribution
from app.attributions.states import ENDED
from app.db import reading
from app.deps import CallerDep, DatabaseDep, IntakeDep, PlaceDep, needs
from app.idempotency.routes import REFUSALS, KeyHeader, OnceRoute, begin
from app.problems import document

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=OnceRoute)

_ITEMS = TypeAdapter(list[dict[str, Any]])
_CUSTOM_ID = TypeAdapter(CustomId)
_NAME = TypeAdapter(BatchName)
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["batch", "items"],
                    "properties": {
                        "batch": {"type": "string", "description": "The caller's name for the batch."},
                        "items": {
                            "type": "array",
                            "items": {"$ref": "#/components/schemas/NewItem"},
                            "maxItems": MAX_ITEMS,
                            "description": "JSON. All other parts are files, named as the items say.",
                        },
                    },
                    "additionalProperties": {"type": "string", "format": "binary"},
                    "example": {"batch": "night-42", "items": [NEW_ITEM], "track77": "(a file)"},
                }
            }
        },
    }
}
Checked = TypeVar("Checked")
Sent = tuple[str, list[batches.Item | batches.Answer]]
Name = Annotated[BatchName, Path(description="The caller's name for the batch.")]


@router.post(
    "",
    operation_id="addToBatch",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
    summary="Send many tracks",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=BatchReceipt,
    openapi_extra=_FORM,
    responses=document(errors.Conflict, errors.TooLarge, errors.TooManyRequests, errors.Unavailable, *REFUSALS),
)
async def add(request: Request, intake: IntakeDep, caller: CallerDep, _: KeyHeader = None) -> Response:
    """Accept or refuse each item by itself. Sent again, an item that the batch holds stays as it is.

    A batch larger than one request may be is sent in several, under one name.
    """
    async with request.form(max_files=MAX_ITEMS, max_fields=2, max_part_size=8 * 1024 * 1024) as form:
        await begin(request, caller.tenant_id, intake.db, intake.settings)
        batch, items = _read(form)
        files = {name: part.file for name, part in form.items() if isinstance(part, UploadFile)}
        shown = await run_in_threadpool(_submit, intake, caller.tenant_id, (batch, items), files)
    return answers.json(shown, status.HTTP_202_ACCEPTED, {"Location": f"{router.prefix}/{batch}"})


@router.get(
    "/{batch}",
    operation_id="getBatch",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See how a batch stands",
    response_model=Batch,
    responses=document(errors.NotFound),
)
def get(database: DatabaseDep, caller: CallerDep, batch: Name) -> Response:
    """Count a batch's items by status."""
    with reading(database) as session:
        counts = batches.counts(session, tenant_id=caller.tenant_id, batch=batch)
    ended = sum(count for status_, count in counts.items() if status_ in ENDED)
    return answers.json(Batch(batch=batch, items=sum(counts.values()), counts=counts, ended=ended))


@router.get(
    "/{batch}/items",
    operation_id="listBatchItems",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See the items of a batch",
    response_model=BatchItemPage,
    responses=document(errors.NotFound, errors.BadCursor),
)
def items(database: DatabaseDep, caller: CallerDep, place: PlaceDep, batch: Name) -> Response:
    """Show a batch's items and their attributions, in the order of their custom ids."""
    with reading(database) as session:
        found = batches.page(session, tenant_id=caller.tenant_id, batch=batch, cursor=place.cursor, limit=place.limit)
    shown = [BatchItem(custom_id=str(row.custom_id), attribution=Attribution.of(row)) for row in found.items]
    return answers.json(BatchItemPage(items=shown, next_cursor=found.next_cursor))


def _read(form: FormData) -> Sent:
    """The batch's name and its items; raises InvalidRequest where these cannot even be told apart."""
    name = _checked(_NAME.validate_python, form.get("batch"), "batch")
    listed = _checked(_ITEMS.validate_json, str(form.get("items", "")), "items")
    if not 1 <= len(listed) <= MAX_ITEMS:
        raise errors.InvalidRequest(f"items: a request has from one to {MAX_ITEMS} of them")
    return name, [_item(name, given, f"items.{place}") for place, given in enumerate(listed)]


def _item(batch: str, given: dict[str, Any], place: str) -> batches.Item | batches.Answer:
    """An item, or its refusal."""
    custom_id = _checked(_CUSTOM_ID.validate_python, given.get("custom_id"), f"{place}.custom_id")
    try:
        return _checked(NewItem.model_validate, given, place).item(batch)
    except errors.InvalidRequest as error:
        return batches.Answer(custom_id, error=error)


def _checked(check: Callable[[Any], Checked], given: Any, place: str) -> Checked:
    try:
        return check(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (place, *first["loc"])))
        raise errors.InvalidRequest(f"{where}: {errors.plain(first['msg'])}") from error


def _submit(intake: Intake, tenant_id: str, sent: Sent, files: batches.Files) -> BatchReceipt:
    batch, listed = sent
    found = batches.submit(intake, tenant_id=tenant_id, batch=batch, items=listed, files=files)
    known, refused = sum(each.known for each in found), sum(each.error is not None for each in found)
    shown = [ItemAnswer.of(each) for each in found]
    return BatchReceipt(batch=batch, accepted=len(found) - known - refused, known=known, refused=refused, items=shown)
