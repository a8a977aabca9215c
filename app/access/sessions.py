"""Signed sessions of people who look at the pages: they name a key and end with it, and are not the key.

A session is `key id.end.signature`, the signature an HMAC-SHA256 under a secret of this installation, so that neither
the database alone nor the cookie alone opens anything.
"""

from __future__ import annotations

import hmac
import os
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from app.config import Settings

LASTING = timedelta(hours=12)
_BYTES = 32


def secret(settings: Settings) -> bytes:
    """What signs: the settings' own secret, else a file of the data folder, made on first use. Raises OSError."""
    if settings.session_secret is not None:
        return settings.session_secret.get_secret_value().encode()
    path = settings.data_dir / "keys" / "sessions.key"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"sessions.{secrets.token_hex(4)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
        try:
            os.link(fresh, path)
        except FileExistsError:  # another process made one at the same time: the first holds for both
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def sign(key_id: str, until: datetime, under: bytes) -> str:
    """A session of the owner of a key, good until an instant."""
    said = f"{key_id}.{int(until.timestamp())}"
    return f"{said}.{_signature(said, under)}"


def read(session: str, moment: datetime, under: bytes) -> str | None:
    """The id of the key that a session names, None where it is not ours or has ended."""
    said, _, signature = session.rpartition(".")
    key_id, _, until = said.rpartition(".")
    sound = hmac.compare_digest(signature.encode(), _signature(said, under).encode())
    return key_id if sound and int(until) > moment.timestamp() else None


def _signature(said: str, under: bytes) -> str:
    return hmac.new(under, said.encode(), "sha256").hexdigest()
