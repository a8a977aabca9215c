"""A build's pieces: taken once, stage after stage, given back when their builder is gone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from app.attributions.lease import Beat
from app.attributions.outcome import ErrorInfo
from app.builds import lease, service, sweeping
from app.builds.lease import Claim, Cut, NewPiece
from app.builds.service import MERGE, NewBuild
from app.config import Settings
from app.db import Database, reading, transaction
from app.errors import NotFound
from app.models import DEFAULT_TENANT, Build, BuildPiece, Making, Model, new_id
from tests.app.registered import Clock
from tests.app.world import digest, model_folder, rows

PIECES = (
    NewPiece("rows-0", 1, "r0", 4, 60.0),
    NewPiece("rows-1", 1, "r1", 4, 20.0),
    NewPiece("forgotten-0", 2, "f0", 4, 20.0),
    NewPiece(MERGE, 3, "", 0, 0.0),
)


class Made:
    """A build in a database, moved on by hand."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db, self.settings = db, settings
        folder = str(model_folder(settings.data_dir))
        wanted = NewBuild("starter", folder, "k", digest("d"), grows=False, how={})
        with transaction(db) as session:
            self.id = service.submit(session, tenant_id=DEFAULT_TENANT, wanted=wanted, settings=settings)

    def claim(self, name: str) -> Claim | None:
        with transaction(self.db) as session:
            chosen = select(BuildPiece.id).where(BuildPiece.build_id == self.id, BuildPiece.name == name)
            piece = session.scalars(chosen).one()
            return lease.claim(session, piece_id=piece, worker_id=new_id(), settings=self.settings)

    def cut(self) -> None:
        claim = self.claim("cut")
        with transaction(self.db) as session:
            assert lease.planned(
                session, claim=claim, cut=Cut({"part": digest("e")}, PIECES, digest("a")), settings=self.settings
            )

    def end(self, claim: Claim) -> bool:
        with transaction(self.db) as session:
            return lease.complete(session, claim=claim, sha256=digest("f"), settings=self.settings)

    def make(self, name: str) -> None:
        claim = self.claim(name)
        assert claim is not None
        assert self.end(claim)

    def standing(self) -> service.Standing:
        with reading(self.db) as session:
            return service.standing(session, tenant_id=DEFAULT_TENANT, named="starter")


@pytest.fixture
def made(db: Database, settings: Settings) -> Made:
    return Made(db, settings)


def test_stages_follow_each_other_and_the_sweeper_registers_the_end(made: Made, clock: Clock) -> None:
    assert (made.standing().status, made.standing().progress, made.standing().eta) == (Making.QUEUED, 0.0, None)
    made.cut()
    assert made.claim("forgotten-0") is None
    clock.forward(10)
    made.make("rows-0")
    assert (made.standing().progress, made.standing().pieces_done) == (0.6, 2)
    assert (made.standing().eta - clock.moment).total_seconds() == pytest.approx(10 * 0.4 / 0.6)
    made.make("rows-1")
    made.make("forgotten-0")
    merging = made.claim(MERGE)
    assert merging is not None
    assert merging.inputs == {"part": digest("e")}
    with transaction(made.db) as session:
        assert [each.name for each in lease.made(session, build_id=made.id)] == ["rows-0", "rows-1", "forgotten-0"]
        assert lease.finish(session, claim=merging, index_digest=digest("b"))
    with transaction(made.db) as session:
        assert (sweeping.register(session), sweeping.register(session)) == (1, 0)
    done = made.standing()
    assert (done.status, done.progress, done.index_digest) == (Making.SUCCEEDED, 1.0, digest("b"))
    with reading(made.db) as session:
        assert session.scalars(select(Model.id)).all() == [made.id]


def test_the_last_two_pieces_ended_at_once_let_the_next_stage_begin(made: Made) -> None:
    made.cut()
    claims = [made.claim("rows-0"), made.claim("rows-1")]
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(made.end, claims))
    assert made.claim("forgotten-0") is not None


def test_a_piece_is_taken_once_and_a_lost_lease_writes_nothing(made: Made, clock: Clock) -> None:
    made.cut()
    with ThreadPoolExecutor(4) as pool:
        taken = [claim for claim in pool.map(lambda _: made.claim("rows-0"), range(4)) if claim]
    assert len(taken) == 1
    clock.forward(made.settings.lease_seconds + 1)
    with transaction(made.db) as session:
        assert sweeping.lapse(session, settings=made.settings) == 1
    with transaction(made.db) as session:
        assert lease.beat(session, claim=taken[0], settings=made.settings, progress=0.5) is Beat.LOST
        assert not lease.complete(session, claim=taken[0], sha256=digest("f"), settings=made.settings)
    again = made.claim("rows-0")
    assert again is not None
    assert again.attempt == 2


def test_a_refused_piece_is_made_again_before_the_merge(made: Made) -> None:
    made.cut()
    for name in ("rows-0", "rows-1", "forgotten-0"):
        made.make(name)
    merging = made.claim(MERGE)
    with transaction(made.db) as session:
        assert lease.redo(session, claim=merging, name="rows-1", settings=made.settings)
    assert made.claim(MERGE) is None
    made.make("rows-1")
    assert made.claim(MERGE) is not None


def test_a_piece_that_always_fails_or_kills_ends_the_build(made: Made, clock: Clock) -> None:
    made.cut()
    for attempt in range(1, made.settings.max_attempts + 1):
        claim = made.claim("rows-0")
        assert claim is not None
        assert claim.attempt == attempt
        clock.forward(made.settings.lease_seconds + 1)
        with transaction(made.db) as session:
            sweeping.lapse(session, settings=made.settings)
    assert (made.standing().status, made.claim("rows-1")) == (Making.FAILED, None)
    assert "rows-0" in (made.standing().error or "")


def test_an_error_that_trying_again_cannot_heal_ends_the_build(made: Made) -> None:
    claim = made.claim("cut")
    with transaction(made.db) as session:
        error = ErrorInfo("invalid-model", "no prompts")
        assert lease.fail(session, claim=claim, error=error, retry=False, settings=made.settings)
    assert (made.standing().status, made.standing().error) == (Making.FAILED, "cut: no prompts")


def test_what_waits_is_rung_again_only_when_its_stage_has_come(made: Made, clock: Clock) -> None:
    made.cut()
    clock.forward(made.settings.ring_max_seconds + 1)
    with transaction(made.db) as session:
        assert sweeping.ring_due(session, settings=made.settings) == 2
    with transaction(made.db) as session:
        assert sweeping.ring_due(session, settings=made.settings) == 0


def test_a_merged_index_that_cannot_be_registered_fails_the_build(made: Made) -> None:
    made.cut()
    for name in ("rows-0", "rows-1", "forgotten-0"):
        made.make(name)
    with transaction(made.db) as session:
        build = session.scalars(select(Build)).one()
        build.folder = str(made.settings.data_dir / "nowhere")
    merging = made.claim(MERGE)
    with transaction(made.db) as session:
        assert lease.finish(session, claim=merging, index_digest=digest("b"))
    with transaction(made.db) as session:
        sweeping.register(session)
    assert (made.standing().status, rows(made.db, Model)) == (Making.FAILED, 0)


def test_nothing_is_known_of_an_unknown_build(db: Database) -> None:
    with reading(db) as session, pytest.raises(NotFound):
        service.standing(session, tenant_id=DEFAULT_TENANT, named="nobody")
