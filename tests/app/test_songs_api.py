"""Songs over HTTP: created, changed, found, imported; their identifiers, rights and recordings."""

from __future__ import annotations

import pytest

from app.models import Song
from tests.app.sounds import Sound
from tests.app.world import objects, rows

URL = "/v1/songs"
FACTS = {"title": "Night Drive", "artist": "The Examples"}


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("urn:rootnote:problem:")


def made(client, **facts):
    answer = client.post(URL, json=FACTS | facts)
    assert answer.status_code == 201, answer.text
    return answer.json()


def imported(client, text, **params):
    answer = client.post(f"{URL}/import", content=text, headers={"content-type": "text/csv"}, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_song_is_what_was_said_of_it_in_compact_form(client, database):
    rights = [
        {"party": "Ada", "role": "composer", "ipi": "52210040", "isni": None, "share": 0.6},
        {"party": "Bo", "role": "lyricist", "ipi": None, "isni": "0000 0001 2281 955x", "share": 0.4},
        {"party": "Loud", "role": "label", "ipi": None, "isni": None, "share": 1.0},
    ]
    answer = client.post(
        URL,
        json=FACTS | {"isrc": "us-skg-19-12345", "iswc": "T-034.524.680-1", "upc": "0 36000 29145 2", "rights": rights},
    )
    song = answer.json()
    assert answer.headers["location"] == f"{URL}/{song['id']}"
    assert (song["isrc"], song["iswc"], song["upc"]) == ("USSKG1912345", "T0345246801", "036000291452")
    assert [right["party"] for right in song["rights"]] == ["Ada", "Bo", "Loud"]
    assert song["rights"][0]["ipi"] == "00052210040"
    assert song["rights"][1]["isni"] == "000000012281955X"
    assert (song["training_policy"], song["warnings"], song["key"]) == ("allow", [], song["id"])
    assert client.get(f"{URL}/{song['id']}").json() == song


WRONG = {
    "no title": ({"title": None}, "title"),
    "blank artist": ({"artist": "  "}, "artist"),
    "short ISRC": ({"isrc": "USSKG19"}, "isrc"),
    "ISWC check digit": ({"iswc": "T0345246802"}, "iswc"),
    "UPC check digit": ({"upc": "036000291453"}, "upc"),
    "IPI check digits": (
        {"rights": [{"party": "x", "role": "label", "share": 1, "ipi": "00052210041"}]},
        "rights.0.ipi",
    ),
    "ISNI check digit": (
        {"rights": [{"party": "x", "role": "label", "share": 1, "isni": "0" * 15 + "2"}]},
        "rights.0.isni",
    ),
    "share above one": ({"rights": [{"party": "x", "role": "label", "share": 1.1}]}, "rights.0.share"),
    "unknown role": ({"rights": [{"party": "x", "role": "friend", "share": 1}]}, "rights.0.role"),
    "recording given away twice": (
        {"rights": [{"party": "x", "role": "label", "share": 0.7}, {"party": "y", "role": "performer", "share": 0.7}]},
        "rights",
    ),
    "unknown policy": ({"training_policy": "maybe"}, "training_policy"),
    "duration of zero": ({"duration_s": 0}, "duration_s"),
    "unknown field": ({"colour": "red"}, "colour"),
    "NUL": ({"title": "a\u0000b"}, "title"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_by_its_field(case, client, database):
    wrong, field = WRONG[case]
    facts = {name: value for name, value in (FACTS | wrong).items() if value is not None}
    answer = client.post(URL, json=facts)
    assert problem(answer) == (422, "invalid-request")
    (error,) = answer.json()["errors"]
    assert (error["field"], error["pointer"]) == (field, "#/" + field.replace(".", "/"))
    assert rows(database, Song) == 0


def test_an_unknown_isrc_prefix_is_a_warning(client):
    song = made(client, isrc="XX-SKG-19-12345")
    assert song["isrc"] == "XXSKG1912345"
    assert "XX" in song["warnings"][0]


def test_a_key_is_taken_once_and_an_isrc_as_often_as_it_is_given(client, database):
    made(client, key="k", isrc="USSKG1912345")
    assert problem(client.post(URL, json=FACTS | {"key": "k"})) == (409, "conflict")
    made(client, key="l", isrc="USSKG1912345")
    assert rows(database, Song) == 2


def test_a_change_touches_what_it_names(client):
    song = made(client, isrc="USSKG1912345", rights=[{"party": "x", "role": "label", "share": 1}])
    changed = client.patch(f"{URL}/{song['id']}", json={"isrc": None, "training_policy": "block"}).json()
    assert (changed["isrc"], changed["training_policy"]) == (None, "block")
    kept = ("id", "key", "title", "artist", "rights", "created_at")
    assert {name: changed[name] for name in kept} == {name: song[name] for name in kept}
    assert changed["updated_at"] > song["updated_at"]
    assert client.patch(f"{URL}/{song['id']}", json={"rights": []}).json()["rights"] == []
    same = client.patch(f"{URL}/{song['id']}", json={"training_policy": "block", "rights": []}).json()
    assert same == client.get(f"{URL}/{song['id']}").json()
    assert problem(client.patch(f"{URL}/{song['id']}", json={"title": None})) == (422, "invalid-request")


def test_songs_are_found_by_isrc_artist_and_words(client):
    first = made(client, key="a-1", isrc="USSKG1912345")["id"]
    second = made(client, key="b-2", title="100% Rain", artist="Björk & Co")["id"]

    def ids(**params):
        return [song["id"] for song in client.get(URL, params=params).json()["items"]]

    assert ids() == [first, second]
    assert ids(isrc="us skg 19 12345") == [first]
    assert ids(artist="the examples") == [first]
    assert ids(artist="examples") == []
    assert ids(artist="Björk & Co") == [second]
    assert problem(client.get(URL, params={"isrc": "12"})) == (422, "invalid-request")
    assert problem(client.get(URL, params={"q": "\x00"})) == (422, "invalid-request")


SEARCHES = {
    "DRIVE": ["one"],
    "dri": ["one"],  # a word's beginning
    "rive": [],  # not its middle
    "drive night": ["one"],  # in any order
    "examples night": ["one"],  # of title and artist together
    "night rain": [],  # all of them in one song
    "two b-2": ["two-b-2"],
    "bjork": ["two-b-2"],
    "BJÖRK": ["two-b-2"],
    "álom": ["three"],
    "megtort": ["three"],
    "本桜": ["three"],
    "100%": ["two-b-2"],
    "%": [],
    "'": [],
    "drive' | 'rain": [],
    "  ": ["one", "two-b-2", "three"],
}


@pytest.mark.parametrize("q", SEARCHES)
def test_a_song_is_found_by_the_beginnings_of_its_words(q, client):
    made(client, key="one")
    made(client, key="two-b-2", title="100% Rain", artist="Björk & Co")
    made(client, key="three", title="Megtört Álom: 千本桜", artist="Obsidian_Shell")
    found = client.get(URL, params={"q": q}).json()["items"]
    assert [song["key"] for song in found] == SEARCHES[q]


def test_a_song_is_found_by_what_it_is_called_now(client):
    song = made(client, title="Old Name")["id"]
    client.patch(f"{URL}/{song}", json={"title": "New", "artist": "Ünal"})
    assert [client.get(URL, params={"q": q}).json()["items"] for q in ("old", "examples")] == [[], []]
    for params in ({"q": "new"}, {"artist": "UNAL"}):
        assert [each["id"] for each in client.get(URL, params=params).json()["items"]] == [song]


def test_pages_hold_every_song_once(client):
    made_ids = [made(client)["id"] for _ in range(5)]
    seen, cursor = [], None
    while cursor is not None or not seen:
        page = client.get(URL, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [song["id"] for song in page["items"]]
        cursor = page["next_cursor"]
    assert seen == made_ids
    assert problem(client.get(URL, params={"cursor": "x"})) == (400, "bad-cursor")
    assert problem(client.get(URL, params={"limit": 0})) == (422, "invalid-request")


@pytest.mark.parametrize(
    ("method", "tail", "extra"),
    [
        ("GET", "", {}),
        ("PATCH", "", {"json": {"title": "x"}}),
        ("PUT", "/audio", {"content": Sound().encode()}),
        ("GET", "/influences", {}),
        ("GET", "/influence-history", {}),
    ],
)
def test_anothers_song_is_not_there(method, tail, extra, client, stranger, settings):
    song = made(client)
    for who, what in ((stranger, song["id"]), (client, "nothing"), (client, "%00")):
        assert problem(who.request(method, f"{URL}/{what}{tail}", **extra)) == (404, "not-found")
    assert client.get(f"{URL}/{song['id']}").json() == song
    assert stranger.get(URL).json()["items"] == []
    assert objects(settings) == []


CSV = """key,title,artist,isrc,label_code,rights
k-1,One,Ada,USSKG1912345,7,Ada|composer|0.5; Bo|lyricist|0.5|52210040
k-2,"Two, too",Bo,XXSKG1912346,7,
k-3,,Bo,,7,
k-4,Four,Bo,USSKG,7,
k-1,One again,Ada,,7,
"""


def test_an_import_stores_the_sound_lines_and_names_the_others(client, database):
    report = imported(client, CSV)
    assert (report["rows"], report["created"], report["updated"], report["unchanged"]) == (5, 2, 0, 0)
    assert [(error["line"], error["field"]) for error in report["errors"]] == [(4, "title"), (5, "isrc"), (6, "key")]
    assert report["errors"][1]["message"].startswith("an ISRC is")
    assert [(warning["line"], warning["field"]) for warning in report["warnings"]] == [(3, "isrc")]
    assert report["ignored_columns"] == ["label_code"]
    first, second = client.get(URL).json()["items"]
    assert [(right["party"], right["share"], right["ipi"]) for right in first["rights"]] == [
        ("Ada", 0.5, None),
        ("Bo", 0.5, "00052210040"),
    ]
    assert (second["title"], second["key"]) == ("Two, too", "k-2")


def test_importing_twice_changes_nothing_and_a_dry_run_says_the_same(client, database):
    dry = imported(client, CSV, dry_run=True)
    assert rows(database, Song) == 0
    wet = imported(client, CSV)
    assert dry | {"dry_run": False} == wet
    before = client.get(URL).json()
    again = imported(client, CSV)
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 2)
    assert client.get(URL).json() == before


def test_an_import_completes_songs_and_empties_nothing(client):
    imported(client, "key;title;artist;licence\nk;One;Ada;CC0\n")
    report = imported(client, "\ufeffartist;KEY;title;isrc;licence\nAda;k;Uno;USSKG1912345;\n")
    assert (report["created"], report["updated"], report["ignored_columns"]) == (0, 1, [])
    (song,) = client.get(URL).json()["items"]
    assert (song["title"], song["isrc"], song["licence"]) == ("Uno", "USSKG1912345", "CC0")


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"key,name\nk,x\n", b"title,title,artist\na,b,c\n", b"\xff\xfe", b'title,artist\n"' + b"x" * 200_000],
)
def test_what_is_no_catalogue_is_refused(text, client, database):
    answer = client.post(f"{URL}/import", content=text, headers={"content-type": "text/csv"})
    assert problem(answer) == (422, "invalid-request")
    assert rows(database, Song) == 0


def test_a_recording_is_stored_under_its_digest(client, settings):
    song = made(client)
    flac = Sound(channels=2).encode("FLAC")
    pieces = (flac[start : start + 1000] for start in range(0, len(flac), 1000))
    stored = client.put(f"{URL}/{song['id']}/audio", content=pieces).json()
    (kept,) = objects(settings)
    assert kept.name == stored["audio_sha256"]
    assert kept.read_bytes() == flac
    again = client.put(f"{URL}/{song['id']}/audio", content=flac).json()
    assert again == stored


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (422, "empty")),
        (b"no music" * 100, (415, "not-audio")),
        (Sound(channels=9).encode(), (422, "too-many-channels")),
    ],
)
def test_what_is_no_recording_is_refused(body, expected, client, settings):
    song = made(client)
    assert problem(client.put(f"{URL}/{song['id']}/audio", content=body)) == expected
    assert objects(settings) == []
    assert client.get(f"{URL}/{song['id']}").json() == song
