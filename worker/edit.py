"""Change a registered model's index without the model: `python -m worker.edit FOLDER remove KEY …`.

Prints the digest of the version that is then the newest. `rootnote index` calls this and registers that version.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from worker.editing import held, join, remove
from worker.manifest import FORMAT, IndexMismatch, Manifest, read_format, versions
from worker.verifying import verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry the command out; say why, and return 1, where the index does not allow it."""
    given = _parser().parse_args(arguments)
    folder: Path = given.folder / "index"
    try:
        sys.stdout.write(_answer(folder, given) + "\n")
    except IndexMismatch as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    return 0


def upgrade(folder: Path) -> Manifest:
    """Bring the index in `folder` to the present format; one that is there already stays as it is."""
    from worker.merging import settled  # torch and the science are needed by this command alone

    with held(folder):
        earlier = Manifest.read(folder)
        if read_format(folder) == FORMAT:
            return earlier
        verify(folder, earlier.files)
        later = replace(settled(folder, earlier), parent=earlier.index_digest)
        later.save(folder)
        return later


def _answer(folder: Path, given: argparse.Namespace) -> str:
    if given.verb == "remove":
        return remove(folder, given.keys).index_digest
    if given.verb == "merge":
        return join(folder, given.keys, given.into).index_digest
    if given.verb == "upgrade":
        return upgrade(folder).index_digest
    if given.verb == "requantise":
        from worker.requantising import requantise  # torch is needed by this command alone

        return requantise(folder, given.bits).index_digest
    if given.verb == "verify":
        manifest = Manifest.read(folder, given.version)
        verify(folder, manifest.files, thorough=True)
        return manifest.index_digest
    return "\n".join(
        f"{each.index_digest}  {len(each.songs)} songs ranked, {len(each.stored)} stored" for each in versions(folder)
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker.edit", description="Change or look at a model's index.")
    parser.add_argument("folder", type=Path, help="folder of a registered model")
    verbs = parser.add_subparsers(dest="verb", required=True)
    removing = verbs.add_parser("remove", help="take songs down")
    removing.add_argument("keys", nargs="+", metavar="KEY")
    merging = verbs.add_parser("merge", help="count duplicates under one song")
    merging.add_argument("keys", nargs="+", metavar="KEY")
    merging.add_argument("--into", required=True, metavar="KEY", help="the song that they are duplicates of")
    verbs.add_parser("upgrade", help="bring an index of an earlier format to the present one")
    rounding = verbs.add_parser("requantise", help="keep the rows in fewer bits")
    rounding.add_argument("--bits", type=int, choices=[4], default=4, help="bits of a number")
    verbs.add_parser("versions", help="list the versions, the newest first")
    verifying = verbs.add_parser("verify", help="digest every file again")
    verifying.add_argument("--version", help="digest of an earlier version")
    return parser


if __name__ == "__main__":
    sys.exit(main())
