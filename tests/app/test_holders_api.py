"""Rights-holders over HTTP: who they are follows from what songs state of their parties, and is never guessed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.catalogue.registry import register_model
from app.db import transaction
from app.errors import InvalidModel
from app.models import DEFAULT_TENANT, Holder, Song
from tests.app.test_songs_api import FACTS, imported, made, problem
from tests.app.world import model_folder, rows

URL = "/v1/holders"
IPI, OTHER_IPI, ISNI, OTHER_ISNI = "00014107338", "00052210040", "000000012281955X", "0000000121032608"


def right(party, share=0.1, role="label", **numbers):
    return {"party": party, "role": role, "share": share, **numbers}


def holders(client, **params):
    return client.get(URL, params=params).json()["items"]


def test_one_holder_whatever_it_is_called_in_its_songs(client):
    first = made(client, rights=[right("Ada Lovelace", ipi=IPI), right("Bo")])
    second = made(client, rights=[right("A. Lovelace", ipi="14107338", isni=ISNI), right("  BÓ  ")])
    third = made(client, rights=[right("Lovelace, Ada", isni=ISNI)])
    ada, bo = holders(client)
    assert [ada["name"], bo["name"]] == ["Ada Lovelace", "Bo"]
    assert (ada["ipi"], ada["isni"], bo["ipi"]) == (IPI, ISNI, None)
    assert [[each["holder_id"] for each in song["rights"]] for song in (first, second, third)] == [
        [ada["id"], bo["id"]],
        [ada["id"], bo["id"]],
        [ada["id"]],
    ]
    assert second["rights"][0]["party"] == "A. Lovelace"
    assert client.get(f"{URL}/{ada['id']}").json() == ada


def test_a_name_alone_is_not_who_has_that_name_and_a_number(client):
    made(client, rights=[right("John Smith", ipi=IPI), right("John Smith", isni=OTHER_ISNI), right("John Smith")])
    assert [(each["name"], each["ipi"], each["isni"]) for each in holders(client)] == [
        ("John Smith", IPI, None),
        ("John Smith", None, OTHER_ISNI),
        ("John Smith", None, None),
    ]


@pytest.mark.parametrize("numbers", [{"ipi": OTHER_IPI, "isni": ISNI}, {"ipi": IPI, "isni": OTHER_ISNI}])
def test_numbers_that_contradict_what_is_known_are_refused(numbers, client, database):
    song = made(client, rights=[right("Ada", ipi=IPI, isni=ISNI)])
    refused = client.post("/v1/songs", json=FACTS | {"rights": [right("New"), right("Ada", **numbers)]})
    assert problem(refused) == (409, "holder-conflict")
    changed = client.patch(f"/v1/songs/{song['id']}", json={"rights": [right("Ada", **numbers)]})
    assert problem(changed) == (409, "holder-conflict")
    assert (rows(database, Song), rows(database, Holder)) == (1, 1)


def test_two_holders_are_not_made_one_by_a_line_that_names_both(client, database):
    made(client, rights=[right("Ada", ipi=IPI), right("Lovelace", isni=ISNI)])
    text = f"key,title,artist,rights\na,A,A,New|label|1;Ada|composer|1|{IPI}|{ISNI}\nb,B,B,Bo|label|1\n"
    for dry_run in (True, False):
        report = imported(client, text, dry_run=dry_run)
        (error,) = report["errors"]
        assert (error["line"], error["field"], report["rows"], report["created"]) == (2, "rights", 2, 1)
        assert "two rights-holders" in error["message"]
    assert {each["name"] for each in holders(client)} == {"Ada", "Lovelace", "Bo"}


def test_an_import_names_the_same_holders_again_and_again(client, database):
    text = "key,title,artist,rights\n" + "".join(
        f"{n},T,A,P{n % 7}|label|0.5;q{n % 3}|composer|1\n" for n in range(1200)
    )
    for _ in range(2):
        assert imported(client, text)["errors"] == []
        assert rows(database, Holder) == 10


def test_a_line_contradicts_an_earlier_line_of_its_file(client):
    text = f"key,title,artist,rights\na,A,A,Ada|label|1|{IPI}|{ISNI}\nb,B,B,Ada|label|1|{IPI}|{OTHER_ISNI}\n"
    (error,) = imported(client, text, dry_run=True)["errors"]
    assert (error["line"], error["field"]) == (3, "rights")


def test_a_model_whose_songs_contradict_known_holders_is_not_registered(client, database, settings):
    made(client, rights=[right("Ada", ipi=IPI, isni=ISNI)])
    folder = model_folder(settings.data_dir, songs=1, indexed=1)
    (folder / "songs.csv").write_text(f"key,title,artist,rights\nsong-0,T,A,Ada|label|1|{IPI}|{OTHER_ISNI}\n")
    with pytest.raises(InvalidModel, match="line 2: rights: Ada has the ISNI"), transaction(database) as session:
        register_model(session, DEFAULT_TENANT, folder)
    assert rows(database, Song) == 1


def test_holders_are_found_by_the_beginnings_of_words_of_their_name(client):
    made(client, rights=[right("Ada Lovelace", ipi=IPI), right("Björk & Co")])
    assert [each["name"] for each in holders(client, q="love")] == ["Ada Lovelace"]
    assert [each["name"] for each in holders(client, q="BJORK co")] == ["Björk & Co"]
    assert holders(client, q="&") == holders(client, q="lace") == []


def test_a_holder_has_its_songs_once_each_and_lists_go_on_at_a_cursor(client):
    ada = [right("Ada", role="label"), right("Ada", role="composer")]
    songs = [made(client, rights=ada)["id"] for _ in range(3)]
    made(client, rights=[right("Bo")])
    holder = holders(client, q="ada")[0]["id"]
    found, cursor = [], None
    for _ in songs:
        page = client.get(f"{URL}/{holder}/songs", params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
        found += [song["id"] for song in page["items"]]
        cursor = page["next_cursor"]
    assert (found, cursor) == (songs, None)
    first = client.get(URL, params={"limit": 1}).json()
    second = client.get(URL, params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [page["items"][0]["name"] for page in (first, second)] == ["Ada", "Bo"]
    assert problem(client.get(f"{URL}/{holder}/songs", params={"cursor": first["next_cursor"]})) == (400, "bad-cursor")


def test_another_tenants_holder_is_not_there(client, stranger):
    made(client, rights=[right("Ada", ipi=IPI)])
    (ada,) = holders(client)
    assert holders(stranger) == []
    for address in (f"{URL}/{ada['id']}", f"{URL}/{ada['id']}/songs"):
        assert problem(stranger.get(address)) == (404, "not-found")


def test_shares_are_counted_in_whole_parts(client):
    third = [right(name, 1 / 3) for name in "abc"]
    sixth = [right(name, 0.166666667, "composer") for name in "abcdef"]
    tenth = [right(name, 0.1, "composer") for name in "abcdefghij"]
    made(client, rights=third + tenth)
    refused = client.post("/v1/songs", json=FACTS | {"rights": third + sixth})
    assert problem(refused) == (422, "invalid-request")
    assert "1.000000002" in refused.json()["detail"]


def test_songs_that_name_a_new_holder_at_once_agree_on_it(client, database):
    def one(number):
        return client.post(
            "/v1/songs", json=FACTS | {"key": f"k{number}", "rights": [right("Ada"), right("B", ipi=IPI)]}
        )

    with ThreadPoolExecutor(4) as pool:
        assert {answer.status_code for answer in pool.map(one, range(12))} == {201}
    assert (rows(database, Holder), rows(database, Song)) == (2, 12)
