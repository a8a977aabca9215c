"""One POST to a stranger's address: resolved once, checked, pinned, bounded in time and size, never redirected."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpcore

from app.errors import ServiceError
from app.webhooks import addresses
from app.webhooks.addresses import system_resolve

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

    from app.webhooks.addresses import Resolve

ANSWER_BYTES = 16 * 1024
"""How much of an answer is read; beyond that the connection is closed."""
SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class Answer:
    """What an attempt met: a status, or an error instead; the begin of the answer; how long it took."""

    status: int | None
    error: str | None
    body: str
    seconds: float
    retry_after_s: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Post:
    """How deliveries are sent: within `seconds` each, all in all, and to private addresses only where allowed."""

    seconds: float
    allow_private: bool = False
    resolve: Resolve = system_resolve
    tls: ssl.SSLContext | None = None

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a body; whatever goes wrong is in the answer."""
        began = time.monotonic()
        try:
            parsed = addresses.parse(url, allow_private=self.allow_private)
            backend = _Pinned(self, began + self.seconds)
            with httpcore.ConnectionPool(ssl_context=self.tls, network_backend=backend, retries=0) as pool:
                found = pool.stream(
                    "POST",
                    httpcore.URL(
                        scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path
                    ),
                    headers=[("Host", parsed.netloc.decode("ascii")), *headers.items()],
                    content=body,
                    extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self.seconds)},
                )
                with found as response:
                    text = _begin(response.iter_stream())
                    wait = _seconds(dict(response.headers).get(b"retry-after"))
                    return Answer(response.status, None, text, time.monotonic() - began, wait)
        except ServiceError as error:
            return Answer(None, f"{error.type}: {error.detail}", "", time.monotonic() - began)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            return Answer(None, _told(error), "", time.monotonic() - began)


class _Pinned(httpcore.NetworkBackend):
    """Connects to an address that was checked, not to a name that may lead elsewhere a moment later."""

    def __init__(self, post: Post, deadline: float) -> None:
        self._post, self._deadline = post, deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the deadline is for the whole
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first checked address that answers."""
        found = addresses.checked(host, port, allow_private=self._post.allow_private, resolve=self._post.resolve)
        last: Exception = httpcore.ConnectError("no address")
        for address in found:
            try:
                left = _left(self._deadline, httpcore.ConnectTimeout)
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
            else:
                return _Bounded(stream, self._deadline)
        raise last


class _Bounded(httpcore.NetworkStream):
    """A stream that ends at a deadline, however slowly its other side drips."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """Read what is there."""
        return self._inner.read(max_bytes, _left(self._deadline, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Write everything."""
        self._inner.write(buffer, _left(self._deadline, httpcore.WriteTimeout))

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Go on encrypted; the certificate is checked against the name, not the address."""
        left = _left(self._deadline, httpcore.ConnectTimeout)
        return _Bounded(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Tell about the connection."""
        return self._inner.get_extra_info(info)


def _left(deadline: float, error: type[httpcore.TimeoutException]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise error("the time for one delivery is over")
    return left


def _begin(pieces: Iterable[bytes]) -> str:
    """The begin of an answer; what lies beyond the bound is not read."""
    kept = b""
    for piece in pieces:
        kept += piece
        if len(kept) >= ANSWER_BYTES:
            break
    text = kept[:ANSWER_BYTES].decode("utf-8", "replace")[:SHOWN_CHARACTERS]
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)


def _seconds(given: bytes | None) -> float | None:
    return float(given) if given is not None and given.isdigit() and len(given) < 8 else None


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:SHOWN_CHARACTERS].strip(": ")
