"""Recordings go when they are to go, and not before the last row that names them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.attributions.intake import submit
from app.attributions.service import NewAttribution
from app.db import reading, transaction
from app.errors import AudioMissing, StorageUnavailable
from app.models import DEFAULT_TENANT, Attribution, AuditEntry, Build, Song, Tenant, Worker
from app.retention import erasing, tidying
from app.retention.holding import claim
from app.retention.tidying import Tidying
from app.storage import Storage, key_of
from tests.app.sounds import Sound
from tests.app.world import complete, objects, rows

URL = "/v1/attributions"
TRACK = Sound().encode()


def post(client, data=TRACK):
    answer = client.post(URL, files={"audio": ("track.wav", data)})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def ended(client, database, settings, data=TRACK):
    ident = post(client, data)
    complete(database, settings, ident)
    return ident


def actions(database):
    with reading(database) as session:
        return [(entry.actor, entry.action, entry.object_id) for entry in session.scalars(select(AuditEntry))]


def later(database, **more):
    moment = database.clock() + timedelta(**more)
    return database.__class__(database.write, database.read, lambda: moment)


class TestUploads:
    def test_an_upload_is_erased_and_its_result_stays(self, client, model, database, settings):
        ident = ended(client, database, settings)
        before = client.get(f"{URL}/{ident}/influences").json()
        for _ in range(2):
            assert client.delete(f"{URL}/{ident}/audio").status_code == 204
        assert objects(settings) == []
        assert client.get(f"{URL}/{ident}").json()["audio_erased_at"] is not None
        assert client.get(f"{URL}/{ident}/influences").json() == before
        assert client.get(f"{URL}/{ident}/audio").status_code == 410
        assert client.post(f"{URL}/{ident}/reattribute").status_code == 410
        assert [each[1:] for each in actions(database)].count(("eraseTrackAudio", ident)) == 2

    def test_bytes_that_another_track_is_made_of_stay(self, client, model, database, settings):
        first, second = (ended(client, database, settings) for _ in range(2))
        client.delete(f"{URL}/{first}/audio")
        assert len(objects(settings)) == 1
        assert client.get(f"{URL}/{first}/audio").status_code == 410
        assert client.get(f"{URL}/{second}/audio").content == TRACK
        client.delete(f"{URL}/{second}/audio")
        assert objects(settings) == []

    def test_a_job_that_has_not_ended_keeps_its_track(self, client, model, settings):
        ident = post(client)
        refused = client.delete(f"{URL}/{ident}/audio")
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (409, "not-ended")
        client.post(f"{URL}/{ident}/cancel")
        assert client.delete(f"{URL}/{ident}/audio").status_code == 204
        assert objects(settings) == []

    def test_an_erased_track_is_not_found_by_its_digest(self, client, model, database, settings):
        ident = ended(client, database, settings)
        sha256 = client.get(f"{URL}/{ident}").json()["audio"]["sha256"]
        client.delete(f"{URL}/{ident}/audio")
        items = f'[{{"custom_id": "a", "sha256": "{sha256}"}}]'
        answer = client.post("/v1/batches", data={"batch": "b", "items": items}, files={"x": b""}).json()
        assert answer["items"][0]["error"]["type"].endswith("unknown-audio")

    def test_a_track_may_come_again(self, client, model, database, settings):
        client.delete(f"{URL}/{ended(client, database, settings)}/audio")
        again = post(client)
        assert client.get(f"{URL}/{again}/audio").content == TRACK

    def test_another_s_upload_is_not_there(self, client, stranger, model, database, settings):
        ident = ended(client, database, settings)
        assert stranger.delete(f"{URL}/{ident}/audio").status_code == 404
        assert len(objects(settings)) == 1


def test_a_song_s_recording_is_erased_and_the_song_stays(client, model, database, settings):
    song = client.get("/v1/songs").json()["items"][0]["id"]
    assert client.put(f"/v1/songs/{song}/audio", content=TRACK).status_code == 200
    for _ in range(2):
        assert client.delete(f"/v1/songs/{song}/audio").status_code == 204
    assert client.get(f"/v1/songs/{song}").json()["audio_sha256"] is None
    assert objects(settings) == []
    assert client.delete("/v1/songs/nothing/audio").status_code == 404


def test_a_tenant_s_uploads_go_after_its_days(client, model, database, settings):
    ident, waiting = ended(client, database, settings), post(client, Sound(seconds=3.0).encode())
    tidy = Tidying(later(database, days=8), settings)
    assert tidy.step() == 0, "kept for good, unless a tenant says otherwise"
    with transaction(database) as session:
        session.get(Tenant, DEFAULT_TENANT).audio_days = 7
    assert Tidying(later(database, days=6), settings).step() == 0
    assert Tidying(later(database, days=8), settings).step() == 1
    assert client.get(f"{URL}/{ident}/audio").status_code == 410
    assert client.get(f"{URL}/{waiting}/audio").status_code == 200
    assert ("sweeper", "erase upload", ident) in actions(database)


class TestOrphans:
    @pytest.fixture
    def kept(self, client, model, database, settings):
        """A track, a song's recording, a build's input, and an orphan in the storage, all of them old."""
        ended(client, database, settings)
        song = client.get("/v1/songs").json()["items"][0]["id"]
        client.put(f"/v1/songs/{song}/audio", content=Sound(seconds=3.0).encode())
        storage, file = Storage.open(settings.storage_url), settings.data_dir / "file"
        file.write_bytes(b"x")
        for digest in ("b" * 64, "c" * 64):
            storage.put(file, key_of(DEFAULT_TENANT, digest))
        with transaction(database) as session:
            build = {"name": "n", "folder": "f", "asked": {}, "inputs": {"one": "b" * 64}}
            session.add(Build(tenant_id=DEFAULT_TENANT, **build))
        return storage

    def collect(self, database, settings):
        tidy = Tidying(database, settings)
        return sum(tidy.step() for _ in range(4))

    def test_what_no_row_names_goes_once_it_is_old(self, kept, database, settings):
        assert self.collect(database, settings) == 0, "what is coming in has no row yet"
        assert self.collect(later(database, days=2), settings) == 1
        left = {path.name for path in objects(settings)}
        assert "c" * 64 not in left
        assert len(left) == 3
        assert ("sweeper", "erase orphan", "c" * 64) in actions(database)

    def test_what_belongs_to_nobody_here_is_left_alone(self, kept, database, settings):
        kept.put(settings.data_dir / "file", "elsewhere/" + "d" * 64)
        assert self.collect(later(database, days=2), settings) == 1
        assert kept.has("elsewhere/" + "d" * 64)

    def test_a_storage_that_is_away_is_asked_again_later(self, kept, database, settings):
        nowhere = settings.model_copy(update={"storage_url": "s3://nowhere"})
        away = Tidying(database, nowhere)
        assert away.step() == 0


def test_a_track_whose_bytes_were_erased_as_it_came_in_is_to_be_sent_again(database, settings, model):
    storage = Storage.open(settings.storage_url)
    with pytest.raises(StorageUnavailable, match="send it again"), transaction(database) as session:
        claim(session, storage, [key_of(DEFAULT_TENANT, "a" * 64)])


def test_who_names_an_object_and_who_erases_it_wait_for_each_other(database_settings, database, settings, model):
    """On Postgres, where writers are not alone: an eraser that comes second sees the row of the one who came first."""
    import threading

    from app.attributions.intake import Intake

    storage = Storage.open(settings.storage_url)
    intake = Intake(database, storage, settings)
    row = submit(intake, [TRACK], tenant_id=DEFAULT_TENANT, request=NewAttribution())
    with transaction(database) as session:
        session.execute(update(Attribution).values(audio_erased_at=database.clock()))
    erased = []
    with transaction(database) as session:
        claim(session, storage, [row.audio_key])
        eraser = threading.Thread(target=lambda: erased.append(erasing.erase_unnamed(database, storage, row.audio_key)))
        eraser.start()
        session.execute(update(Attribution).values(audio_erased_at=None))
    eraser.join(20)
    assert erased == [False]
    assert storage.has(row.audio_key)


def test_workers_long_gone_are_forgotten(database, settings):
    with transaction(database) as session:
        for days in (1, 8):
            seen = database.clock() - timedelta(days=days)
            session.add(Worker(hostname=f"h{days}", pid=1, device="cpu", started_at=seen, seen_at=seen))
    Tidying(database, settings).step()
    assert rows(database, Worker) == 1
    assert timedelta(days=1) < tidying.WORKERS_KEPT


def test_an_erased_upload_is_missing_to_whoever_holds_its_row(client, model, database, settings):
    ident = ended(client, database, settings)
    client.delete(f"{URL}/{ident}/audio")
    from app.recordings import service

    with reading(database) as session, pytest.raises(AudioMissing):
        service.of_track(session, tenant_id=DEFAULT_TENANT, attribution_id=ident)
    assert rows(database, Song) == 5
