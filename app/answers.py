"""A successful answer, turned into JSON once: from the checked object to bytes, in the thread that read its rows."""

from fastapi import Response
from pydantic import BaseModel


def json(shown: BaseModel) -> Response:
    """Return an object as the body of an answer; the framework neither checks nor copies it again."""
    return Response(shown.model_dump_json(), media_type="application/json")
