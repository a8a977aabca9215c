"""Identifiers, CSV and the functions under the songs' routes."""

from __future__ import annotations

import csv
import io
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalogue import identifiers, importing, service
from app.catalogue.schemas import SongChanges, SongFacts
from app.db import reading, transaction
from app.errors import Conflict, InvalidRequest, NotFound
from app.models import DEFAULT_TENANT, Right, Song
from tests.app.world import rows, statements

IDENTIFIERS = [
    (identifiers.isrc, "us-skg-19-12345", "USSKG1912345"),
    (identifiers.isrc, " GB AYE 68 00023 ", "GBAYE6800023"),
    (identifiers.iswc, "t-034.524.680-1", "T0345246801"),
    (identifiers.upc, "0 36000 29145 2", "036000291452"),
    (identifiers.upc, "4006381333931", "4006381333931"),
    (identifiers.ipi, "00052210040", "00052210040"),
    (identifiers.ipi, "14107338", "00014107338"),
    (identifiers.isni, "0000 0001 2281 955x", "000000012281955X"),
]
NOT_IDENTIFIERS = [
    (identifiers.isrc, "USSKG191234"),
    (identifiers.isrc, "USSKG19123456"),
    (identifiers.isrc, "USSKG19X2345"),
    (identifiers.iswc, "T0345246802"),
    (identifiers.iswc, "0345246801"),
    (identifiers.iswc, "T٠345246801"),
    (identifiers.upc, "036000291453"),
    (identifiers.upc, "12345"),
    (identifiers.ipi, "00052210041"),
    (identifiers.ipi, "x"),
    (identifiers.isni, "0000000122819551"),
    (identifiers.isni, ""),
]


@pytest.mark.parametrize(("check", "typed", "kept"), IDENTIFIERS)
def test_an_identifier_is_kept_compact_and_checking_it_again_changes_nothing(check, typed, kept):
    assert check(typed) == kept == check(kept)


@pytest.mark.parametrize(("check", "typed"), NOT_IDENTIFIERS)
def test_what_is_no_identifier_is_refused(check, typed):
    with pytest.raises(ValueError, match=r"ISRC|ISWC|UPC|IPI|ISNI"):
        check(typed)


@given(st.text(alphabet="0123456789", min_size=9, max_size=9), st.integers(0, 8), st.integers(1, 9))
def test_one_wrong_digit_in_an_ipi_shows(digits, place, change):
    codes = [f"{digits}{check:02d}" for check in range(100)]
    right = [code for code in codes if _is_ipi(code)]
    assert len(right) == 1
    wrong = str((int(digits[place]) + change) % 10)
    typed = digits[:place] + wrong + digits[place + 1 :] + right[0][9:]
    # Remainders 0 and 1 share the check digits 00; every other single error shows.
    assert right[0].endswith("00") or not _is_ipi(typed)


def _is_ipi(code):
    try:
        return bool(identifiers.ipi(code))
    except ValueError:
        return False


def test_only_an_unknown_prefix_is_doubtful():
    assert identifiers.isrc_warning("USSKG1912345") is None
    assert "XX" in (identifiers.isrc_warning("XXSKG1912345") or "")


def facts(**more):
    return SongFacts.model_validate({"title": "T", "artist": "A"} | more)


def create(database, **more):
    with transaction(database) as session:
        return service.create(session, tenant_id=DEFAULT_TENANT, facts=facts(**more))


def test_a_refused_song_leaves_nothing(database):
    create(database, key="k")
    with pytest.raises(Conflict):
        create(database, key="k", rights=[{"party": "x", "role": "label", "share": 1}])
    assert (rows(database, Song), rows(database, Right)) == (1, 0)


def test_replacing_rights_forgets_the_old_ones(database):
    song = create(database, rights=[{"party": name, "role": "label", "share": 0.5} for name in "xy"])
    changes = SongChanges.model_validate({"rights": [{"party": "z", "role": "label", "share": 1}]})
    with transaction(database) as session:
        service.change(session, tenant_id=DEFAULT_TENANT, song_id=song.id, changes=changes)
    with reading(database) as session:
        kept = service.get(session, tenant_id=DEFAULT_TENANT, song_id=song.id)
        assert [right.party for right in kept.rights] == ["z"]
    assert rows(database, Right) == 1


def test_a_change_that_changes_nothing_writes_nothing(database):
    song = create(database, rights=[{"party": "x", "role": "label", "share": 1}])
    same = SongChanges.model_validate({"title": "T", "rights": [{"party": "x", "role": "label", "share": 1}]})
    with statements() as sent, transaction(database) as session:
        service.change(session, tenant_id=DEFAULT_TENANT, song_id=song.id, changes=same)
    assert all(statement.startswith(("SELECT", "BEGIN")) for statement in sent), sent


def test_a_foreign_song_is_not_found(database):
    song = create(database)
    with reading(database) as session, pytest.raises(NotFound):
        service.get(session, tenant_id="stranger", song_id=song.id)


def test_a_page_takes_two_statements_however_many_songs(database):
    for _ in range(5):
        create(database, rights=[{"party": "x", "role": "label", "share": 1}])
    with statements() as sent, reading(database) as session:
        found = service.page(session, tenant_id=DEFAULT_TENANT, wanted=service.SongFilter(), limit=4)
        assert [len(song.rights) for song in found.items] == [1] * 4
    assert len([statement for statement in sent if statement.startswith("SELECT")]) == 2


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs", "Cc"]), max_size=30)


@given(st.lists(st.tuples(cells, cells, cells), max_size=8), st.sampled_from([",", ";", "\t"]), st.booleans())
def test_every_line_is_either_sound_or_named(table, delimiter, mark):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([("key", "title", "artist"), *table])
    sheet = importing.parse(file.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    lines = sorted([line.number for line in sheet.lines] + list({error.line for error in sheet.errors}))
    assert lines == list(range(2, len(table) + 2))
    assert sheet.rows == len(table)
    for line in sheet.lines:
        key, title, artist = (cell.strip() for cell in table[line.number - 2])
        assert (line.key, line.facts.title, line.facts.artist) == (key, title, artist)


def test_a_line_without_a_key_goes_by_its_isrc():
    sheet = importing.parse(b"title,artist,isrc\na,b,us-skg-19-12345\na,b,\n")
    assert [line.key for line in sheet.lines] == ["USSKG1912345"]
    assert [(error.line, error.field) for error in sheet.errors] == [(3, "key")]


def test_cells_without_a_column_are_an_error():
    sheet = importing.parse(b"key,title,artist\nk,a,b,c\n")
    assert [(error.line, error.field) for error in sheet.errors] == [(2, None)]


@pytest.mark.parametrize(
    ("cell", "field"),
    [("Ada|composer", "rights.0.share"), ("Ada|composer|x", "rights.0.share"), ("a|label|1; b|label|1", "rights")],
)
def test_broken_rights_are_named(cell, field):
    sheet = importing.parse(f"key,title,artist,rights\nk,a,b,{cell}\n".encode())
    assert [(error.line, error.field) for error in sheet.errors] == [(2, field)]


def test_a_file_has_an_end(monkeypatch):
    monkeypatch.setattr(importing, "MAX_ROWS", 3)
    with pytest.raises(InvalidRequest, match="split"):
        importing.parse(b"key,title,artist\n" + b"k,a,b\n" * 4)


def test_many_lines_are_stored_with_few_reads(database):
    text = "key,title,artist\n" + "".join(f"k-{number},T,A\n" for number in range(1200))
    sheet = importing.parse(text.encode())
    with statements() as sent, transaction(database) as session:
        report = importing.store(session, tenant_id=DEFAULT_TENANT, sheet=sheet)
    assert report.created == rows(database, Song) == 1200
    assert len([statement for statement in sent if statement.startswith("SELECT")]) <= 6


def test_two_imports_at_once_leave_one_song(database):
    sheet = importing.parse(b"key,title,artist\nk,T,A\n")

    def store():
        with transaction(database) as session:
            return importing.store(session, tenant_id=DEFAULT_TENANT, sheet=sheet)

    with ThreadPoolExecutor(1) as pool:
        with transaction(database) as session:
            importing.store(session, tenant_id=DEFAULT_TENANT, sheet=sheet)
            second = pool.submit(store)
            time.sleep(0.3)
        # SQLite lets the second wait its turn; Postgres shows it a conflict, and importing again is safe.
        with suppress(Conflict):
            assert second.result().unchanged == 1
    assert store().unchanged == rows(database, Song) == 1
