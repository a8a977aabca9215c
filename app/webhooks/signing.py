"""Signatures after Standard Webhooks: HMAC-SHA256 over id, time and body, one for each secret that is good."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """A fresh secret, as its receiver is told it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(ident: str, timestamp: int, body: bytes, known: Sequence[str]) -> dict[str, str]:
    """The headers that a receiver checks; `timestamp` in seconds since 1970, `known` secrets, the newest first."""
    signed = f"{ident}.{timestamp}.".encode() + body
    signatures = (_signature(each, signed) for each in known)
    return {"webhook-id": ident, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(signatures)}


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
