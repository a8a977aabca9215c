"""Every failing answer is a problem document, whoever raised it, and carries the request's id."""

import logging

import pytest

from app import errors
from app.errors import NotFound, Unavailable
from app.main import create_app
from app.problems import document, title_of
from tests.app.here import client_of

MEMBERS = {"type", "title", "status", "detail", "instance", "request_id"}


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) >= MEMBERS
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, body["type"].removeprefix("urn:rootnote:problem:")


def test_an_unknown_address_is_not_found(client):
    answer = client.get("/v2/nothing?x=1")
    assert problem(answer) == (404, "not-found")
    assert answer.json()["instance"] == "/v2/nothing"


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("DELETE", "/v1/attributions", "GET, POST"),
        ("PUT", "/v1/songs/x", "GET, PATCH"),
        ("POST", "/v1/songs/x/audio", "DELETE, GET, PUT"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method, address, allowed, client):
    answer = client.request(method, address)
    assert problem(answer) == (405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("address", ["/v1/songs", "/v1/songs/import", "/v1/songs/x/audio", "/nowhere"])
def test_no_body_is_larger_than_the_cap(address, announced, database_settings):
    small = database_settings.model_copy(update={"max_upload_bytes": 1000})
    body = bytes(200_000)
    pieces = body if announced else (body[start : start + 1000] for start in range(0, len(body), 1000))
    method = "PUT" if address.endswith("audio") else "POST"
    with client_of(create_app(small)) as client:
        answer = client.request(method, address, content=pieces, headers={"content-type": "text/csv"})
    unread = address == "/nowhere" and not announced
    assert problem(answer) == ((404, "not-found") if unread else (413, "too-large"))


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"x"', b"\xff", b'{"title": "a\\ud800", "artist": "b"}'])
def test_a_broken_json_body_is_an_invalid_request(body, client):
    answer = client.post("/v1/songs", content=body, headers={"content-type": "application/json"})
    assert problem(answer) in {(422, "invalid-request"), (400, "invalid-request")}


@pytest.mark.parametrize(
    "body",
    [b"no boundary at all", b"--x\r\nContent-Disposition: form-data\r\n\r\n", b"--x\r\nno header\r\n\r\n1\r\n--x--"],
)
def test_a_broken_form_is_a_bad_request(body, client):
    form = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/attributions", content=body, headers=form)
    assert problem(answer) in {(400, "invalid-request"), (422, "missing-file")}


def test_every_wrong_field_is_listed(client):
    answer = client.post("/v1/songs", json={"title": "", "rights": [{"share": 2}], "a/b~c": 1})
    assert problem(answer) == (422, "invalid-request")
    pointers = {error["field"]: error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {
        "title": "#/title",
        "artist": "#/artist",
        "rights.0.party": "#/rights/0/party",
        "rights.0.role": "#/rights/0/role",
        "rights.0.share": "#/rights/0/share",
        "a/b~c": "#/a~1b~0c",
    }
    (query,) = client.get("/v1/songs", params={"limit": "many"}).json()["errors"]
    assert (query["field"], "pointer" in query) == ("limit", False)


def test_a_sound_request_id_is_kept_and_another_replaced(client):
    assert (
        client.get("/healthz", headers={"X-Request-ID": "render-77.a:b_c"}).headers["x-request-id"] == "render-77.a:b_c"
    )
    for unsound in ("", "a b", "é", "x" * 129, "a\tb", "<script>"):
        given = client.get("/nowhere", headers={"X-Request-ID": unsound.encode()})
        assert problem(given) == (404, "not-found")
        assert given.headers["x-request-id"] != unsound
    assert len({client.get("/healthz").headers["x-request-id"] for _ in range(3)}) == 3


def test_what_nobody_expected_tells_the_caller_nothing(app, caplog):
    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError("the secret of the house")

    with client_of(app) as client, caplog.at_level(logging.CRITICAL):
        answer = client.get("/boom", headers={"X-Request-ID": "boom-1"})
    assert problem(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == "boom-1"


def test_a_dead_database_is_unavailable_and_says_when_to_come_back(settings):
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    with client_of(
        create_app(settings.model_copy(update={"database_url": nowhere.replace("ql:", "ql+psycopg:")}))
    ) as client:
        for answer in (client.get("/v1/models"), client.post("/v1/songs", json={"title": "a", "artist": "b"})):
            assert problem(answer) == (503, "database-unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200


def test_a_type_that_a_job_stored_has_a_title():
    assert title_of(NotFound.type) == NotFound.title
    assert title_of("of another age") == "of another age"


def test_the_documentation_groups_types_by_status():
    described = document(NotFound, Unavailable)
    assert set(described) == {404, 422, 503}
    assert "`unavailable`" in described[503]["description"]


def test_every_error_of_the_interface_has_a_type_of_its_own():
    kinds = [vars(each)["type"] for each in vars(errors).values() if isinstance(each, type) and "type" in vars(each)]
    assert sorted(kinds) == sorted(set(kinds))
