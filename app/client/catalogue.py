"""Songs, their history, the holders of their rights, and models."""

from collections.abc import Iterator
from pathlib import Path

from app.catalogue.holder_schemas import Holder, HolderPage
from app.catalogue.model_schemas import Model, ModelPage
from app.catalogue.policy_schemas import ModelAudit, PolicyPage, PolicyStatement
from app.catalogue.schemas import HistoryPage, HistoryRow, ImportReport, Song, SongPage
from app.client import connection
from app.client.connection import Connection, read


class Catalogue(Connection):
    """The calls about the catalogue."""

    def songs(self, **wanted: str) -> Iterator[Song]:
        """Yield the songs of the catalogue; `wanted` are the list's own filters: isrc, artist, q, key."""
        yield from self.items(SongPage, "/v1/songs", wanted)

    def song(self, song_id: str) -> Song:
        """Return one song."""
        return read(Song, self.call("GET", f"/v1/songs/{song_id}"))

    def import_songs(self, source: Path | bytes, *, dry_run: bool = False) -> ImportReport:
        """Add or change the songs of a CSV file, or of its bytes. Raises OSError when it cannot be read."""
        data = source if isinstance(source, bytes) else source.read_bytes()
        wanted, kind = {"dry_run": str(dry_run).lower()}, {"Content-Type": "text/csv"}
        answer = self.call("POST", "/v1/songs/import", content=data, params=wanted, headers=kind)
        return read(ImportReport, answer)

    def put_audio(self, song_id: str, path: Path) -> Song:
        """Store a file as a song's recording. Raises OSError when it cannot be read."""
        with path.open("rb") as file:
            return read(Song, self.call("PUT", f"/v1/songs/{song_id}/audio", content=file))

    def policies(self, song_id: str) -> Iterator[PolicyStatement]:
        """Yield what was stated of a song's training policy, the newest first."""
        yield from self.items(PolicyPage, f"/v1/songs/{song_id}/policies")

    def history(self, song_id: str) -> Iterator[HistoryRow]:
        """Yield the tracks that a song was found in, the newest first."""
        yield from self.items(HistoryPage, f"/v1/songs/{song_id}/influences")

    def holders(self, **wanted: str) -> Iterator[Holder]:
        """Yield rights-holders; `wanted` is the list's own filter: q."""
        yield from self.items(HolderPage, "/v1/holders", wanted)

    def holder(self, holder_id: str) -> Holder:
        """Return one rights-holder."""
        return read(Holder, self.call("GET", f"/v1/holders/{holder_id}"))

    def holder_songs(self, holder_id: str) -> Iterator[Song]:
        """Yield the songs that a holder has rights in."""
        yield from self.items(SongPage, f"/v1/holders/{holder_id}/songs")

    def audit(self, model: str, **wanted: str) -> ModelAudit:
        """Say which songs a model was trained on without permission, all of them; `wanted`: at."""
        path, query = f"/v1/models/{model}/audit", {"limit": str(connection.PAGE_ROWS), **wanted}
        whole = read(ModelAudit, self.call("GET", path, params=query))
        page = whole
        while page.next_cursor is not None:
            page = read(ModelAudit, self.call("GET", path, params=query | {"cursor": page.next_cursor}))
            whole.items += page.items
        return whole.model_copy(update={"next_cursor": None})

    def models(self) -> Iterator[Model]:
        """Yield the registered models, the newest first."""
        yield from self.items(ModelPage, "/v1/models")
