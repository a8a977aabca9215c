"""One attempt at a job, whatever its kind: from its claim to the one transaction that ends it."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from app import leasing
from app.attributions.outcome import ErrorInfo
from app.audio import Decoded, Limits, decode
from app.errors import ServiceError, Unavailable
from worker.renewal import Canceled, LeaseLost, Leaving, Renewal

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from worker.engine import Engine
    from worker.resident import Resident

_log = structlog.get_logger(__name__)


class OtherModel(Unavailable):
    """The job asks for a version of the model that this worker can neither hold nor load."""

    type, title = "other-model", "No worker could load this version of the model"


class TookTooLong(ServiceError):
    """The job ran into its time limit."""

    type, title = "took-too-long", "The job took too long"


class Claim(leasing.Held, Protocol):
    """A lease on a job about a track, to be done with one version of a model."""

    @property
    def audio_key(self) -> str:
        """Where the track lies."""
        ...

    @property
    def audio_sha256(self) -> str:
        """The track's digest."""
        ...

    @property
    def model_id(self) -> str:
        """The model's registration."""
        ...

    @property
    def model_name(self) -> str:
        """The model's name."""
        ...

    @property
    def folder(self) -> str:
        """Where the model lies."""
        ...

    @property
    def index_digest(self) -> str:
        """The version of its index."""
        ...


class Job(ABC):
    """What `held` does under `claim`; `found` of a kind of job computes its result and returns how to write it."""

    def __init__(self, held: Resident, claim: Claim, renewal: Renewal) -> None:
        self.held, self.renewal, self._claim = held, renewal, claim
        self._log = _log.bind()

    @abstractmethod
    def found(self) -> Callable[[Session], bool]:
        """Do the job and return what writes its result; raises whatever happens."""

    def run(self) -> None:
        """Compute and write the end, whatever it is."""
        self._log.info("begun")
        claim = self._claim
        try:
            self._write("succeeded", self.found())
        except Canceled:
            self._write("canceled", lambda session: leasing.stop(session, claim=claim))
        except Leaving:
            self._write("given back", lambda session: leasing.release(session, claim=claim))
        except LeaseLost:
            self._log.warning("lease lost; the job goes on elsewhere")
        except Exception as error:  # noqa: BLE001  the task boundary: whatever it was, the row must say so
            self._fail(error)

    def decoded(self) -> Decoded:
        """Fetch the track and decode it; raises AudioMissing, AudioCorrupt and what decoding raises."""
        claim, held = self._claim, self.held
        with tempfile.TemporaryDirectory(prefix="rootnote-") as folder:
            path = Path(folder) / "track"
            held.storage.fetch(claim.audio_key, path, sha256=claim.audio_sha256)
            return decode(path, Limits.of(held.settings))

    def engine(self) -> Engine:
        """Return the engine of the version that the job asks for; raises OtherModel."""
        from worker.diffusion.layout import UnsupportedPipeline  # torch stays out of Celery's parent
        from worker.manifest import IndexMismatch

        try:
            return self.held.hold(self._claim)
        except (IndexMismatch, UnsupportedPipeline, OSError) as error:
            raise OtherModel(f"this version of {self._claim.model_name} cannot be loaded: {error}") from error

    def _fail(self, error: Exception) -> None:
        claim, settings = self._claim, self.held.settings
        info, retry = _verdict(error)
        self._log.warning("failed", type=info.type, detail=info.detail, retry=retry, exc_info=info.type == "internal")
        self._write(
            "failed", lambda session: leasing.fail(session, claim=claim, error=info, retry=retry, settings=settings)
        )

    def _write(self, end: str, write: Callable[[Session], bool]) -> None:
        written = self.renewal.write(write)
        if written is None:
            self._log.warning("lease lost before the end was written", end=end)
        else:
            self._log.info(end if written else "too late: the job had left this worker", end=end)


def _verdict(error: Exception) -> tuple[ErrorInfo, bool]:
    """What the row shall say of an error, and whether another attempt can help."""
    from worker.refusals import EngineError  # torch stays out of Celery's parent

    if isinstance(error, ServiceError):
        return ErrorInfo.of(error), error.retryable
    if isinstance(error, EngineError):
        return ErrorInfo(error.kind, str(error)), False
    if isinstance(error, SoftTimeLimitExceeded):
        return ErrorInfo.of(TookTooLong()), False
    return ErrorInfo.of(ServiceError()), True
