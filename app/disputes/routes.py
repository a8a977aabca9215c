"""Disputes over HTTP: parse, call the service, show."""

from fastapi import APIRouter, Response, status

from app import errors
from app.access.scopes import Scope
from app.catalogue import held
from app.deps import CallerDep, PlaceDep, ReadDep, WriteDep, needs
from app.disputes import service
from app.disputes.schemas import Dispute, DisputePage, NewDispute, NewReview
from app.problems import document

router = APIRouter(prefix="/v1/attributions/{attribution_id}/disputes", tags=["disputes"])


@router.post(
    "",
    operation_id="createDispute",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE, Scope.HOLDER_WRITE)],
    summary="Dispute a song's row in a result",
    status_code=status.HTTP_201_CREATED,
    responses=document(errors.NotFound, service.AlreadyDisputed),
)
def create(
    session: WriteDep, caller: CallerDep, attribution_id: str, objection: NewDispute, response: Response
) -> Dispute:
    """Record who objects to the row and why. The result stays as it is; a row has one open dispute at a time.

    A rights-holder may dispute the rows of its own songs.
    """
    held.require(session, tenant_id=caller.tenant_id, holder_id=caller.holder_id, song_id=objection.song_id)
    wanted = service.Objection(objection.song_id, objection.by, objection.reason, caller.key_id)
    made = service.raise_one(session, tenant_id=caller.tenant_id, attribution_id=attribution_id, objection=wanted)
    response.headers["Location"] = f"/v1/attributions/{made.attribution_id}/disputes/{made.id}"
    return Dispute.of(made)


@router.get(
    "",
    operation_id="listDisputes",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ)],
    summary="See the disputes of a result",
    responses=document(errors.NotFound, errors.BadCursor),
)
def listing(session: ReadDep, caller: CallerDep, place: PlaceDep, attribution_id: str) -> DisputePage:
    """Show open and resolved disputes in the order in which they were raised."""
    found = service.page(
        session,
        tenant_id=caller.tenant_id,
        attribution_id=attribution_id,
        cursor=place.cursor,
        limit=place.limit,
    )
    return DisputePage(items=[Dispute.of(row) for row in found.items], next_cursor=found.next_cursor)


@router.get(
    "/{dispute_id}",
    operation_id="getDispute",
    dependencies=[needs(Scope.ATTRIBUTIONS_READ, Scope.HOLDER_READ)],
    summary="See a dispute",
    responses=document(errors.NotFound),
)
def get(session: ReadDep, caller: CallerDep, attribution_id: str, dispute_id: str) -> Dispute:
    """Show a dispute and, once it is resolved, the review; to a rights-holder, what it raised with the same key."""
    found = service.get(
        session,
        tenant_id=caller.tenant_id,
        attribution_id=attribution_id,
        dispute_id=dispute_id,
        raised_key=None if caller.holder_id is None else caller.key_id,
    )
    held.require(session, tenant_id=caller.tenant_id, holder_id=caller.holder_id, song_id=found.song_id)
    return Dispute.of(found)


@router.post(
    "/{dispute_id}/resolve",
    operation_id="resolveDispute",
    dependencies=[needs(Scope.ATTRIBUTIONS_WRITE)],
    summary="Record the review of a dispute",
    responses=document(errors.NotFound, service.AlreadyResolved),
)
def resolve(session: WriteDep, caller: CallerDep, attribution_id: str, dispute_id: str, review: NewReview) -> Dispute:
    """Uphold or reject it, by whom and why. A decision stays; sending the same one again changes nothing."""
    wanted = service.Review(review.outcome, review.by, review.note, caller.key_id)
    found = service.resolve(
        session,
        tenant_id=caller.tenant_id,
        attribution_id=attribution_id,
        dispute_id=dispute_id,
        review=wanted,
    )
    return Dispute.of(found)
