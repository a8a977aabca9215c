"""What columns of several tables are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import uuid_utils
from sqlalchemy import CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

if TYPE_CHECKING:
    from enum import StrEnum


def new_id() -> str:
    """A fresh UUIDv7 as text: unique, and ordered by time."""
    return str(uuid_utils.uuid7())


def within(column: str, words: type[StrEnum]) -> CheckConstraint:
    """Hold a text column to the words of an enumeration."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(word.value) for word in words)})", name=column)


def present_request() -> str | None:
    """The id of the request that is being served, None outside of one."""
    found = structlog.contextvars.get_contextvars().get("request_id")
    return found if isinstance(found, str) else None


def request_id() -> Mapped[str | None]:
    """Name the request that a row came from, so that one search finds all that is logged of a job."""
    return mapped_column(String(128), default=present_request)


def owner(*, primary_key: bool = False) -> Mapped[str]:
    """Name the tenant that owns a row."""
    return mapped_column(String(64), ForeignKey("tenants.id"), primary_key=primary_key)
