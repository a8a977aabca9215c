"""The key that signs: made once, by whoever comes first, for its owner alone; and every key there was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from app.db import reading, transaction
from app.errors import BadKey
from app.reports import keys
from app.reports.sealing import key_id, raw

if TYPE_CHECKING:
    from pathlib import Path

    from app.config import Settings
    from app.db import Database
    from tests.app.registered import Clock


def test_a_key_is_made_once_and_only_its_owner_can_read_it(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: key_id(keys.signing(settings).public_key()), range(24)))
    assert len(set(made)) == 1
    file = keys.path(settings)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_given_file_is_used(settings: Settings, tmp_path: Path) -> None:
    given = settings.model_copy(update={"report_key": tmp_path / "own.pem"})
    first = keys.signing(settings)
    keys.path(settings).rename(tmp_path / "own.pem")
    assert raw(keys.signing(given).public_key()) == raw(first.public_key())


@pytest.mark.parametrize("content", ["", "no key", "another kind"])
def test_a_file_that_holds_no_such_key_is_refused(settings: Settings, tmp_path: Path, content: str) -> None:
    file = tmp_path / "own.pem"
    other = generate_private_key(SECP256R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem if content == "another kind" else content.encode())
    with pytest.raises(BadKey, match=r"own\.pem"):
        keys.signing(settings.model_copy(update={"report_key": file}))


def test_after_a_rotation_the_earlier_key_still_verifies(settings: Settings, db: Database, clock: Clock) -> None:
    first = keys.signing(settings).public_key()
    with transaction(db) as session:
        keys.publish(session, first)
        keys.publish(session, first)
    second = keys.rotate(settings).public_key()
    clock.forward(1)
    with transaction(db) as session:
        keys.publish(session, second)
    assert keys.path(settings).stat().st_mode & 0o777 == 0o600
    assert raw(keys.signing(settings).public_key()) == raw(second) != raw(first)
    with reading(db) as session:
        assert [row.id for row in keys.listed(session)] == [key_id(second), key_id(first)]
        found = keys.published(session, key_id(first))
        assert found is not None
        assert raw(found) == raw(first)
        assert keys.published(session, "0" * 32) is None


def test_a_public_key_is_given_as_digits_or_pem(settings: Settings) -> None:
    key = keys.signing(settings).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert {raw(keys.public(text)) for text in (raw(key).hex(), f" {raw(key).hex()}\n", pem)} == {raw(key)}
    other = generate_private_key(SECP256R1()).public_key()
    for wrong in ("", "zz", "00", "-----BEGIN", other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        with pytest.raises(BadKey):
            keys.public(wrong if isinstance(wrong, str) else wrong.decode())
