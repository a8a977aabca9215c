"""The pages as they are served: what they say, what they refuse, and that nothing from elsewhere gets in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from app.access.scopes import Scope
from app.attributions.outcome import ErrorInfo
from app.db import transaction
from app.deps import Caller, caller
from app.models import DEFAULT_TENANT, Song
from app.models import Attribution as AttributionRow
from app.pages import rendering
from tests.app.sounds import Sound
from tests.app.test_attributions_api import posted
from tests.app.world import add_found, complete, fail, rows

TRACK = {"audio": ("night.wav", Sound().encode())}
INLINE = re.compile(r"<style|<[^>]*\sstyle=|<[^>]*\son\w+=|<script(?! type=\"module\" src=\"/static/)")
ELSEWHERE = re.compile(r"(?:src|href|action)=\"(?:https?:)?//")
NAMED = re.compile(r"(?:src|href)=\"(/static/[^\"#]+)")
ROWS = re.compile(r'<th scope="row"><a href="(/attributions/[\w-]+)"')
NASTY = '<script>alert("x")</script>'


@pytest.fixture
def ended(client, database, database_settings, model):
    """The id of an attribution that has succeeded."""
    ident = posted(client, prompt=NASTY, name=f"{NASTY}.wav")
    complete(database, database_settings, ident)
    return ident


@pytest.fixture
def song(client, model):
    """A song's id."""
    return client.get("/v1/songs").json()["items"][0]["id"]


def texts(answer):
    """A page's words, without its marks."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


def addresses(ended, song):
    report, history = f"/attributions/{ended}", f"/songs/{song}"
    return ["/", "/attributions", report, "/songs", history, "/models", "/sign-in", "/attributions/x"]


def test_no_page_lets_anything_from_elsewhere_in(client, ended, song):
    for address in addresses(ended, song):
        answer = client.get(address)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy, address
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not INLINE.search(answer.text), address
        assert not ELSEWHERE.search(answer.text), address


def test_what_people_wrote_is_shown_as_text(client, ended, song):
    objection = {"song_id": song, "by": NASTY, "reason": NASTY}
    client.post(f"/attributions/{ended}/disputes", data=objection)
    for address in ("/", f"/attributions/{ended}", f"/songs/{song}", f"/songs?q={NASTY}"):
        assert NASTY not in client.get(address).text, address
    assert "&lt;script&gt;" in client.get(f"/attributions/{ended}").text


def test_every_file_that_a_page_names_is_there(client, ended, song):
    named = {name for address in addresses(ended, song) for name in NAMED.findall(client.get(address).text)}
    assert len(named) > 10
    assert {name for name in named if client.get(name).status_code != 200} == set()


def test_files_are_served_under_any_version(client):
    assert client.get("/static/an-older-one/base.css").text == client.get(f"/static/{rendering.VERSION}/base.css").text
    assert client.get("/static/x/../rendering.py").status_code == 404


def test_a_track_is_sent_without_a_script(client, model):
    answer = client.post(
        "/", files=TRACK, data={"prompt": " slow ", "model": "", "method": "index"}, follow_redirects=False
    )
    assert answer.status_code == 303
    shown = client.get(f"/v1{answer.headers['location']}").json()
    assert (shown["status"], shown["prompt"], shown["audio"]["filename"]) == ("queued", "slow", "night.wav")
    waiting = client.get(answer.headers["location"])
    assert '<noscript><meta http-equiv="refresh"' in waiting.text
    assert all(stage in texts(waiting) for stage in ("decoding", "unlearning", "ranking"))


@pytest.mark.parametrize(
    ("files", "data", "status", "words"),
    [
        ({}, {}, 422, "No audio file was sent"),
        ({"audio": ("", b"")}, {}, 422, "No audio file was sent"),
        ({"audio": ("a.wav", b"")}, {}, 422, "The file is empty"),
        ({"audio": ("a.wav", b"these are words")}, {}, 415, "The file is not audio in a known format"),
        (TRACK, {"model": "unheard-of"}, 422, "This model is not registered"),
        (TRACK, {"method": "guess"}, 422, "This method does not exist"),
    ],
)
def test_a_refusal_keeps_what_was_written(client, model, database, files, data, status, words):
    answer = client.post("/", files=files or None, data={"prompt": "my words"} | data)
    assert answer.status_code == status
    assert words in texts(answer)
    assert ">my words</textarea>" in answer.text
    assert rows(database, AttributionRow) == 0


def test_the_report_says_what_was_found_and_what_was_not(client, ended):
    told = texts(client.get(f"/attributions/{ended}"))
    assert "30.0 % is traced to “Title 0” by Artist 0, 40.0 % to 4 other songs. 30.0 % stays unattributed." in told
    assert "Made by this model probability 0.980" in told
    assert "15.0–60.0 %" in told
    assert "It is not a sum of money" in told


def test_the_report_leads_to_the_seconds_that_match_without_a_script(client, ended):
    link = re.search(rf"/v1/attributions/{ended}/audio#t=1.0,3.0", client.get(f"/attributions/{ended}").text)
    assert link is not None
    assert client.get(link.group()).status_code == 200


def test_a_failed_attribution_says_why(client, database, database_settings, model):
    ident = posted(client)
    fail(database, database_settings, ident, ErrorInfo("silent", "nothing to hear"))
    told = texts(client.get(f"/attributions/{ident}"))
    assert "The audio is silent" in told
    assert "nothing to hear" in told
    assert "urn:rootnote:problem:silent" in told


def test_an_attribution_is_canceled_from_its_page(client, model):
    ident = posted(client)
    answer = client.post(f"/attributions/{ident}/cancel")
    assert "It was canceled before it ended" in texts(answer)


def test_a_row_is_disputed_and_reviewed_on_the_report(client, ended, song):
    report = client.post(f"/attributions/{ended}/disputes", data={"song_id": song, "by": "Ada", "reason": "not ours"})
    assert "not ours" in texts(report)
    where = re.search(rf"/attributions/{ended}/disputes/[\w-]+/resolve", report.text).group()
    decided = client.post(where, data={"outcome": "upheld", "by": "Bo", "note": "a shared loop"})
    assert "Upheld. a shared loop Bo" in texts(decided)
    again = client.post(where, data={"outcome": "rejected", "by": "Bo", "note": "no"})
    assert (again.status_code, "This dispute is resolved" in texts(again)) == (409, True)
    nameless = client.post(f"/attributions/{ended}/disputes", data={"song_id": song, "by": " ", "reason": "x"})
    assert nameless.status_code == 422


@pytest.mark.parametrize("headers", [{"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_form_of_another_site_is_refused(client, ended, headers):
    answer = client.post(f"/attributions/{ended}/cancel", headers=headers, follow_redirects=False)
    assert answer.status_code == 403
    assert client.post("/", files=TRACK, headers=headers).status_code == 403


def test_a_stranger_sees_none_of_it(stranger, ended, song):
    for address in (f"/attributions/{ended}", f"/songs/{song}"):
        answer = stranger.get(address)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
    assert ended not in stranger.get("/").text
    assert (
        stranger.post(f"/attributions/{ended}/disputes", data={"song_id": song, "by": "a", "reason": "b"}).status_code
        == 404
    )


def test_a_page_shows_no_more_than_the_key_allows(app, client, ended, song):
    app.dependency_overrides[caller] = lambda: Caller(DEFAULT_TENANT, frozenset({Scope.CATALOGUE_READ}))
    assert client.get(f"/attributions/{ended}").status_code == 403
    assert "Influence over time" not in client.get(f"/songs/{song}").text
    app.dependency_overrides[caller] = lambda: Caller(DEFAULT_TENANT, frozenset({Scope.ATTRIBUTIONS_WRITE}))
    assert ended not in client.get("/").text


def test_who_shows_no_key_is_led_to_the_sign_in(app, database_settings):
    from fastapi.testclient import TestClient

    with TestClient(app, client=("203.0.113.7", 1), follow_redirects=False) as far:
        answer = far.get("/songs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/songs")


@pytest.mark.parametrize("after", ["//elsewhere.example", "/\\elsewhere.example", "https://elsewhere.example", "x"])
def test_signing_in_leads_to_no_other_site(client, after):
    assert 'name="next" value="/"' in client.get("/sign-in", params={"next": after}).text


def test_the_catalogue_is_searched(client, database, model):
    with transaction(database) as session:
        session.add(Song(tenant_id=DEFAULT_TENANT, key="x", title="Night Drive", artist="Ada", isrc="USSKG1912345"))
    assert "Night Drive" in texts(client.get("/songs?q=night&artist=&isrc="))
    assert "Title 0" not in texts(client.get("/songs?q=&artist=ada"))
    assert "US-SKG" not in texts(client.get("/songs?isrc=US-SKG-19-12345"))
    wrong = client.get("/songs?isrc=nonsense")
    assert (wrong.status_code, "The request is not valid" in texts(wrong)) == (422, True)


def test_a_song_shows_its_history_in_the_steps_that_are_asked_for(client, database, model, song):
    begin = datetime(2026, 1, 30, 12, tzinfo=UTC)
    add_found(database, model.id, song, [begin + timedelta(days=each) for each in range(4)])
    by_track = client.get(f"/songs/{song}").text
    assert by_track.count('class="bar"') == 4
    by_month = texts(client.get(f"/songs/{song}?by=month"))
    assert "Jan 2026: 2 tracks, shares 50.0 %" in by_month
    assert "Feb 2026: 2 tracks, shares 50.0 %" in by_month
    narrowed = texts(client.get(f"/songs/{song}?by=day&from=2026-01-31&to=2026-01-31&model="))
    assert "31 Jan: 1 track," in narrowed
    assert "30 Jan" not in narrowed
    assert client.get(f"/songs/{song}?from=yesterday").status_code == 422


def test_a_long_history_is_shown_by_day_and_read_by_cursor(client, database, model, song):
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    add_found(database, model.id, song, [begin + timedelta(hours=each) for each in range(50)])
    first = client.get(f"/songs/{song}")
    assert "1 Jan: 24 tracks" in texts(first)
    seen = set(ROWS.findall(first.text))
    further = re.search(r'href="(\?cursor=[^"]+)"', first.text).group(1)
    seen |= set(ROWS.findall(client.get(f"/songs/{song}{further}").text))
    assert len(seen) == 40
