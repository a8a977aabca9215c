"""The tables. What belongs to a tenant says so in its row; ids are UUIDv7 strings, which sort by time of creation."""

from app.models.access import ApiKey, AuditEntry, AuditOutcome
from app.models.alerts import Alert
from app.models.attributions import Attribution, Influence, Method, Stage, Status, Verdict
from app.models.builds import Build, BuildPiece, Making
from app.models.catalogue import Right, Song, TrainingPolicy
from app.models.columns import new_id
from app.models.counterfactuals import Counterfactual, ForgettingStage, JobTable, Matched, Take
from app.models.disputes import Dispute, DisputeOutcome
from app.models.holders import Holder
from app.models.idempotency import IdempotencyKey
from app.models.keys import ReportKey
from app.models.policies import SongPolicy
from app.models.statements import (
    Closing,
    ClosingTotal,
    Side,
    StatedDispute,
    StatedSong,
    StatedTrack,
    Statement,
    StatementLine,
)
from app.models.tenants import DEFAULT_TENANT, Quota, Tenant, Usage
from app.models.training import Model, TrainingSong
from app.models.webhooks import DeliveryStatus, DisabledFor, Event, WebhookDelivery, WebhookEndpoint, WebhookSecret
from app.models.workers import Worker

__all__ = [
    "DEFAULT_TENANT",
    "Alert",
    "ApiKey",
    "Attribution",
    "AuditEntry",
    "AuditOutcome",
    "Build",
    "BuildPiece",
    "Closing",
    "ClosingTotal",
    "Counterfactual",
    "DeliveryStatus",
    "DisabledFor",
    "Dispute",
    "DisputeOutcome",
    "Event",
    "ForgettingStage",
    "Holder",
    "IdempotencyKey",
    "Influence",
    "JobTable",
    "Making",
    "Matched",
    "Method",
    "Model",
    "Quota",
    "ReportKey",
    "Right",
    "Side",
    "Song",
    "SongPolicy",
    "Stage",
    "StatedDispute",
    "StatedSong",
    "StatedTrack",
    "Statement",
    "StatementLine",
    "Status",
    "Take",
    "Tenant",
    "TrainingPolicy",
    "TrainingSong",
    "Usage",
    "Verdict",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookSecret",
    "Worker",
    "new_id",
]
