"""Whether this host's worker lives, as an exit status: `python -m worker.alive`, the container's health check."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from datetime import timedelta

from sqlalchemy import select

from app.config import settings
from app.db import Database, engines, now, reading
from app.errors import DatabaseUnavailable
from app.models import Worker


def alive(db: Database, hostname: str, within_s: float) -> bool:
    """Say whether a worker of `hostname` was seen in the last `within_s` seconds; raises DatabaseUnavailable."""
    with reading(db) as session:
        recent = now(session) - timedelta(seconds=within_s)
        chosen = select(Worker.id).where(Worker.hostname == hostname, Worker.seen_at >= recent).limit(1)
        return session.scalar(chosen) is not None


def main() -> int:
    """Return 0 where the worker was seen within a lease's length, else 1, also where the database does not answer."""
    known = settings()
    with closing(engines(known)) as db:
        try:
            return 0 if alive(db, socket.gethostname(), known.lease_seconds) else 1
        except DatabaseUnavailable:
            return 1


if __name__ == "__main__":
    sys.exit(main())
