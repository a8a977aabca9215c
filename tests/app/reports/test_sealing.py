"""A signed document: any changed byte is seen, whoever made it, and what earlier versions signed stays valid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from app.reports import keys, tables
from app.reports.sealing import KNOWN, key_id, seal, unseal

EARLIER = Path(__file__).parent / "signed"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
DOCUMENT = {
    "type": "rootnote.report",
    "schema": 1,
    "attribution": {"id": "a", "prompt": "größer ≥ 2\u2028'\"\\"},
    "shares": [0.1, 1e-7, -2.5, 1e21, 0, None, True],
}
SEALED = seal(DOCUMENT, KEY)


def known(ident: str) -> Ed25519PublicKey | None:
    return {key_id(key.public_key()): key.public_key() for key in (KEY, OTHER)}.get(ident)


def test_what_was_signed_is_what_is_read() -> None:
    verdict = unseal(SEALED, known)
    assert (verdict.valid, verdict.reason, verdict.key_id) == (True, None, key_id(KEY.public_key()))
    assert verdict.document == DOCUMENT
    assert seal(DOCUMENT, KEY) == SEALED
    assert rfc8785.dumps(json.loads(SEALED)) == SEALED


@pytest.mark.parametrize("place", range(len(SEALED)))
def test_any_changed_byte_fails(place: int) -> None:
    for change in range(1, 256):
        changed = SEALED[:place] + bytes([SEALED[place] ^ change]) + SEALED[place + 1 :]
        assert not unseal(changed, known).valid, changed


@given(st.binary(max_size=40), st.integers(0, len(SEALED)), st.integers(0, len(SEALED)))
def test_any_other_file_fails(inserted: bytes, start: int, end: int) -> None:
    changed = SEALED[:start] + inserted + SEALED[max(start, end) :]
    assert unseal(changed, known).valid == (changed == SEALED)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_whatever_is_no_signed_document_is_told_so(value: object) -> None:
    signature = {"algorithm": "ed25519", "key_id": value, "value": value}
    for parts in (value, {"document": value, "signature": signature}, {"document": value, "signature": value}):
        assert not unseal(json.dumps(parts).encode(), known).valid


def test_another_key_does_not_do() -> None:
    assert "not known" in str(unseal(SEALED, lambda _: None).reason)
    assert "does not belong" in str(unseal(SEALED, lambda _: OTHER.public_key()).reason)
    renamed = SEALED.replace(key_id(KEY.public_key()).encode(), key_id(OTHER.public_key()).encode())
    assert not unseal(renamed, known).valid


def test_a_kind_that_is_not_known_is_not_taken_for_valid() -> None:
    for strange in ({"schema": 99}, {"type": "rootnote.cheque"}):
        assert "not known here" in str(unseal(seal(DOCUMENT | strange, KEY), known).reason)


def test_integers_beyond_json_become_text() -> None:
    verdict = unseal(seal(DOCUMENT | {"seed": 2**64, "small": 2**53 - 1}, KEY), known)
    assert verdict.document is not None
    assert (verdict.document["seed"], verdict.document["small"]) == (str(2**64), 2**53 - 1)


@pytest.mark.parametrize("file", sorted(EARLIER.glob("*.json")), ids=lambda file: file.stem)
def test_what_an_earlier_version_signed_is_valid(file: Path) -> None:
    publics = [keys.public(line) for line in (EARLIER / "keys.txt").read_text().splitlines()]
    verdict = unseal(file.read_bytes(), {key_id(each): each for each in publics}.get)
    assert (verdict.valid, verdict.reason) == (True, None)


def test_there_is_a_document_of_every_version_that_was_ever_signed() -> None:
    committed = {file.stem for file in EARLIER.glob("*.json")}
    assert committed == {f"{kind}.{version}" for kind, versions in KNOWN.items() for version in versions}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "＝1", '=HYPERLINK("x")'])
def test_no_text_becomes_a_formula(text: str) -> None:
    assert tables.cell(text).startswith("'")


def test_numbers_stay_numbers() -> None:
    assert [tables.cell(each) for each in (-0.5, 1e-7, 3, None, "a-b")] == ["-0.5", "1e-7", "3", "", "a-b"]
