"""API keys: made, found, listed, rotated, revoked. The secret is told once and never stored.

A secret has 256 random bits, so its plain SHA-256 is enough: nobody can try them all, and a slow hash, which protects
passwords that people choose, would only slow every request down.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError

from app.access.scopes import EVERYDAY, HOLDER, TENANT, Scope
from app.db import now
from app.errors import Conflict, InvalidRequest, NotFound
from app.models import ApiKey, Holder, Tenant, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

SIGN = "rn_"
SHOWN = 10
"""Characters of a key that are kept and shown, to tell keys apart."""
USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class NewKey:
    """What a key shall be: whose, for what, until when (None: no end). Without scopes, the usual ones."""

    tenant_id: str
    name: str
    scopes: frozenset[Scope] | None = None
    holder_id: str | None = None
    expires_at: datetime | None = None

    def allowed(self) -> frozenset[Scope]:
        """Return the scopes; raises InvalidRequest where a holder's key and a tenant's would be one."""
        possible, usual = (TENANT, EVERYDAY) if self.holder_id is None else (HOLDER, HOLDER)
        wanted = usual if self.scopes is None else self.scopes
        if not wanted or wanted - possible:
            whose = "a tenant" if self.holder_id is None else "a rights-holder"
            raise InvalidRequest(f"a key of {whose} has some of the scopes {', '.join(sorted(possible))}")
        return wanted


def digest_of(secret: str) -> str:
    """The form in which a secret is stored and looked for."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create(session: Session, wanted: NewKey) -> tuple[ApiKey, str]:
    """A new key and its secret, which cannot be read again. Raises NotFound for an unknown owner, InvalidRequest."""
    tenant(session, wanted.tenant_id)
    scopes = wanted.allowed()
    if wanted.holder_id is not None:
        holder = session.get(Holder, wanted.holder_id)
        if holder is None or holder.tenant_id != wanted.tenant_id:
            raise NotFound(f"{wanted.tenant_id} knows no rights-holder {wanted.holder_id}")
    secret = SIGN + secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id(),
        tenant_id=wanted.tenant_id,
        holder_id=wanted.holder_id,
        name=wanted.name,
        prefix=secret[:SHOWN],
        digest=digest_of(secret),
        scopes=sorted(scopes),
        created_at=now(session),
        expires_at=wanted.expires_at,
    )
    session.add(key)
    return key, secret


def create_tenant(session: Session, tenant_id: str, name: str) -> Tenant:
    """A new tenant; raises Conflict where the id is taken."""
    made = Tenant(id=tenant_id, name=name, created_at=now(session))
    session.add(made)
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"there is a tenant {tenant_id} already") from error
    return made


def tenant(session: Session, tenant_id: str) -> Tenant:
    """The tenant of that id; raises NotFound."""
    found = session.get(Tenant, tenant_id)
    if found is None:
        raise NotFound(f"there is no tenant {tenant_id}")
    return found


def any_made(session: Session) -> bool:
    """Whether a key was ever made; revoked ones count, so that taking the last key away opens nothing."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def any_live(session: Session) -> bool:
    """Whether a key exists that is good now."""
    ahead = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now(session))
    return session.scalar(select(ApiKey.id).where(ApiKey.revoked_at.is_(None), ahead).limit(1)) is not None


def find(session: Session, name: str) -> ApiKey | None:
    """The key of a secret's digest or of an id, good or not."""
    return session.scalars(select(ApiKey).where(or_(ApiKey.digest == name, ApiKey.id == name))).one_or_none()


def is_live(key: ApiKey, moment: datetime) -> bool:
    """Whether a key is good at an instant."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > moment)


def unused_lately(key: ApiKey, moment: datetime) -> bool:
    """Whether a key's last use was noted so long ago that it is to be noted again."""
    return key.last_used_at is None or key.last_used_at <= moment - USED_EVERY


def note_use(session: Session, key_id: str) -> None:
    """Note that a key is in use."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now(session)))


def listed(session: Session, tenant_id: str | None = None) -> Sequence[ApiKey]:
    """Every key, or those of one tenant, in the order in which they were made."""
    query = select(ApiKey) if tenant_id is None else select(ApiKey).where(ApiKey.tenant_id == tenant_id)
    return session.scalars(query.order_by(ApiKey.tenant_id, ApiKey.id)).all()


def named(session: Session, name: str) -> ApiKey:
    """The key of that id, or that is shown so; raises NotFound, Conflict where several are shown so."""
    found = session.scalars(select(ApiKey).where(or_(ApiKey.id == name, ApiKey.prefix == name))).all()
    if not found:
        raise NotFound(f"there is no key {name}")
    if len(found) > 1:
        raise Conflict(f"several keys begin with {name}; name one by its id")
    return found[0]


def revoke(session: Session, key: ApiKey) -> None:
    """End a key now; ending it again changes nothing."""
    key.revoked_at = key.revoked_at or now(session)


def rotate(session: Session, key: ApiKey, overlap: timedelta) -> tuple[ApiKey, str]:
    """A key in place of another one, for the same and for as long; the old one stays good for `overlap`.

    Raises Conflict for a key that is not good any more.
    """
    moment = now(session)
    if not is_live(key, moment):
        raise Conflict(f"the key {key.prefix} is revoked or has expired; create a new one")
    lasting = None if key.expires_at is None else moment + (key.expires_at - key.created_at)
    scopes = frozenset(map(Scope, key.scopes))
    made = create(session, NewKey(key.tenant_id, key.name, scopes, key.holder_id, lasting))
    key.expires_at = min(moment + overlap, key.expires_at or moment + overlap)
    return made
