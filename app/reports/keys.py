"""The key that signs, a file of this machine, and every public key there was, rows of the database."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from app.db import now
from app.errors import BadKey
from app.models import ReportKey
from app.reports.sealing import key_id, raw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from app.config import Settings


def path(settings: Settings) -> Path:
    """Where the key lies that signs."""
    return settings.report_key or settings.data_dir / "keys" / "reports.pem"


def signing(settings: Settings) -> Ed25519PrivateKey:
    """The key that signs; on first use it is made, readable by its owner alone. Raises BadKey, OSError."""
    file = path(settings)
    if not file.exists():
        _create(file)
    return _private(file)


def rotate(settings: Settings) -> Ed25519PrivateKey:
    """Put a new key in the place of the one that signs; what that one signed stays valid. Raises BadKey, OSError."""
    with _fresh(path(settings)) as fresh:
        fresh.replace(path(settings))
    return _private(path(settings))


def publish(session: Session, key: Ed25519PublicKey) -> None:
    """Keep a public key for whoever verifies, from now on and for ever."""
    row = {"id": key_id(key), "public_key": raw(key).hex(), "created_at": now(session)}
    try:
        with session.begin_nested():
            session.execute(insert(ReportKey).values(row))
    except IntegrityError:  # published already
        return


def published(session: Session, ident: str) -> Ed25519PublicKey | None:
    """The public key of that id, None where there is none."""
    found = session.scalar(select(ReportKey.public_key).where(ReportKey.id == ident))
    return None if found is None else Ed25519PublicKey.from_public_bytes(bytes.fromhex(found))


def listed(session: Session) -> Sequence[ReportKey]:
    """Every public key there was, the newest first."""
    return session.scalars(select(ReportKey).order_by(ReportKey.created_at.desc(), ReportKey.id)).all()


def public(text: str) -> Ed25519PublicKey:
    """The public key that someone gives: 64 hexadecimal digits, or PEM. Raises BadKey."""
    try:
        if text.lstrip().startswith("-----"):
            key = load_pem_public_key(text.encode())
        else:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(text.strip()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey("a public key is 64 hexadecimal digits or PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey("the key is not an Ed25519 key")
    return key


def _private(file: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"{file} holds no private key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"{file} holds no Ed25519 key")
    return key


def _create(file: Path) -> None:
    """Make a key; where several processes do so at once, one of them makes it for all."""
    with _fresh(file) as fresh:
        try:
            os.link(fresh, file)
        except FileExistsError:
            return


@contextmanager
def _fresh(file: Path) -> Iterator[Path]:
    """A new key in a folder beside `file`, whole before anyone can see it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with TemporaryDirectory(prefix=".key-", dir=file.parent) as folder:
        fresh = Path(folder) / "key"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            written.write(pem)
            written.flush()
            os.fsync(written.fileno())
        yield fresh
