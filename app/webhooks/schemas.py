"""What the routes of webhooks take and answer, and what is sent to an endpoint."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.attributions.schemas import WITHOUT_NUL
from app.models import DeliveryStatus, DisabledFor, Status, WebhookDelivery, WebhookEndpoint
from app.webhooks.outbox import EventType
from app.webhooks.service import Wish

ID = "01980000-0000-7000-8000-000000000001"
ENDPOINT: dict[str, Any] = {
    "id": ID,
    "url": "https://example.com/hooks/rootnote",
    "description": "production",
    "events": ["attribution.succeeded", "attribution.failed"],
    "enabled": True,
    "disabled_for": None,
    "failing_since": None,
    "created_at": "2026-01-02T03:04:05Z",
    "updated_at": "2026-01-02T03:04:05Z",
}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" + "x" * 12
DELIVERY: dict[str, Any] = {
    "id": ID,
    "event_id": ID,
    "type": "attribution.succeeded",
    "status": "delivered",
    "next_at": None,
    "attempts": [{"at": "2026-01-02T03:04:12Z", "status": 204, "error": None, "answer": "", "seconds": 0.12}],
    "created_at": "2026-01-02T03:04:11Z",
    "ended_at": "2026-01-02T03:04:12Z",
}


def _each_once(events: list[EventType]) -> list[EventType]:
    return list(dict.fromkeys(events))


Url = Annotated[str, StringConstraints(min_length=1, max_length=2000), WITHOUT_NUL]
Description = Annotated[str, StringConstraints(max_length=300), WITHOUT_NUL]
Events = Annotated[list[EventType], AfterValidator(_each_once)]


class NewEndpoint(BaseModel):
    """An address to be told at."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"url": ENDPOINT["url"]}})

    url: Url = Field(description="Public and https; it is looked up and checked now and at every delivery.")
    description: Description = ""
    events: Events = Field(default=[], description="The types that it wants; none: all.")

    def wish(self, url: str) -> Wish:
        """Return what is wished, under the checked URL."""
        return Wish(url, self.description, tuple(self.events), enabled=True)


class EndpointChanges(BaseModel):
    """What to change of an endpoint; what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"enabled": True}})

    url: Url | None = None
    description: Description | None = None
    events: Events | None = None
    enabled: bool | None = Field(None, description="True also ends what disabled it.")

    def wish(self, url: str | None) -> Wish:
        """Return what is wished, under the checked URL."""
        events = None if self.events is None else tuple(self.events)
        return Wish(url, self.description, events, self.enabled)


class Endpoint(BaseModel):
    """An address that is told what happens."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": ENDPOINT})

    id: str
    url: str
    description: str
    events: list[EventType]
    enabled: bool
    disabled_for: DisabledFor | None = Field(description="`gone`: it answered 410. `failing`: it failed for days.")
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: WebhookEndpoint) -> Self:
        """Return an endpoint as the interface shows it."""
        return cls.model_validate(_endpoint(row))


class EndpointSecret(Endpoint):
    """An endpoint with its newest secret, which is not told again."""

    model_config = ConfigDict(json_schema_extra={"example": ENDPOINT | {"secret": SECRET}})

    secret: str

    @classmethod
    def told(cls, row: WebhookEndpoint, secret: str) -> Self:
        """Return an endpoint and its secret."""
        return cls.model_validate(_endpoint(row) | {"secret": secret})


class EndpointPage(BaseModel):
    """Endpoints in the order of their making."""

    items: list[Endpoint]
    next_cursor: str | None


class Rotation(BaseModel):
    """How long the secrets before go on signing beside the new one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"overlap_seconds": 86_400}})

    overlap_seconds: int = Field(86_400, ge=0, le=30 * 86_400)


class Attempt(BaseModel):
    """What one attempt met."""

    at: datetime
    status: int | None = Field(description="The HTTP status; null where there was no answer.")
    error: str | None
    answer: str = Field(description="The begin of the answer's body.")
    seconds: float


class Delivery(BaseModel):
    """One event on its way to one endpoint."""

    model_config = ConfigDict(json_schema_extra={"example": DELIVERY})

    id: str
    event_id: str = Field(description="The `webhook-id`: the same at every attempt and every replay.")
    type: EventType
    status: DeliveryStatus
    next_at: datetime | None = Field(description="When it is tried next.")
    attempts: list[Attempt] = Field(description="The latest ones, the newest last.")
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: WebhookDelivery) -> Self:
        """Return a delivery, its event being loaded, as the interface shows it."""
        own = {name: getattr(row, name) for name in cls.model_fields if name != "type"}
        return cls.model_validate(own | {"type": row.event.type})


class DeliveryPage(BaseModel):
    """Deliveries, the newest first."""

    items: list[Delivery]
    next_cursor: str | None


class Replay(BaseModel):
    """What to deliver again: one event, or all that the endpoint wants since then."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"event_id": ID}})

    event_id: str | None = Field(None, max_length=36)
    since: datetime | None = None


class Queued(BaseModel):
    """How many events are on their way."""

    model_config = ConfigDict(json_schema_extra={"example": {"events": 1, "event_id": ID}})

    events: int
    event_id: str | None = Field(None, description="The one event, where it is one.")


class AttributionEnded(BaseModel):
    """The data of `attribution.*`: thin, so that nothing stale or secret is sent; ask for the rest by the id."""

    attribution_id: str
    status: Status
    model: str
    external_id: str | None
    batch: str | None
    custom_id: str | None
    counted: bool
    error: str | None = Field(description="The slug of a problem type.")


class AttributionEvent(BaseModel):
    """What is sent when an attribution ends."""

    type: Literal["attribution.succeeded", "attribution.failed", "attribution.canceled", "attribution.expired"]
    timestamp: datetime
    data: AttributionEnded


def _endpoint(row: WebhookEndpoint) -> dict[str, Any]:
    own = {name: getattr(row, name) for name in Endpoint.model_fields if name != "enabled"}
    return own | {"enabled": row.disabled_for is None}
