"""The interface describes itself whole: stable names, examples that are true, and every problem."""

import re

import pytest

from app.access import schemas as access
from app.alerts import schemas as alerts
from app.attributions import batch_schemas as batches
from app.attributions import influence_schemas as influences
from app.attributions import schemas as attributions
from app.catalogue import holder_schemas as holders
from app.catalogue import model_schemas as models
from app.catalogue import policy_schemas as policies
from app.catalogue import schemas as catalogue
from app.config import Settings
from app.counterfactuals import schemas as counterfactuals
from app.disputes import schemas as disputes
from app.main import create_app
from app.problems import Problem
from app.recordings import schemas as recordings
from app.reports import schemas as reports
from app.statements import schemas as statements
from app.usage import schemas as usage
from app.webhooks import schemas as webhooks
from tests.app.here import client_of

OPERATIONS = {
    "createAttribution": ("post", "/v1/attributions"),
    "listAttributions": ("get", "/v1/attributions"),
    "getAttribution": ("get", "/v1/attributions/{attribution_id}"),
    "listInfluences": ("get", "/v1/attributions/{attribution_id}/influences"),
    "cancelAttribution": ("post", "/v1/attributions/{attribution_id}/cancel"),
    "reattribute": ("post", "/v1/attributions/{attribution_id}/reattribute"),
    "createDispute": ("post", "/v1/attributions/{attribution_id}/disputes"),
    "listDisputes": ("get", "/v1/attributions/{attribution_id}/disputes"),
    "getDispute": ("get", "/v1/attributions/{attribution_id}/disputes/{dispute_id}"),
    "resolveDispute": ("post", "/v1/attributions/{attribution_id}/disputes/{dispute_id}/resolve"),
    "getTrackAudio": ("get", "/v1/attributions/{attribution_id}/audio"),
    "getTrackWaveform": ("get", "/v1/attributions/{attribution_id}/waveform"),
    "getSongAudio": ("get", "/v1/songs/{song_id}/audio"),
    "getSongWaveform": ("get", "/v1/songs/{song_id}/waveform"),
    "createCounterfactual": ("post", "/v1/attributions/{attribution_id}/counterfactuals"),
    "listCounterfactuals": ("get", "/v1/attributions/{attribution_id}/counterfactuals"),
    "getCounterfactual": ("get", "/v1/counterfactuals/{counterfactual_id}"),
    "cancelCounterfactual": ("post", "/v1/counterfactuals/{counterfactual_id}/cancel"),
    "getCounterfactualAudio": ("get", "/v1/counterfactuals/{counterfactual_id}/audio/{take}"),
    "createSong": ("post", "/v1/songs"),
    "listSongs": ("get", "/v1/songs"),
    "importSongs": ("post", "/v1/songs/import"),
    "getSong": ("get", "/v1/songs/{song_id}"),
    "changeSong": ("patch", "/v1/songs/{song_id}"),
    "putSongAudio": ("put", "/v1/songs/{song_id}/audio"),
    "listSongInfluences": ("get", "/v1/songs/{song_id}/influences"),
    "getSongInfluenceHistory": ("get", "/v1/songs/{song_id}/influence-history"),
    "listSongPolicies": ("get", "/v1/songs/{song_id}/policies"),
    "auditModel": ("get", "/v1/models/{model}/audit"),
    "listHolders": ("get", "/v1/holders"),
    "getHolder": ("get", "/v1/holders/{holder_id}"),
    "listHolderSongs": ("get", "/v1/holders/{holder_id}/songs"),
    "listModels": ("get", "/v1/models"),
    "getModel": ("get", "/v1/models/{model}"),
    "addToBatch": ("post", "/v1/batches"),
    "getBatch": ("get", "/v1/batches/{batch}"),
    "listBatchItems": ("get", "/v1/batches/{batch}/items"),
    "getReport": ("get", "/v1/attributions/{attribution_id}/report"),
    "getReportTable": ("get", "/v1/attributions/{attribution_id}/report.csv"),
    "verifyReport": ("post", "/v1/reports/verify"),
    "listReportKeys": ("get", "/v1/report-keys"),
    "closeMonth": ("post", "/v1/statements/{month}/close"),
    "listClosings": ("get", "/v1/closings"),
    "listStatements": ("get", "/v1/statements"),
    "getStatement": ("get", "/v1/statements/{statement_id}"),
    "listStatementLines": ("get", "/v1/statements/{statement_id}/lines"),
    "getStatementReport": ("get", "/v1/statements/{statement_id}/report"),
    "getStatementTable": ("get", "/v1/statements/{statement_id}/report.csv"),
    "getStatementFlatFile": ("get", "/v1/statements/{statement_id}/report.tsv"),
    "getUsage": ("get", "/v1/usage"),
    "createWebhookEndpoint": ("post", "/v1/webhook-endpoints"),
    "listWebhookEndpoints": ("get", "/v1/webhook-endpoints"),
    "getWebhookEndpoint": ("get", "/v1/webhook-endpoints/{endpoint_id}"),
    "changeWebhookEndpoint": ("patch", "/v1/webhook-endpoints/{endpoint_id}"),
    "deleteWebhookEndpoint": ("delete", "/v1/webhook-endpoints/{endpoint_id}"),
    "rotateWebhookSecret": ("post", "/v1/webhook-endpoints/{endpoint_id}/secret"),
    "testWebhookEndpoint": ("post", "/v1/webhook-endpoints/{endpoint_id}/test"),
    "listWebhookDeliveries": ("get", "/v1/webhook-endpoints/{endpoint_id}/deliveries"),
    "replayWebhookEvents": ("post", "/v1/webhook-endpoints/{endpoint_id}/replay"),
    "eraseTrackAudio": ("delete", "/v1/attributions/{attribution_id}/audio"),
    "eraseSongAudio": ("delete", "/v1/songs/{song_id}/audio"),
    "listAudit": ("get", "/v1/audit"),
    "createAlert": ("post", "/v1/alerts"),
    "listAlerts": ("get", "/v1/alerts"),
    "getAlert": ("get", "/v1/alerts/{alert_id}"),
    "deleteAlert": ("delete", "/v1/alerts/{alert_id}"),
    "getHealth": ("get", "/healthz"),
    "getReadiness": ("get", "/readyz"),
    "getMetrics": ("get", "/metrics"),
}
SCHEMAS = [
    attributions.Attribution,
    attributions.AttributionPage,
    influences.InfluencePage,
    influences.InfluenceRow,
    counterfactuals.Counterfactual,
    counterfactuals.CounterfactualPage,
    counterfactuals.NewCounterfactual,
    catalogue.HistoryPoint,
    catalogue.HistoryRow,
    catalogue.ImportReport,
    catalogue.Song,
    catalogue.SongChanges,
    catalogue.SongFacts,
    holders.Holder,
    models.Model,
    policies.AuditedSong,
    policies.ModelAudit,
    policies.PolicyStatement,
    disputes.Dispute,
    disputes.NewDispute,
    disputes.NewReview,
    recordings.Waveform,
    batches.Batch,
    batches.BatchItem,
    batches.BatchReceipt,
    batches.NewItem,
    reports.ReportKey,
    reports.Verification,
    statements.ClosedMonth,
    statements.Statement,
    statements.StatementLine,
    usage.TenantUsage,
    alerts.NewAlert,
    alerts.Alert,
    webhooks.NewEndpoint,
    webhooks.Endpoint,
    webhooks.EndpointSecret,
    webhooks.Delivery,
    access.AuditEntry,
    access.AuditPage,
    Problem,
]


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("api"))).openapi()


def operations(described):
    for address, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method, address, operation


def references(part):
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def test_operations_keep_their_names(described):
    found = {operation["operationId"]: (method, address) for method, address, operation in operations(described)}
    assert found == OPERATIONS


def test_every_operation_says_what_it_is_for(described):
    for _, address, operation in operations(described):
        assert operation["summary"], address
        assert operation["description"], address


def test_every_reference_leads_somewhere(described):
    schemas = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert set(references(described)) <= schemas


def test_every_failing_answer_is_a_problem(described):
    for _, address, operation in operations(described):
        failing = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert failing or not address.startswith("/v1"), address
        for status, answer in failing.items():
            assert list(answer["content"]) == ["application/problem+json"], (address, status)


def test_bodies_are_described_as_they_are_sent(described):
    sent = {
        operation["operationId"]: list(operation["requestBody"]["content"])
        for *_, operation in operations(described)
        if "requestBody" in operation
    }
    assert sent == {
        "createAttribution": ["multipart/form-data"],
        "addToBatch": ["multipart/form-data"],
        "createDispute": ["application/json"],
        "resolveDispute": ["application/json"],
        "createCounterfactual": ["application/json"],
        "createSong": ["application/json"],
        "changeSong": ["application/json"],
        "importSongs": ["text/csv"],
        "putSongAudio": ["audio/*"],
        "createAlert": ["application/json"],
        "createWebhookEndpoint": ["application/json"],
        "changeWebhookEndpoint": ["application/json"],
        "rotateWebhookSecret": ["application/json"],
        "replayWebhookEvents": ["application/json"],
        "verifyReport": ["application/json"],
    }
    assert described["components"]["schemas"]["NewTrack"]["required"] == ["audio"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_example_is_true_and_told(schema, described):
    example = schema.model_json_schema()["example"]
    shown = schema.model_validate(example).model_dump(mode="json", exclude_unset=True)
    assert shown | {"warnings": []} == example | {"warnings": []}
    assert set(described["components"]["schemas"][schema.__name__]["example"]) <= set(example)


def test_the_documentation_is_served(client):
    assert client.get("/docs").status_code == 200
    assert client.get("/openapi.json").json()["info"]["title"] == "Rootnote"


def test_the_page_of_the_documentation_asks_no_other_host(settings: Settings) -> None:
    with client_of(create_app(settings)) as client:
        page = client.get("/docs")
        files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert page.status_code == 200
        assert "//" not in page.text.replace("http://www.w3.org", "").split("<script>")[0]
        assert {client.get(name).status_code for name in files} == {200}
        assert any(name.endswith(".js") for name in files)
