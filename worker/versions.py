"""By which code a result was found: the versions of the packages, and a digest of our own source."""

import hashlib
import importlib.metadata
from functools import lru_cache
from pathlib import Path

PACKAGES = ("rootnote", "torch", "torchaudio", "diffusers", "transformers")


@lru_cache
def versions() -> dict[str, str]:
    """Return the version of each package that shapes a result, and `code`: the digest of the worker's source.

    A release's number tells releases apart; the digest tells any two states of the source apart.
    """
    return {name: _version(name) for name in PACKAGES} | {"code": source_digest(Path(__file__).parent)}


def source_digest(folder: Path) -> str:
    """Return the SHA-256 of every Python file below a folder, by name and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name, content = path.relative_to(folder).as_posix().encode(), path.read_bytes()
        digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
