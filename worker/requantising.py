"""The rows of an index kept in fewer bits: another version of it, over files of its own.

What was fitted and what was computed from the rows before stays: the curvature, and the background's scores. Latents
and facts of the segments are copied beside the new rows, so until earlier versions are let go there are two of them.
"""

from dataclasses import replace
from pathlib import Path

from worker.editing import CannotEdit, held
from worker.index import CURVATURE, Index
from worker.manifest import Manifest
from worker.plan import UNRELATED, file_name, span
from worker.shards import Bytes, Shard, file_digest, fingerprint, is_made, read, write
from worker.verifying import verify

PACKED = "packed-"


def requantise(folder: Path, bits: int) -> Manifest:
    """Round the rows of the index in `folder` to `bits` a number and return the version that is then the newest.

    Files that are there already are kept, so a command that was killed goes on where it stopped. Raises CannotEdit
    where the rows have so few bits already or the index keeps no background scores, as in earlier formats, and
    IndexMismatch for files that are not those of the manifest.
    """
    with held(folder):
        earlier = Manifest.read(folder)
        if bits >= earlier.config.bits:
            raise CannotEdit(f"the rows have {earlier.config.bits} bits a number: what is gone does not come back")
        if not any(name.startswith(UNRELATED) for name in earlier.files):
            raise CannotEdit("the index is of an earlier format: upgrade it first")
        verify(folder, earlier.files)
        renamed = {name: _packed(folder, name, earlier.files[name], bits) for name in earlier.shards}
        rest = {name: checksum for name, checksum in earlier.files.items() if name not in renamed}
        rest |= {CURVATURE: _curvature(folder, earlier)}
        later = replace(
            earlier,
            config=replace(earlier.config, bits=bits),
            shards=tuple(renamed.values()),
            files=rest | {name: file_digest(folder / name) for name in renamed.values()},
            parent=earlier.index_digest,
        )
        verify(folder, later.files)
        later.save(folder)
        return later


def _curvature(folder: Path, manifest: Manifest) -> str:
    """Keep the curvature of the rows as they were, where the index does not, and return its file's checksum."""
    if CURVATURE not in manifest.files:
        rows = [manifest.files[name] for name in manifest.shards]
        recipe = fingerprint("curvature", manifest.fitted_songs, rows)
        if not is_made(folder / CURVATURE, recipe):
            index = Index.assembled(manifest, {name: read(folder / name) for name in manifest.files})
            write(folder / CURVATURE, index.curvature.state_dict(), recipe)
    return file_digest(folder / CURVATURE)


def _packed(folder: Path, name: str, checksum: str, bits: int) -> str:
    """Write the rows of the file `name` in `bits` and return the new file's name."""
    packed, recipe = file_name(PACKED, span(name)), fingerprint("requantised", bits, checksum)
    if not is_made(folder / packed, recipe):
        shard = Shard.from_tensors(read(folder / name))
        rows = Bytes.of(shard.rows.floats(), bits)
        write(folder / packed, replace(shard, rows=rows).tensors(), recipe)
    return packed
