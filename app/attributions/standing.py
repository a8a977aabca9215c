"""How one attribution stands, as columns: callers ask for it again and again until it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select

from app.errors import NotFound
from app.glance import glance
from app.models import Attribution, Model

if TYPE_CHECKING:
    from sqlalchemy import Row

    from app.db import Database

_ROWS, _MODELS = Attribution.__table__, Model.__table__
# Made once: putting a statement together takes longer than sending it.
_ONE = (
    select(*_ROWS.c, _MODELS.c.name.label("model_name"))
    .join(_MODELS, _MODELS.c.id == _ROWS.c.model_id)
    .where(_ROWS.c.tenant_id == bindparam("tenant"), _ROWS.c.id == bindparam("attribution"))
)


def look(database: Database, *, tenant_id: str, attribution_id: str) -> Row[Any]:
    """The columns of an attribution and its `model_name`; raises NotFound for an unknown or foreign id."""
    found = glance(database, _ONE, {"tenant": tenant_id, "attribution": attribution_id})
    if found is None:
        raise NotFound("there is no such attribution")
    return found
