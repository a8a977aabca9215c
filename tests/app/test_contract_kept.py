"""The kept document is that of the code."""

from pathlib import Path

from app import contract

KEPT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_kept_document_is_that_of_the_code():
    made = contract.document()
    assert contract.text(made) == KEPT.read_text(), "run `make openapi`, and read what it says"
