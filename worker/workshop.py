"""What a builder does with one piece of an index: fetch what it is made from, make it, keep it under its digest.

Inputs and pieces lie in the object storage, so builders need nothing of each other but the model's folder. A piece that
was half made is made again from the beginning; one that is made twice is the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from app.builds.lease import Claim, Cut, Made, NewPiece
from app.builds.service import MERGE
from app.errors import AudioCorrupt, AudioMissing, InvalidModel
from app.storage import Storage, key_of
from worker.attribution.types import Conditioning, Progress, Segments
from worker.build import background, subject
from worker.building import Material, Whole
from worker.diffusion.stable_audio import Sampling, load
from worker.editing import held
from worker.engine import chosen_device, song_keys
from worker.index import FISHER
from worker.manifest import NAME, IndexConfig, IndexedSong, IndexMismatch, Manifest, fresh
from worker.merging import BadPiece, indexed, merge
from worker.pieces import TRACKS, Maker, Piece, Stage, Subject, sampled
from worker.plan import Plan, Span, file_name
from worker.shards import file_digest, read, write
from worker.training import TrainingSet

if TYPE_CHECKING:
    from collections.abc import Sequence

TRAINING, SAMPLE, GIVEN, SONGS, PART = "training", "sample", "given", "songs", "part-"


@dataclass(frozen=True)
class Inputs:
    """What was cut for a build, as a `Source`: fetched into `folder` when asked for."""

    storage: Storage
    claim: Claim
    folder: Path

    def path(self, name: str, sha256: str | None = None) -> Path:
        """Return where the input `name` lies, verified. Raises AudioMissing, AudioCorrupt, StorageUnavailable."""
        checksum, path = sha256 or self.claim.inputs[name], self.folder / name
        if not path.exists() or file_digest(path) != checksum:
            fetch(self.storage, self.claim.tenant_id, checksum, path)
        return path

    def part(self, songs: Span) -> TrainingSet:
        """Return the songs of a shard."""
        return TrainingSet.load(self.path(file_name(PART, songs)))

    def sample(self) -> TrainingSet:
        """Return the songs that the diagonal Fisher is taken over."""
        return TrainingSet.load(self.path(SAMPLE))

    def tracks(self) -> Segments:
        """Return the unrelated tracks."""
        named = read(self.path(GIVEN))
        return Segments(named["latents"], named["mask"], Conditioning(named["cross"], named["told"], named["globals"]))


@dataclass(frozen=True)
class Workshop:
    """One claimed piece: `folder` is kept on this machine for its build."""

    storage: Storage
    claim: Claim
    folder: Path
    device: str

    def cut(self) -> Cut:
        """Cut the training set into the inputs of the pieces, and let the model make the background tracks."""
        training = TrainingSet.load(self._inputs.path(TRAINING, self.claim.asked["training_sha256"]))
        unnamed = {song.key for song in training.songs} - set(song_keys(self._model_folder / "songs.csv"))
        if unnamed:
            raise InvalidModel(
                f"songs.csv says nothing of {len(unnamed)} songs to be indexed, such as {min(unnamed)!r}"
            )
        config, earlier = self._config(), self._earlier()
        plan = Plan.of(len(training.songs), config, earlier)
        material = Material(training, _no_tracks() if earlier else self._generated())
        pieces = list(self._maker(plan, Whole(material, plan.known)).pieces())
        new = [NewPiece(each.name, int(each.stage), each.recipe, each.segments, each.work(config)) for each in pieces]
        new.append(NewPiece(MERGE, int(Stage.MERGE), "", 0, 0.0))
        return Cut(self._kept(material, plan), new, self._subject.digest)

    def make(self, made: Sequence[Made], progress: Progress) -> str:
        """Make the claimed piece of those `made` before it, keep it in the storage, and return its digest."""
        if self.claim.stage == Stage.FORGETTING and not self.claim.asked["grows"]:
            for each in made:
                if each.name in {FISHER, TRACKS}:
                    self._inputs.path(each.name, each.sha256)
        maker = self._maker(Plan((), 0, 0, 0), self._inputs)
        with TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder) / self.claim.name
            write(path, maker.make(self.claim.name, progress), self.claim.recipe)
            return self._keep(path)

    def merge(self, made: Sequence[Made]) -> Manifest:
        """Put the index together in the model's folder. Raises BadPiece for one that is not what it should be."""
        folder = self._model_folder / "index"
        songs = [IndexedSong(**song) for song in json.loads(self._inputs.path(SONGS).read_text())]
        with held(folder):
            earlier = Manifest.read(folder) if (folder / NAME).exists() else None
            if earlier and [each.key for each in earlier.stored[-len(songs) :]] == [song.key for song in songs]:
                return earlier  # an earlier attempt ended between the manifest and the database
            for piece in made:
                self._bring(piece, folder)
            plan = Plan.of(len(songs), self._config(), earlier)
            pieces = [Piece(each.name, Stage(each.stage), each.recipe, each.segments) for each in made]
            maker = Maker(self._subject, self._config(), plan, self._inputs, folder)
            return merge(maker, pieces, songs, earlier)

    @property
    def _model_folder(self) -> Path:
        return Path(self.claim.folder)

    @property
    def _inputs(self) -> Inputs:
        return Inputs(self.storage, self.claim, self.folder)

    @property
    def _subject(self) -> Subject:
        found = _loaded(self._model_folder, self.device, self.claim.build_id, self.claim.asked["how"].get("batch"))
        if self.claim.model_digest not in {None, found.digest}:
            raise IndexMismatch(f"{self._model_folder} holds another pipeline than when the build began")
        return found

    def _earlier(self) -> Manifest | None:
        if not self.claim.asked["grows"]:
            return None
        manifest = Manifest.read(self._model_folder / "index")
        if TRACKS not in manifest.files:
            raise IndexMismatch("this index is of an earlier format and keeps no background tracks: build it anew")
        return manifest

    def _config(self) -> IndexConfig:
        earlier = self._earlier()
        return earlier.config if earlier else fresh(self.claim.asked["how"].get("config", {}))

    def _maker(self, plan: Plan, source: Whole | Inputs) -> Maker:
        folder = self._model_folder / "index" if self.claim.asked["grows"] else self.folder
        return Maker(self._subject, self._config(), plan, source, folder)

    def _generated(self) -> Segments:
        how: dict[str, Any] = self.claim.asked["how"]
        prompts = json.loads((self._model_folder / "prompts.json").read_text())["background"]
        sampling = Sampling(steps=how.get("steps", Sampling.steps))
        model = _pipeline(self._model_folder, self.device, self.claim.build_id)
        return background(model, prompts, how.get("background", 32), sampling)

    def _kept(self, material: Material, plan: Plan) -> dict[str, str]:
        """Keep every input in the storage and return their digests by name."""
        kept, training, tracks = {}, material.training, material.background
        with TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder) / "input"
            for songs in plan.shards:
                training.part(songs[0] - plan.known, songs[1] - plan.known).save(path)
                kept[file_name(PART, songs)] = self._keep(path)
            path.write_text(json.dumps([song.said() for song in indexed(training)]))
            kept[SONGS] = self._keep(path)
            if not plan.grows:
                sampled(training).save(path)
                kept[SAMPLE] = self._keep(path)
                told = {"cross": tracks.cond.cross, "told": tracks.cond.mask, "globals": tracks.cond.globals_}
                every = {"latents": tracks.latents, "mask": tracks.mask} | told
                save_file({name: value.contiguous() for name, value in every.items()}, path)
                kept[GIVEN] = self._keep(path)
        return kept

    def _keep(self, path: Path) -> str:
        checksum = file_digest(path)
        self.storage.put(path, key_of(self.claim.tenant_id, checksum))
        return checksum

    def _bring(self, piece: Made, folder: Path) -> None:
        path = folder / piece.name
        if path.exists() and file_digest(path) == piece.sha256:
            return
        try:
            fetch(self.storage, self.claim.tenant_id, piece.sha256, path)
        except (AudioCorrupt, AudioMissing) as error:
            raise BadPiece(piece.name, "what the storage keeps of it is damaged or gone") from error


def fetch(storage: Storage, tenant_id: str, sha256: str, path: Path) -> None:
    """Copy the object of a digest to `path`, whole or not at all; raises AudioMissing, AudioCorrupt."""
    with TemporaryDirectory(dir=path.parent, prefix=".fetching-") as folder:
        coming = Path(folder) / "object"
        storage.fetch(key_of(tenant_id, sha256), coming, sha256)
        coming.replace(path)


def _no_tracks() -> Segments:
    empty = torch.zeros(0, 1, 1)
    return Segments(empty, empty[:, 0], Conditioning(empty, empty[:, :, 0].bool(), empty))


@lru_cache(maxsize=1)
def _pipeline(folder: Path, device: str, _build: str) -> Any:
    return load(folder / "pipeline", chosen_device(device))


@lru_cache(maxsize=1)
def _loaded(folder: Path, device: str, build: str, batch: int | None) -> Subject:
    return subject(_pipeline(folder, device, build), folder, batch)
