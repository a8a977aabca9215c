"""Decides for whom a request is served: for the owner of a key, or, while no key exists, for this machine's user.

Without a key the service is open to loopback alone, and not to what a browser can be talked into sending there: not
under a name that somebody's DNS points at this machine, not from another site's page, not through a proxy that says so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.access import keys, sessions
from app.access.loopback import is_loopback, name_of
from app.access.scopes import TENANT, Scope
from app.db import Database, reading, transaction
from app.errors import ForeignHost, ForeignOrigin, InvalidKey, NeedsKey
from app.models import DEFAULT_TENANT

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from app.config import Settings

REMEMBERED_SECONDS = 2.0
"""How long a process takes a key for good without asking again: a revoked one is refused everywhere after so long."""
COOKIE = "rootnote_session"
_BEARER = "bearer "


@dataclass(frozen=True)
class Caller:
    """Who asks: the owner of every row that the request sees or makes, and what it may do.

    With `holder_id` it is a rights-holder, who sees the songs of that tenant in which it holds shares, and no more.
    """

    tenant_id: str
    scopes: frozenset[Scope] = frozenset()
    holder_id: str | None = None
    key_id: str | None = None

    def may(self, *scopes: Scope) -> bool:
        """Whether one of these is allowed."""
        return not self.scopes.isdisjoint(scopes) or (Scope.ADMIN in self.scopes and not TENANT.isdisjoint(scopes))


@dataclass(frozen=True)
class Knock:
    """What a request shows of its sender."""

    peer: str | None
    host: str
    authorization: str | None = None
    session: str | None = None
    origin: str | None = None
    site: str | None = None
    forwarded: bool = False
    changes: bool = False
    """Whether it may change something."""

    @property
    def from_own_page(self) -> bool:
        """Whether a page of this service sent it, by what the browser says and no page can change."""
        by_origin = self.origin is not None and urlsplit(self.origin).netloc == self.host
        return by_origin or self.site == "same-origin"


class RetiredKey(InvalidKey):
    """A key that was good once, and whose."""

    def __init__(self, caller: Caller) -> None:
        super().__init__("the key is revoked or has expired")
        self.caller = caller


@dataclass(frozen=True)
class _Known:
    caller: Caller
    expires_at: datetime | None
    until: float


class Gate:
    """Knows the keys that were used lately; everything else it asks the database. May wait: call it from a thread."""

    def __init__(self, database: Database, settings: Settings, ticks: Callable[[], float] = time.monotonic) -> None:
        self._database, self._ticks = database, ticks
        self._settings = settings
        self._open_at_all = settings.auth == "loopback"
        self._known: dict[str, _Known] = {}
        self._keyless_until = 0.0
        self._keys_made = False

    @cached_property
    def _secret(self) -> bytes:
        return sessions.secret(self._settings)

    def remembered(self, knock: Knock) -> Caller | None:
        """Return the caller where that needs no asking, else None; never waits. Raises ForeignOrigin."""
        known = self._known.get(self._name_of(knock) or "")
        if known is None or known.until <= self._ticks():
            return None
        expired = known.expires_at is not None and known.expires_at <= self._database.clock()
        return None if expired else known.caller

    def caller(self, knock: Knock) -> Caller:
        """Return the caller; raises NeedsKey, InvalidKey, ForeignHost, ForeignOrigin, DatabaseUnavailable."""
        name = self._name_of(knock)
        if name is not None:
            return self.remembered(knock) or self._by_key(name)
        if knock.authorization is not None:
            raise InvalidKey("the header has to be: Authorization: Bearer rn_…")
        return self._local(knock)

    def session_of(self, key_id: str) -> str:
        """Return a session of the owner of a key."""
        return sessions.sign(key_id, self._database.clock() + sessions.LASTING, self._secret)

    def _name_of(self, knock: Knock) -> str | None:
        """What names the caller's key: the digest of the one that is shown, else the id in a sound session.

        A browser sends the session with every request, so one that may change something has to come from our own page.
        """
        if knock.authorization is not None:
            secret = _secret(knock)
            return keys.digest_of(secret) if secret else None
        key_id = sessions.read(knock.session, self._database.clock(), self._secret) if knock.session else None
        if key_id is not None and knock.changes and not knock.from_own_page:
            raise ForeignOrigin("a page of another site may not do this with your session")
        return key_id

    def _by_key(self, name: str) -> Caller:
        self._known.pop(name, None)
        with reading(self._database) as session:
            key = keys.find(session, name)
        moment = self._database.clock()
        if key is None:
            raise InvalidKey("this key is unknown")
        found = Caller(key.tenant_id, frozenset(map(Scope, key.scopes)), key.holder_id, key.id)
        if not keys.is_live(key, moment):
            raise RetiredKey(found)
        if keys.unused_lately(key, moment):
            with transaction(self._database) as session:
                keys.note_use(session, key.id)
        self._known[name] = _Known(found, key.expires_at, self._ticks() + REMEMBERED_SECONDS)
        return found

    def _local(self, knock: Knock) -> Caller:
        """The user of this machine, while nobody has made a key."""
        if not self._open_at_all or knock.forwarded or not is_loopback(knock.peer or "") or not self._keyless():
            raise NeedsKey
        if not is_loopback(name_of(knock.host)):
            raise ForeignHost(f"without a key this service is reached as localhost, not as {knock.host[:200]!r}")
        if knock.origin is not None and not knock.from_own_page:
            raise ForeignOrigin("without a key a page of another site may not call this service")
        return Caller(DEFAULT_TENANT, TENANT)

    def _keyless(self) -> bool:
        if not self._keys_made and self._ticks() >= self._keyless_until:
            with reading(self._database) as session:
                self._keys_made = keys.any_made(session)
            self._keyless_until = self._ticks() + REMEMBERED_SECONDS
        return not self._keys_made


def _secret(knock: Knock) -> str | None:
    given = knock.authorization or ""
    return given[len(_BEARER) :].strip() or None if given[: len(_BEARER)].lower() == _BEARER else None
