"""The digest of a request's body, taken while it streams by; nothing is kept."""

import hashlib
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "idempotency-key"
_SCOPE = "rootnote_body_digest"
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_CANONICAL = b"\x00boundary\x00"


class BodyDigest:
    """SHA-256 of what passes; a form's boundary, which clients draw anew for each attempt, counts as one fixed word."""

    def __init__(self, boundary: bytes = b"") -> None:
        self._digest, self._boundary, self._rest = hashlib.sha256(), boundary, b""

    def update(self, chunk: bytes) -> None:
        """Take in the next bytes, however the body is cut into pieces."""
        if not self._boundary:
            self._digest.update(chunk)
            return
        # The part behind the last boundary may hold the begin of another one: that much is kept back.
        *before, last = (self._rest + chunk).split(self._boundary)
        for piece in before:
            self._digest.update(piece)
            self._digest.update(_CANONICAL)
        cut = max(len(last) - len(self._boundary) + 1, 0)
        self._digest.update(last[:cut])
        self._rest = last[cut:]

    def hexdigest(self) -> str:
        """Return the digest of all that came."""
        whole = self._digest.copy()
        whole.update(self._rest)
        return whole.hexdigest()


class DigestBodies:
    """Takes the digest of every body that comes with an Idempotency-Key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        if HEADER not in headers:
            await self._app(scope, receive, send)
            return
        digest = scope[_SCOPE] = BodyDigest(_boundary(headers.get("content-type", "")))

        async def digested() -> Message:
            message = await receive()
            digest.update(message.get("body", b""))
            return message

        await self._app(scope, digested, send)


def fingerprint(scope: Scope) -> str:
    """Return the digest of a request: its method, address, query, the kind of its body and the body as read so far."""
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    digest: BodyDigest = scope.get(_SCOPE, BodyDigest())
    said = (scope["method"], scope["path"], scope["query_string"].decode("latin-1"), kind, digest.hexdigest())
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _boundary(content_type: str) -> bytes:
    found = _BOUNDARY.search(content_type) if content_type.lower().startswith("multipart/") else None
    return found.group(1).strip().encode("latin-1") if found else b""
