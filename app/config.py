"""Settings: every environment variable (prefix `ROOTNOTE_`), read and validated once."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """How this process runs; the defaults are the embedded set-up, all of it under `data_dir`."""

    model_config = SettingsConfigDict(
        env_prefix="ROOTNOTE_", env_ignore_empty=True, frozen=True, protected_namespaces=()
    )

    data_dir: Annotated[Path, Field(validate_default=True)] = Path("data")
    database_url: str = Field(default_factory=lambda known: f"sqlite:///{known['data_dir']}/rootnote.db")
    database_connections: int = Field(default=15, ge=1)
    """Connections of one process to the database, for writing and for reading each."""
    database_wait_seconds: float = Field(default=5.0, gt=0)
    """How long a request waits for one of them."""
    broker_url: str = Field(default_factory=lambda known: f"redis+socket://{known['data_dir']}/valkey.sock")
    storage_url: str = Field(default_factory=lambda known: f"file://{known['data_dir']}/objects")

    models: Annotated[tuple[Path, ...], NoDecode] = (Path("starter"),)
    """Folders of the models to register at start; in the environment, separated by `os.pathsep`."""
    model_name: str = "starter"
    """The model that this worker holds, and the one meant when a request names none."""
    device: str = "auto"

    lease_seconds: float = Field(default=60.0, gt=0)
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    retry_seconds: float = Field(default=2.0, ge=0)
    """Wait before the second attempt; doubles with each further one."""
    sweep_seconds: float = Field(default=1.0, gt=0)
    ring_seconds: float = Field(default=2.0, gt=0)
    """Wait before a queued job is rung again; doubles with each ring up to `ring_max_seconds`."""
    ring_max_seconds: float = Field(default=60.0, gt=0)
    queue_ttl_seconds: float = Field(default=86_400.0, gt=0)

    webhook_allow_private: bool = False
    """Whether webhooks may go to private addresses and over plain http: for tests, and receivers on premises."""
    alert_seconds: float = Field(default=60.0, gt=0)
    """How often the sum of an alert with a window is looked at."""
    webhook_seconds: float = Field(default=15.0, gt=0)
    """What one delivery may take, from looking up its name to the end of its answer."""
    webhook_senders: int = Field(default=8, ge=1)
    """Deliveries that one sender has under way at once."""
    webhook_poll_seconds: float = Field(default=1.0, gt=0)
    webhook_retry_seconds: Annotated[tuple[float, ...], NoDecode] = (
        *(5.0, 300.0, 1_800.0, 7_200.0, 18_000.0),
        *(36_000.0, 50_400.0, 72_000.0, 86_400.0),
    )
    """Waits between the attempts at a delivery; in the environment, separated by commas."""
    webhook_disable_days: float = Field(default=5.0, gt=0)
    """After so long without a success an endpoint that fails is disabled."""
    webhook_keep_days: float = Field(default=30.0, gt=0)
    """How long events can be replayed."""

    idempotency_ttl_seconds: float = Field(default=86_400.0, gt=0)
    """How long the answer to a request with an Idempotency-Key is kept."""
    idempotency_lock_seconds: float = Field(default=15.0, gt=0)
    """So long after its process died, a request may be carried out again; while the process lives, it renews that."""

    min_free_bytes: int = Field(default=256 * MEBIBYTE, ge=0)
    """Room on a disk under which the service takes no upload and does not call itself ready."""
    collect_seconds: float = Field(default=3600.0, gt=0)
    """How often the sweeper looks for stored objects that no row names."""
    orphan_seconds: float = Field(default=86_400.0, gt=0)
    """How old such an object must be to be erased: what is coming in has no row yet."""

    max_upload_bytes: int = Field(default=50 * MEBIBYTE, gt=0)
    max_decoded_bytes: int = Field(default=512 * MEBIBYTE, gt=0)
    max_uploads: int = Field(default=16, ge=1)
    """Large bodies that one API process takes in at once; more are told to come back."""
    max_upload_bytes_under_way: int = Field(default=512 * MEBIBYTE, gt=0)
    """What the uploads under way in one API process may announce together."""
    upload_stall_seconds: float = Field(default=30.0, gt=0)
    """How long an upload may send nothing."""
    max_requests: int = Field(default=40, ge=1)
    """Other requests that one API process serves at once, as it has threads; who waits for an end is not counted."""
    max_queued: int = Field(default=100_000, ge=1)
    max_queued_per_tenant: int = Field(default=20_000, ge=1)
    """How many attributions may wait, of all tenants and of one."""
    min_seconds: float = Field(default=1.0, gt=0)
    max_seconds: float = Field(default=600.0, gt=0)
    max_channels: int = Field(default=8, ge=1)
    min_rate: int = Field(default=8_000, ge=1)
    max_rate: int = Field(default=192_000, ge=1)
    job_seconds: float = Field(default=900.0, gt=0)
    """Wall time that one attempt at an attribution may take."""
    index_parts: int = Field(default=0, ge=0)
    """In how many parts scanners hold the model's index; with none, every worker holds and scans all of it."""
    index_part: int = Field(default=1, ge=1)
    """The part that this scanner holds, counted from 1."""
    scan_seconds: float = Field(default=5.0, gt=0)
    """How long a worker waits for scanners; what is not scanned by then it scans itself."""
    held_versions: int = Field(default=2, ge=1)
    """How many versions of its model a worker keeps loaded; another one is loaded when a job asks for it."""
    decode_seconds: float = Field(default=60.0, gt=0)
    """Processor time that decoding one track may take; twice that on the wall clock."""

    auth: Literal["loopback", "required"] = "loopback"
    """Whether every request needs a key, or all but those from this machine while no key has been made."""

    report_key: Path | None = None
    """The file of the Ed25519 key that signs reports; by default it is made in the data folder on first use."""

    session_secret: SecretStr | None = None
    """What signs the sessions of the pages; by default a file under `data_dir`, made on first use."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    api_processes: int = Field(default=1, ge=1)
    """Processes that serve HTTP side by side; each has connections, uploads and requests of its own."""
    key: SecretStr | None = None
    """The key that the command line shows to the service."""
    log_json: bool = False

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().absolute()

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, folders: Any) -> Any:
        return tuple(part for part in folders.split(os.pathsep) if part) if isinstance(folders, str) else folders

    @field_validator("webhook_retry_seconds", mode="before")
    @classmethod
    def _waits(cls, waits: Any) -> Any:
        return tuple(float(part) for part in waits.split(",")) if isinstance(waits, str) else waits

    @field_validator("database_url")
    @classmethod
    def _driver(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if scheme in {"postgres", "postgresql"}:
            return f"postgresql+psycopg{separator}{rest}"
        if scheme not in {"sqlite", "postgresql+psycopg"}:
            raise ValueError("the database is SQLite or Postgres: sqlite:///… or postgresql://…")
        return url

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("a lease must outlast two heartbeats")
        if self.max_upload_bytes_under_way < self.max_upload_bytes:
            raise ValueError("uploads under way must have room for the largest one")
        if self.index_part > max(self.index_parts, 1):
            raise ValueError("a scanner holds one of the index's parts")
        if self.min_seconds >= self.max_seconds or self.min_rate > self.max_rate:
            raise ValueError("a lower limit lies above its upper limit")
        return self


@lru_cache
def settings() -> Settings:
    """The settings of this process, from its environment."""
    return Settings()
