"""Documents under a signature: canonical JSON (RFC 8785) in an envelope with an Ed25519 signature (RFC 8032).

The envelope is `{"document": …, "signature": {"algorithm": "ed25519", "key_id": …, "value": …}}`, canonical too.
Signed are the canonical bytes of the document. A file is accepted only if it is, to the byte, the envelope of what it
says, so that no other file carries the same signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "ed25519"
KNOWN = {"rootnote.report": (1, 2), "rootnote.statement": (1,)}
"""Every version of every kind of document that was ever signed; all of them stay valid."""

_EXACT = 2**53 - 1
_KEY_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Verdict:
    """Whether a file is a document that one of the given keys signed, and which; `reason` says why it is not."""

    valid: bool
    reason: str | None = None
    key_id: str | None = None
    document: dict[str, Any] | None = None


def raw(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_id(key: Ed25519PublicKey) -> str:
    """What a public key is called: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(raw(key)).hexdigest()[:32]


def seal(document: dict[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The envelope of a document; the same document and key give the same bytes.

    Integers that a JSON number cannot hold exactly become text.
    """
    plain = _exact(document)
    return _envelope(plain, key_id(key.public_key()), key.sign(rfc8785.dumps(plain)).hex())


def unseal(data: bytes, key_of: Callable[[str], Ed25519PublicKey | None]) -> Verdict:
    """Check a file; `key_of` returns the public key of an id, None where it is not known. Raises nothing."""
    try:
        parts = json.loads(data)
        document, name = parts["document"], parts["signature"]["key_id"]
        signed, signature = rfc8785.dumps(document), bytes.fromhex(parts["signature"]["value"])
        exact = _envelope(document, name, signature.hex()) == data
    except (ValueError, TypeError, LookupError, RecursionError, rfc8785.CanonicalizationError):
        return Verdict(valid=False, reason="this is no signed document")
    if not exact or not isinstance(name, str) or not _KEY_ID.fullmatch(name):
        return Verdict(valid=False, reason="the file is not in the exact form in which it was signed")
    key = key_of(name)
    if key is None:
        return Verdict(valid=False, reason=f"the key {name} is not known", key_id=name)
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return Verdict(valid=False, reason="the signature does not belong to this content", key_id=name)
    if document["schema"] not in KNOWN.get(document["type"], ()):
        return Verdict(valid=False, reason="signed, but of a kind or version that is not known here", key_id=name)
    return Verdict(valid=True, key_id=name, document=document)


def instant(moment: datetime) -> str:
    """An instant as documents write it: UTC, to the microsecond."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _envelope(document: Any, name: str, signature: str) -> bytes:
    signed = {"algorithm": ALGORITHM, "key_id": name, "value": signature}
    return rfc8785.dumps({"document": document, "signature": signed})


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _exact(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value
