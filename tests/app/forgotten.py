"""A worker's part in a counterfactual, done without a model."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from app.counterfactuals import lease
from app.counterfactuals.outcome import Apart, Forgotten, KeptTake, Outcome, Shift
from app.db import transaction
from app.models import Take, new_id
from app.storage import Storage, key_of, spool
from tests.app.sounds import Sound

if TYPE_CHECKING:
    from app.db import Database

SOUNDS = {take: Sound(seconds=1.0 + 0.1 * place).encode("FLAC") for place, take in enumerate(Take)}
FORGOTTEN = Forgotten(Shift(0.05, 0.04, 0.06), Shift(0.2, 0.1, 0.3), Apart(6.0, 1.2))
CONTROL = Forgotten(Shift(0.005, 0.004, 0.006), Shift(0.2, 0.1, 0.3), None)


def kept(storage: Storage, tenant_id: str, sound: bytes) -> KeptTake:
    with TemporaryDirectory() as folder:
        found = spool([sound], Path(folder) / "take", len(sound))
        storage.put(found.path, key_of(tenant_id, found.sha256))
        return KeptTake(key_of(tenant_id, found.sha256), found.sha256, found.bytes, 1.0)


def outcome(storage: Storage, tenant_id: str, *, control: bool = True) -> Outcome:
    takes = [take for take in Take if control or take is not Take.CONTROL]
    return Outcome(
        loss=0.5,
        song=FORGOTTEN,
        control=CONTROL if control else None,
        difference=Shift(0.045, 0.04, 0.05) if control else None,
        likeness=Apart(0.1, 0.01),
        audio={take: kept(storage, tenant_id, SOUNDS[take]) for take in takes},
        timings={"forgetting": 1.0},
        details={"measure": "loss", "step": 0.01},
    )


def taken(database: Database, settings: Any, ident: str) -> lease.Claim:
    with transaction(database) as session:
        held = lease.take(session, counterfactual_id=ident, worker_id=new_id(), settings=settings)
    assert held is not None
    return held


def complete(database: Database, settings: Any, ident: str) -> None:
    """Claim a counterfactual and hand in a result."""
    held = taken(database, settings, ident)
    found = outcome(Storage.open(settings.storage_url), held.tenant_id, control=held.control is not None)
    with transaction(database) as session:
        assert lease.complete(session, claim=held, outcome=found)
