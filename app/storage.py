"""Object storage by URL: a local folder, memory for tests, or S3. A key ends in its object's digest."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from app.errors import AudioCorrupt, AudioMissing, Empty, StorageUnavailable, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from obstore import GetOptions
    from obstore.store import ObjectStore

LOCAL = "file://"
CHUNK_BYTES = 1024 * 1024
S3_PIECE_BYTES = 5 * CHUNK_BYTES
LISTED = 100
PATIENCE = timedelta(seconds=10)


@dataclass(frozen=True)
class Spooled:
    """Bytes on this machine's disk, counted and digested while they came."""

    path: Path
    sha256: str
    bytes: int


def spool(chunks: Iterable[bytes], path: Path, max_bytes: int) -> Spooled:
    """Write what comes to `path`; raises TooLarge as soon as `max_bytes` are passed, Empty when nothing came."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(f"the file has more than {max_bytes} bytes")
            digest.update(chunk)
            file.write(chunk)
    if size == 0:
        raise Empty
    return Spooled(path, digest.hexdigest(), size)


def key_of(tenant_id: str, sha256: str) -> str:
    """Where a tenant's bytes of that digest lie."""
    return f"{tenant_id}/{sha256}"


@dataclass(frozen=True)
class Storage:
    """A place for objects. Whatever keeps it from answering is a StorageUnavailable, which trying again may heal."""

    url: str
    store: ObjectStore

    @classmethod
    def open(cls, url: str) -> Storage:
        """The storage of `file:///folder` (created when missing), `memory:///`, or `s3://bucket/prefix`.

        S3 takes its credentials, region and endpoint from the usual `AWS_…` variables.
        """
        try:
            return cls(url, _store(url))
        except (BaseError, OSError, ValueError) as error:
            raise StorageUnavailable(f"{url} cannot be opened") from error

    def put(self, path: Path, key: str) -> None:
        """Keep the file as `key`; doing it again changes nothing. Raises StorageUnavailable."""
        with self._answering(NotFoundError, FileNotFoundError):
            obstore.put(self.store, key, path, chunk_size=self._piece_bytes(), max_concurrency=1)

    def fetch(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Copy an object to `path`; raises AudioMissing, AudioCorrupt when `sha256` differs, StorageUnavailable."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for chunk in self.read(key):
                digest.update(chunk)
                file.write(chunk)
        if sha256 not in {None, digest.hexdigest()}:
            raise AudioCorrupt(f"{key} does not have the digest {sha256}")

    def size(self, key: str) -> int:
        """How many bytes an object has; raises AudioMissing, StorageUnavailable."""
        with self._answering():
            return int(obstore.head(self.store, key)["size"])

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes `start` ≤ i < `end` of an object, in pieces of about a megabyte.

        The range must hold at least one byte. Raises AudioMissing, StorageUnavailable.
        """
        wanted: GetOptions = {} if end is None else {"range": (start, end)}
        with self._answering():
            pieces = iter(obstore.get(self.store, key, options=wanted).stream(min_chunk_size=CHUNK_BYTES))
        while True:
            with self._answering():
                piece = next(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    def delete(self, key: str) -> None:
        """Forget an object; one that is not there is forgotten already. Raises StorageUnavailable."""
        try:
            with self._answering():
                obstore.delete(self.store, key)
        except AudioMissing:
            return

    def has(self, key: str) -> bool:
        """Whether an object is there; raises StorageUnavailable."""
        return self._stored_at(key) is not None

    def is_older(self, key: str, moment: datetime) -> bool:
        """Whether an object is there and was last put before an instant; raises StorageUnavailable."""
        stored_at = self._stored_at(key)
        return stored_at is not None and stored_at < moment

    def pages(self) -> Iterator[list[str]]:
        """The keys of all objects, some at a time; raises StorageUnavailable."""
        with self._answering():
            pages = iter(obstore.list(self.store, chunk_size=LISTED))
        while True:
            with self._answering():
                page = next(pages, None)
            if page is None:
                return
            yield [each["path"] for each in page]

    def _stored_at(self, key: str) -> datetime | None:
        try:
            with self._answering():
                stored_at: datetime = obstore.head(self.store, key)["last_modified"]
                return stored_at
        except AudioMissing:
            return None

    def check(self) -> None:
        """Ask for an object that cannot be; raises StorageUnavailable when there is no answer."""
        try:
            with self._answering():
                obstore.head(self.store, "no-such-object")
        except AudioMissing:
            return

    def free_bytes(self) -> int | None:
        """Room for more objects, where that can be known: not of a store elsewhere, nor of one that is gone."""
        try:
            return shutil.disk_usage(self.url.removeprefix(LOCAL)).free if self.url.startswith(LOCAL) else None
        except OSError:
            return None

    @contextmanager
    def _answering(self, *unavailable: type[Exception]) -> Iterator[None]:
        """Turn the store's errors into ours; those in `unavailable` mean that it is dead, not the object gone."""
        try:
            yield
        except (BaseError, OSError) as error:
            missing = isinstance(error, (NotFoundError, FileNotFoundError)) and not isinstance(error, unavailable)
            if missing and self._there():
                raise AudioMissing from error
            raise StorageUnavailable from error

    def _piece_bytes(self) -> int:
        """How much of a file is held while it is put: S3 takes no smaller pieces than this."""
        return CHUNK_BYTES if self.url.startswith(LOCAL) else S3_PIECE_BYTES

    def _there(self) -> bool:
        return not self.url.startswith(LOCAL) or Path(self.url.removeprefix(LOCAL)).is_dir()


def _store(url: str) -> ObjectStore:
    if url.startswith(LOCAL):
        return LocalStore(Path(url.removeprefix(LOCAL)), mkdir=True)
    if url.startswith("memory:"):
        return from_url(url)
    return from_url(
        url,
        client_options={  # an endpoint on plain http is the operator's explicit choice
            "allow_http": True,
            "connect_timeout": timedelta(seconds=2),
            "timeout": timedelta(seconds=60),
        },
        retry_config={"max_retries": 2, "retry_timeout": PATIENCE},
    )
