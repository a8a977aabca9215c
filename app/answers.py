"""A successful answer, turned into JSON once: from the checked object to bytes, in the thread that read its rows."""

from collections.abc import Mapping

from fastapi import Response
from pydantic import BaseModel


def json(shown: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an object as the body of an answer; the framework neither checks nor copies it again."""
    return Response(shown.model_dump_json(), status, headers, "application/json")
