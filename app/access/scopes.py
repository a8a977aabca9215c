"""What a key allows, in the words of the interface."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One thing that a key may allow; `admin` allows all that a tenant can do."""

    ATTRIBUTIONS_READ = "attributions:read"
    ATTRIBUTIONS_WRITE = "attributions:write"
    CATALOGUE_READ = "catalogue:read"
    CATALOGUE_WRITE = "catalogue:write"
    STATEMENTS_READ = "statements:read"
    STATEMENTS_WRITE = "statements:write"
    WEBHOOKS_WRITE = "webhooks:write"
    ADMIN = "admin"
    HOLDER_READ = "holder:read"
    HOLDER_WRITE = "holder:write"


HOLDER = frozenset({Scope.HOLDER_READ, Scope.HOLDER_WRITE})
"""All that a rights-holder's key allows."""
TENANT = frozenset(Scope) - HOLDER
"""All that a tenant's key can allow."""
EVERYDAY = TENANT - {Scope.ADMIN}
"""What a tenant's key allows unless it is made with other scopes."""
