"""Statements over HTTP and by command: found, read by page, signed, as a table and as a flat file."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app.db import transaction
from app.models import Song
from app.statements import documents
from tests.app.here import bearer, client_of, make_key
from tests.app.live import serving
from tests.app.statements import books
from tests.app.statements.books import Track, right
from tests.app.test_songs_api import problem

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
TRACKS = 6


@pytest.fixture
def closed(client, database, model):
    """January: six tracks of two songs, of which Ada holds parts in two roles, then closed."""
    first = books.song(database, "one", right("Ada", "composer", 0.5), right("Label", "label", 1))
    second = books.song(database, "two", right("Ada", "performer", 0.25), right("Ada", "publisher", 1))
    books.add(database, model.id, [Track(JANUARY, {first: 0.5, second: 0.125}) for _ in range(TRACKS)])
    answer = client.post("/v1/statements/2026-01/close")
    assert answer.status_code == 200, answer.text
    return answer.json()


def of(client, name, **params):
    found = client.get("/v1/statements", params=params).json()["items"]
    return next(each for each in found if each["holder"]["name"] == name)


def amounts(lines):
    return [(line["role"], line["side"], line["share"], line["amount"]) for line in lines]


ADA = [
    ("performer", "recording", "0.250000000", "0.187500000000"),
    ("composer", "work", "0.500000000", "1.500000000000"),
    ("publisher", "work", "1.000000000", "0.750000000000"),
]


def test_a_closed_month_says_what_it_adds_up_to(client, closed):
    assert (closed["month"], closed["statements"]) == ("2026-01", 2)
    (total,) = closed["totals"]
    assert total == {
        "month": "2026-01",
        "tracks": TRACKS,
        "attributed": "3.750000000000",
        "unattributed": "2.250000000000",
        "recordings": {"claimed": "3.187500000000", "unclaimed": "0.562500000000"},
        "works": {"claimed": "2.250000000000", "unclaimed": "1.500000000000"},
    }
    for side in ("recordings", "works"):
        assert sum(map(Decimal, (*total[side].values(), total["unattributed"]))) == TRACKS
    assert client.post("/v1/statements/2026-01/close").json() == closed
    assert client.get("/v1/closings").json() == {"items": [closed], "next_cursor": None}


def test_statements_are_found_by_month_and_holder_and_read_by_page(client, closed):
    ada = of(client, "Ada")
    assert (ada["recordings"], ada["works"], ada["lines"]) == ("0.187500000000", "2.250000000000", 3)
    assert client.get(f"/v1/statements/{ada['id']}").json() == ada
    assert client.get("/v1/statements", params={"holder": ada["holder"]["id"]}).json()["items"] == [ada]
    assert client.get("/v1/statements", params={"month": "2026-02"}).json()["items"] == []
    assert problem(client.get("/v1/statements", params={"month": "x"})) == (422, "invalid-request")
    lines, cursor = [], None
    for _ in ADA:
        place = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = client.get(f"/v1/statements/{ada['id']}/lines", params=place).json()
        assert page["statement"] == ada
        lines, cursor = lines + page["items"], page["next_cursor"]
    assert (amounts(lines), cursor) == (ADA, None)


def test_a_statement_is_signed_and_stays_the_same(client, closed, database):
    ada = of(client, "Ada")
    data = client.get(f"/v1/statements/{ada['id']}/report").content
    told = client.post("/v1/reports/verify", content=data).json()
    assert (told["valid"], told["type"], told["schema"], told["subject"]) == (True, "rootnote.statement", 1, ada["id"])
    with transaction(database) as session:
        for song in session.query(Song):
            song.title, song.isrc = "Another", None
    assert client.get(f"/v1/statements/{ada['id']}/report").content == data
    document = json.loads(data)["document"]
    assert amounts(document["lines"]) == ADA
    assert document["holder"] == ada["holder"]
    assert document["month"] == closed["totals"][0]
    changed = data.replace(b"0.750000000000", b"9.750000000000")
    assert not client.post("/v1/reports/verify", content=changed).json()["valid"]


def test_a_correction_names_what_it_corrects(client, closed, database):
    song = client.get("/v1/songs", params={"q": "one"}).json()["items"][0]
    books.give(database, song["id"], right("=Ada & Co", "composer", 0.5), right("Label", "label", 1))
    assert client.post("/v1/statements/2026-02/close").json()["statements"] == 2
    january, february = of(client, "Ada", month="2026-01"), of(client, "Ada", month="2026-02")
    (line,) = client.get(f"/v1/statements/{february['id']}/lines").json()["items"]
    assert (line["amount"], line["tracks"], line["share"]) == ("-1.500000000000", -TRACKS, "0.000000000")
    assert line["corrects"] == {"month": "2026-01", "statement_id": january["id"]}
    new = of(client, "=Ada & Co")
    (line,) = client.get(f"/v1/statements/{new['id']}/lines").json()["items"]
    assert (line["amount"], line["corrects"]) == ("1.500000000000", {"month": "2026-01", "statement_id": None})
    (row,) = csv.DictReader(io.StringIO(client.get(f"/v1/statements/{february['id']}/report.csv").text))
    assert (row["amount"], row["corrects"]) == ("-1.500000000000", "2026-01")
    flat = client.get(f"/v1/statements/{new['id']}/report.tsv").text
    assert "\t'=Ada & Co\t" in flat


def test_the_flat_file_is_keyed_by_isrc_and_iswc(client, closed):
    ada = of(client, "Ada")
    answer = client.get(f"/v1/statements/{ada['id']}/report.tsv")
    assert answer.headers["content-type"] == "text/tab-separated-values; charset=utf-8"
    rows = [line.split("\t") for line in answer.text.splitlines()]
    columns = {row[0][1:]: row[1:] for row in rows if row[0].startswith("#")}
    records = [(row[0], dict(zip(columns[row[0]], row[1:], strict=True))) for row in rows if not row[0].startswith("#")]
    assert [name for name, _ in records] == ["HEAD", "SUMM", "SUMM", "RECL", "WRKL", "WRKL", "FOOT"]
    assert records[0][1]["HolderName"] == "Ada"
    assert [facts.get("ISRC") for _, facts in records[3:5]] == ["USSKG1912345", None]
    for _, facts in records[1:3]:
        names = ("AllClaimedTracks", "UnclaimedTracks", "UnattributedTracks")
        assert sum(Decimal(facts[name]) for name in names) == int(facts["CountedTracks"]) == TRACKS
    assert records[-1][1] == {"Lines": "3"}


def test_a_month_that_is_not_over_is_not_closed(client):
    assert problem(client.post("/v1/statements/9998-12/close")) == (409, "month-open")
    assert problem(client.post("/v1/statements/December/close")) == (422, "invalid-request")


def test_another_tenants_statements_are_not_there(client, closed, stranger):
    ada = of(client, "Ada")["id"]
    for form in ("", "/lines", "/report", "/report.csv", "/report.tsv"):
        assert problem(stranger.get(f"/v1/statements/{ada}{form}")) == (404, "not-found")
    assert stranger.get("/v1/statements").json()["items"] == []
    assert stranger.get("/v1/closings").json()["items"] == []


def test_statements_by_command(app, run, closed, monkeypatch, client):
    ada = of(client, "Ada")["id"]
    with serving(app) as url:
        monkeypatch.setenv("ROOTNOTE_URL", url)
        for words in (("close", "2026-01"), ("months",), ("list", "--month", "2026-01")):
            status, out, _ = run("statements", *words)
            assert (status, "2026-01" in out) == (0, True)
        status, out, _ = run("statement", ada)
        assert (status, "1.5000" in out, "recordings: 0.1875, works: 2.2500" in out) == (0, True, True)
        for form in ("json", "csv", "tsv"):
            assert run("statement", ada, "--as", form, "--out", f"statement.{form}")[0] == 0
        assert run("verify", "statement.json")[0] == 0
        assert Path("statement.csv").read_text().count("\n") == 1 + len(ADA)
        status, out, _ = run("statements", "list", "--json")
        assert (status, ada in out) == (0, True)
        status, _, wrong = run("statements", "close", "9998-12")
        assert (status, "cannot be closed yet" in wrong) == (1, True)


def test_the_example_of_the_documentation_is_made_of_a_signed_statement():
    root = Path(__file__).parents[3]
    signed = json.loads((root / "tests/app/reports/signed/rootnote.statement.1.json").read_bytes())
    assert documents.as_flat_file(signed["document"]).decode() in (root / "docs/statements.md").read_text()


def test_a_holder_sees_its_own_statements_alone(app, client, closed, database):
    ada, label = of(client, "Ada"), of(client, "Label")
    key = make_key(database, books.TENANT, name="ada", holder_id=ada["holder"]["id"])
    with client_of(app, headers=bearer(key)) as holder:
        assert holder.get("/v1/statements").json()["items"] == [ada]
        assert holder.get("/v1/statements", params={"holder": label["holder"]["id"]}).json()["items"] == []
        for form in ("", "/lines", "/report", "/report.csv", "/report.tsv"):
            assert holder.get(f"/v1/statements/{ada['id']}{form}").status_code == 200
            assert problem(holder.get(f"/v1/statements/{label['id']}{form}")) == (404, "not-found")
        assert problem(holder.get("/v1/closings")) == (403, "insufficient-scope")
        assert problem(holder.post("/v1/statements/2026-01/close")) == (403, "insufficient-scope")
