"""A refused track leaves nothing; an accepted one is kept before it is queued."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from app.attributions import intake
from app.attributions.service import NewAttribution
from app.db import reading
from app.errors import Empty, StorageUnavailable, TooLong, UnknownMethod, UnknownModel
from app.models import DEFAULT_TENANT, Attribution
from app.storage import Storage
from tests.app.registered import register
from tests.app.sounds import Sound, wav_header


@pytest.fixture
def taking(db, settings):
    register(db)
    return intake.Intake(db, Storage.open(settings.storage_url), settings)


def _left(taking):
    folder = taking.settings.data_dir / "objects"
    with reading(taking.db) as session:
        rows = session.scalar(select(func.count()).select_from(Attribution))
    return rows, [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("asked", "sent", "error"),
    [
        ({}, [], Empty),
        ({}, [b"", b""], Empty),
        ({}, [wav_header(8_000, 1, 36_000 * 16_000)], TooLong),
        ({"model": "nobody's"}, [Sound().encode()], UnknownModel),
        ({"method": "magic"}, [Sound().encode()], UnknownMethod),
    ],
    ids=["no bytes", "empty pieces", "ten hours", "unknown model", "unknown method"],
)
def test_a_refused_track_leaves_nothing(taking, asked, sent, error):
    with pytest.raises(error):
        intake.submit(taking, sent, tenant_id=DEFAULT_TENANT, request=NewAttribution(**asked))
    assert _left(taking) == (0, [])


def test_an_accepted_track_is_kept_and_queued(taking):
    data = Sound().encode("FLAC")
    pieces = [data[:1000], data[1000:]]
    row = intake.submit(taking, pieces, tenant_id=DEFAULT_TENANT, request=NewAttribution())
    assert _left(taking) == (1, [row.audio_sha256])
    assert b"".join(taking.storage.read(row.audio_key)) == data
    assert row.audio_key == f"{DEFAULT_TENANT}/{row.audio_sha256}"
    assert row.audio_facts["format"] == "FLAC"


def test_a_track_that_cannot_be_kept_is_not_queued(taking):
    folder = taking.settings.data_dir / "objects"
    folder.rmdir()
    folder.write_text("a file where the folder was")
    with pytest.raises(StorageUnavailable):
        intake.submit(taking, [Sound().encode()], tenant_id=DEFAULT_TENANT, request=NewAttribution())
    with reading(taking.db) as session:
        assert session.scalar(select(func.count()).select_from(Attribution)) == 0
