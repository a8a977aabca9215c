"""Attributions as a caller sees them, on both databases, with a real broker."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import func, select

from app.attributions import lease, service
from app.attributions.outcome import Check, Interval, Outcome, OutcomeRow, Provenance, Worth
from app.attributions.service import Listing
from app.attributions.states import ALLOWED, ENDED, IllegalTransition, move
from app.db import reading, transaction
from app.errors import BadCursor, InvalidResult, NotFound, UnknownModel
from app.models import DEFAULT_TENANT, Influence, Status, Verdict
from tests.app.registered import KEYS, outcome, queue_one, register

HERE = {"tenant_id": DEFAULT_TENANT}


@pytest.fixture
def settings(settings, valkey):
    return settings.model_copy(update={"broker_url": valkey.url})


def _succeed(db, settings, ident, result):
    with transaction(db) as session:
        taken = lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
        assert lease.complete(session, claim=taken, outcome=result)


def _messages(valkey, queue):
    with valkey.client() as client:
        return [json.loads(raw)["headers"]["argsrepr"] for raw in client.lrange(queue, 0, -1)]


def test_a_new_attribution_is_queued_and_rung_once(db, settings, valkey, request):
    name = f"model {request.node.name}"
    register(db, name=name)
    ident = queue_one(db, settings, model=name, prompt="slow piano", external_id="x-1", top_k=3)
    with reading(db) as session:
        row = service.get(session, **HERE, attribution_id=ident)
    assert (row.status, row.attempts, row.prompt, row.external_id, row.top_k) == ("queued", 0, "slow piano", "x-1", 3)
    assert row.model.name == name
    assert row.audio_facts["duration_s"] == 2.0
    assert row.created_at < row.next_ring_at < row.expires_at
    assert _messages(valkey, service.queue_name(name)) == [f"['{ident}']"]


def test_a_name_stands_for_the_newest_registration(db, settings, clock):
    register(db)
    clock.forward(1)
    newest = register(db, digest="i2")
    ident = queue_one(db, settings)
    with reading(db) as session:
        assert service.get(session, **HERE, attribution_id=ident).model_id == newest


def test_foreign_rows_do_not_exist(db, settings):
    register(db)
    register(db, tenant_id="other")
    mine, theirs = queue_one(db, settings), queue_one(db, settings, tenant_id="other")
    with transaction(db) as session:
        for call in (service.get, service.cancel, service.ranking):
            with pytest.raises(NotFound):
                call(session, **HERE, attribution_id=theirs)
        assert [row.id for row in service.page(session, **HERE, listing=Listing()).items] == [mine]
        assert service.get(session, tenant_id="other", attribution_id=theirs).status == "queued"


def test_a_model_of_another_tenant_is_unknown(db, settings):
    register(db, tenant_id="other", name="theirs")
    with pytest.raises(UnknownModel):
        queue_one(db, settings, model="theirs")


def test_the_list_runs_newest_first_and_pages_lose_and_double_nothing(db, settings, clock):
    register(db)
    idents = []
    for number in range(7):
        idents.append(queue_one(db, settings))
        clock.forward(number % 2)  # some in the same instant
    seen, cursor = [], None
    with reading(db) as session:
        while True:
            page = service.page(session, **HERE, listing=Listing(), cursor=cursor, limit=3)
            seen += [row.id for row in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert seen == idents[::-1]


def test_the_list_can_be_narrowed(db, settings, clock):
    register(db)
    register(db, name="second")
    first = queue_one(db, settings)
    boundary = clock.moment
    clock.forward(10)
    second = queue_one(db, settings, model="second")
    with transaction(db) as session:
        service.cancel(session, **HERE, attribution_id=first)
    cases = {
        Listing(status=Status.CANCELED): [first],
        Listing(status=Status.QUEUED): [second],
        Listing(model="second"): [second],
        Listing(model="starter"): [first],
        Listing(created_after=boundary): [second],
        Listing(status=Status.FAILED): [],
    }
    with reading(db) as session:
        for listing, expected in cases.items():
            assert [row.id for row in service.page(session, **HERE, listing=listing).items] == expected


def test_influences_come_ranked_with_their_songs_and_top_k_limits_only_what_is_shown(db, settings):
    register(db)
    ident = queue_one(db, settings, top_k=2)
    with reading(db) as session:
        assert service.ranking(session, **HERE, attribution_id=ident)[1].items == ()
    _succeed(db, settings, ident, outcome())
    with reading(db) as session:
        _, shown = service.ranking(session, **HERE, attribution_id=ident)
        _, rest = service.ranking(session, **HERE, attribution_id=ident, cursor=shown.next_cursor)
        total = session.scalar(select(func.sum(Influence.share)))
        row = service.get(session, **HERE, attribution_id=ident)
    assert [influence.song.key for influence in (*shown.items, *rest.items)] == list(KEYS)
    assert [influence.rank for influence in shown.items] == [1, 2]
    assert rest.next_cursor is None
    assert shown.items[0].matches == [{"segment": 0}]
    assert total + row.unattributed == pytest.approx(1.0)
    assert (row.status, row.progress, row.reliability) == ("succeeded", 1.0, {"verdict": "good"})


def test_a_cursor_of_another_list_is_refused(db, settings):
    register(db)
    idents = [queue_one(db, settings, top_k=1) for _ in range(3)]
    for ident in idents:
        _succeed(db, settings, ident, outcome())
    with reading(db) as session:
        of_first = service.ranking(session, **HERE, attribution_id=idents[0])[1].next_cursor
        of_list = service.page(session, **HERE, listing=Listing(), limit=1).next_cursor
        for cursor in (of_list, "", "rubbish", "é", of_first[:-2]):
            with pytest.raises(BadCursor):
                service.ranking(session, **HERE, attribution_id=idents[0], cursor=cursor)
        with pytest.raises(BadCursor):
            service.ranking(session, **HERE, attribution_id=idents[1], cursor=of_first)
        with pytest.raises(BadCursor):
            service.page(session, **HERE, listing=Listing(), cursor=of_first)


def test_canceling_what_waits_ends_it_at_once_and_again_changes_nothing(db, settings, clock):
    register(db)
    ident = queue_one(db, settings)
    rows = []
    for _ in range(2):
        with transaction(db) as session:
            rows.append(service.cancel(session, **HERE, attribution_id=ident))
        clock.forward(5)
    assert [row.status for row in rows] == ["canceled", "canceled"]
    assert rows[0].finished_at == rows[1].finished_at
    assert rows[1].next_ring_at is None


def test_canceling_what_runs_asks_its_worker(db, settings):
    register(db)
    ident = queue_one(db, settings)
    with transaction(db) as session:
        taken = lease.take(session, attribution_id=ident, worker_id="w", settings=settings)
    with transaction(db) as session:
        asked = service.cancel(session, **HERE, attribution_id=ident)
        assert (asked.status, asked.cancel_requested) == ("running", True)
        assert lease.beat(session, claim=taken, settings=settings) is lease.Beat.CANCEL
        assert lease.stop(session, claim=taken)
        assert service.get(session, **HERE, attribution_id=ident).status == "canceled"


def test_canceling_what_has_ended_leaves_it(db, settings):
    register(db)
    ident = queue_one(db, settings)
    _succeed(db, settings, ident, outcome())
    with transaction(db) as session:
        row = service.cancel(session, **HERE, attribution_id=ident)
    assert (row.status, row.cancel_requested) == ("succeeded", False)


def test_every_pair_of_states_is_either_in_the_table_or_a_conflict():
    for source in Status:
        for target in Status:
            if target in ALLOWED[source]:
                move(source, target)
            else:
                with pytest.raises(IllegalTransition):
                    move(source, target)
    assert {Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED} == ENDED


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: outcome(unattributed=0.4).__class__(outcome().influences, 0.9, "m", "i"),
        lambda: Outcome((OutcomeRow("a", 1, 0.5, 50), OutcomeRow("a", 1, 0.5, 50)), 0.0, "m", "i"),
        lambda: OutcomeRow("a", float("nan"), 0.5, 50),
        lambda: OutcomeRow("a", 1.0, -0.1, 50),
        lambda: OutcomeRow("a", 1.0, 0.1, 101),
        lambda: OutcomeRow("a", 1.0, 0.1, 50, None, [{"x": float("inf")}]),
        lambda: Outcome((), 1.0, "m", "i", details={"x": object()}),
        lambda: OutcomeRow("a", 1.0, 0.1, 50, Check(float("inf"))),
        lambda: OutcomeRow("a", 1.0, 0.1, 50, effect=float("nan")),
        lambda: OutcomeRow("a", 1.0, 0.1, 50, interval=Interval(2.0, 3.0, 0.0, 0.2)),
        lambda: OutcomeRow("a", 1.0, 0.1, 50, interval=Interval(0.0, 3.0, 0.2, 0.3)),
        lambda: Outcome((OutcomeRow("a", 1.0, 0.1, 50),), 0.9, "m", "i", worth=Worth(abstained="not ours")),
        lambda: Provenance(Verdict.OWN, 1.5),
    ],
)
def test_a_result_that_breaks_its_rules_cannot_be_made(wrong):
    with pytest.raises(InvalidResult):
        wrong()
