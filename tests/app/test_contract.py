"""What would break a client is told as such."""

import copy

import pytest

from app import contract


@pytest.fixture(scope="module")
def made():
    return contract.document()


@pytest.fixture
def changed(made):
    return copy.deepcopy(made)


def test_the_same_document_breaks_nothing(made):
    assert contract.breaking(made, made) == contract.added(made, made) == []


def told(made, changed):
    return contract.breaking(made, changed), contract.breaking(changed, made)


def test_an_operation_that_goes_breaks_and_one_that_comes_does_not(made, changed):
    del changed["paths"]["/v1/songs"]["post"]
    assert told(made, changed) == (["POST /v1/songs is gone"], [])
    assert contract.added(changed, made) == ["POST /v1/songs"]


def test_a_parameter_that_must_be_given_breaks(made, changed):
    found = next(each for each in changed["paths"]["/v1/songs"]["get"]["parameters"] if each["name"] == "isrc")
    found["required"] = True
    assert told(made, changed) == (["GET /v1/songs: parameter isrc (query) is now required"], [])


def test_a_parameter_that_goes_breaks(made, changed):
    parameters = changed["paths"]["/v1/songs"]["get"]["parameters"]
    parameters[:] = [each for each in parameters if each["name"] != "artist"]
    assert told(made, changed) == (["GET /v1/songs: parameter artist (query) is gone"], [])


def test_a_field_of_a_body_that_must_be_given_breaks(made, changed):
    changed["components"]["schemas"]["SongFacts"]["required"].append("licence")
    assert told(made, changed) == (["POST /v1/songs: field licence of the body is now required"], [])


def test_a_field_of_an_answer_that_goes_or_changes_breaks_wherever_it_is_shown(made, changed):
    song = changed["components"]["schemas"]["Song"]["properties"]
    song["key"] = {"type": "integer"}
    del song["title"]
    broken, back = told(made, changed)
    assert "GET /v1/songs: field items[].title of the answer is gone" in broken
    assert "GET /v1/songs/{song_id}: field key of the answer was string and is integer" in broken
    assert not [each for each in back if "gone" in each]


def test_a_success_of_another_kind_breaks(made, changed):
    responses = changed["paths"]["/v1/songs"]["post"]["responses"]
    responses["200"] = responses.pop("201")
    assert told(made, changed)[0] == ["POST /v1/songs: is no longer answered with 201"]


def test_the_command_writes_and_checks(tmp_path, capsys):
    file = tmp_path / "openapi.json"
    assert contract.main([str(file), "--check"]) == 1
    assert "new: GET /v1/songs\n" in capsys.readouterr().out
    assert contract.main([str(file)]) == 0
    assert contract.main([str(file), "--check"]) == 0
