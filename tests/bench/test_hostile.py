"""The small form of `python -m bench.hostile`: forged and damaged files, and hostile words, against the real parts."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from app.catalogue.registry import register_model
from app.db import transaction
from app.main import create_app
from app.models import DEFAULT_TENANT
from bench.hostile import direct, forged, metadata, mutations, seeds, service
from tests.app.live import serving
from tests.app.world import model_folder

if TYPE_CHECKING:
    from app.config import Settings
    from app.db import Database

OURS = {"accepted", "empty", *(kind for kind in direct.audio.KINDS)}


def test_forged_and_damaged_files_are_refused_by_type_or_decoded_as_they_should_be() -> None:
    files = [*islice(forged.corpus().items(), 0, None, 12), *mutations.mutated(100, 7, seeds.accepted())]
    told = direct.run(files)
    assert told["inputs"] == len(files)
    assert told["wrong"] == []
    assert set(told["ends"]) <= OURS
    assert len(told["ends"]) > 6
    assert told["decoder_peak_rss_mb"] < 200


def test_the_same_seed_makes_the_same_files() -> None:
    first, second, other = (dict(mutations.mutated(40, seed)) for seed in (3, 3, 4))
    assert first == second
    assert first != other


@pytest.mark.parametrize("database_settings", ["postgres"], indirect=True)
def test_hostile_words_are_refused_or_kept_as_they_are(database_settings: Settings, database: Database) -> None:
    with transaction(database) as session:
        register_model(session, DEFAULT_TENANT, model_folder(database_settings.data_dir))
    answers = service.Answers()
    with serving(create_app(database_settings)) as url:
        for name, status, body in metadata.send(url, every=11):
            answers.note(name, status, body)
        service.listed(url)
    assert answers.wrong == []
    assert answers.server_errors == 0
    assert answers.counts.total() > 100
