"""The sweeper: a loop of its own that ends lapsed leases, rings again for what waits, and expires what waited too long.

It has no state: any number may run, and one that was killed is missed for no longer than the next takes to start.
"""

import threading
from contextlib import closing
from dataclasses import asdict

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.alerts import crossing
from app.attributions import sweeping
from app.builds import sweeping as builds
from app.config import Settings
from app.counterfactuals import sweeping as counterfactuals
from app.db import Database, engines, transaction
from app.errors import DatabaseUnavailable
from app.idempotency import service as idempotency
from app.retention.tidying import Tidying

LONGEST_PAUSE_SECONDS = 30.0

_log = structlog.get_logger(__name__)


def run(settings: Settings, stop: threading.Event) -> None:
    """Sweep every `sweep_seconds` until `stop` is set; a database that is away is waited for, ever longer."""
    pause = settings.sweep_seconds
    with closing(engines(settings)) as db:
        tidying = Tidying(db, settings)
        while not stop.wait(pause):
            tidying.step()
            pause = settings.sweep_seconds if once(db, settings) else min(2 * pause, LONGEST_PAUSE_SECONDS)


def once(db: Database, settings: Settings) -> bool:
    """Sweep once; False when the database did not allow it."""
    try:
        with transaction(db) as session:
            swept = sweeping.sweep(session, settings=settings)
            pieces = builds.sweep(session, settings=settings)
            forgetting = counterfactuals.sweep(session, settings=settings)
        with transaction(db) as session:
            idempotency.forget(session)
            crossing.sweep(session, settings)
        with transaction(db) as session:
            registered = builds.register(session)
    except (DatabaseUnavailable, SQLAlchemyError) as error:
        _log.warning("not swept", error=repr(error))
        return False
    if any((swept.lapsed, swept.expired, swept.rung, pieces, forgetting, registered)):
        _log.info("swept", **asdict(swept), pieces=pieces, counterfactuals=forgetting, registered=registered)
    return True
