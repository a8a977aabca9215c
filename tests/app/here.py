"""Clients on this machine, which a service without keys serves, and clients with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.testclient import TestClient

from app.access import keys
from app.access.keys import NewKey
from app.db import transaction

if TYPE_CHECKING:
    from fastapi import FastAPI

    from app.access.scopes import Scope
    from app.db import Database

HERE = "http://127.0.0.1:8000"


def client_of(app: FastAPI, *, peer: str = "127.0.0.1", url: str = HERE, **options: Any) -> TestClient:
    """A client at an address, by default this machine's; use it in a `with`. Failures are answers, not exceptions."""
    options = {"raise_server_exceptions": False} | options
    return TestClient(app, base_url=url, client=(peer, 50_000), **options)


def make_key(database: Database, tenant_id: str, *scopes: Scope, name: str = "test", **more: Any) -> str:
    """The secret of a new key."""
    with transaction(database) as session:
        return keys.create(session, NewKey(tenant_id, name, frozenset(scopes) or None, **more))[1]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
