"""Commands that post tracks and read what was found."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from app import demo as demonstration
from app import show
from app.attributions.influence_schemas import InfluenceRow
from app.attributions.schemas import Attribution
from app.catalogue.schemas import HistoryRow, Song
from app.cli import options
from app.cli.options import File, Json, Url
from app.client import Client, Track
from app.errors import InvalidRequest, NotFound

SHOWN = 20

Top = Annotated[int, typer.Option(min=1, max=1000, help="How many songs to show.")]


class Found(BaseModel):
    """What `--json` says of an attribution that has ended."""

    attribution: Attribution
    influences: list[InfluenceRow]


class FoundIn(BaseModel):
    """What `--json` says of a song's history."""

    song: Song
    influences: list[HistoryRow]


def attribute(  # noqa: PLR0913  a command's options are its interface
    file: File,
    prompt: Annotated[str | None, typer.Option(help="What the model was told.")] = None,
    method: Annotated[str | None, typer.Option(help="index or unlearn.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of a registered model.")] = None,
    external_id: Annotated[str | None, typer.Option(help="Your own name for the track.")] = None,
    top: Top = 10,
    wait: Annotated[bool, typer.Option(help="Follow it to its end; else only say that it is queued.")] = True,
    json: Json = False,
    url: Url = None,
) -> None:
    """Post a track and show which songs influenced it."""
    track = Track(file, prompt=prompt, method=method, model=model, external_id=external_id, top_k=top)
    with options.connect(url) as client:
        if wait:
            with show.progress(show.console(stderr=json)) as watch:
                done = client.attribute(track, watch)
            _ended(client, done, top, json)
        else:
            _queued(client.post(track), json)


def wait(
    attribution: Annotated[str, typer.Argument(help="An attribution's id.")],
    top: Top = 10,
    json: Json = False,
    url: Url = None,
) -> None:
    """Follow an attribution to its end and show which songs influenced the track."""
    with options.connect(url) as client:
        with show.progress(show.console(stderr=json)) as watch:
            done = client.follow(attribution, watch)
        _ended(client, done, top, json)


def history(
    song: Annotated[str, typer.Argument(help="An ISRC, or a song's id.")],
    rows: Annotated[int, typer.Option(min=1, help="How many tracks to show.")] = SHOWN,
    json: Json = False,
    url: Url = None,
) -> None:
    """Show in which tracks a song was found."""
    with options.connect(url) as client:
        for found in _found(client, song):
            tracks = islice(client.history(found.id), rows)
            if json:
                options.as_json(FoundIn(song=found, influences=list(tracks)))
            else:
                show.history(show.console(), found, tracks)


def generate(
    prompt: Annotated[str, typer.Argument(help="What the track shall be.")],
    out: Annotated[Path, typer.Option(help="The .wav file to write.")] = Path("generated.wav"),
    seed: Annotated[int, typer.Option(help="Equal seeds give equal tracks.")] = 0,
    seconds: Annotated[float | None, typer.Option(help="Length; at most the model's own window.")] = None,
    folder: Annotated[Path | None, typer.Option(help="A model's folder; by default the first one set.")] = None,
) -> None:
    """Let a registered model make a track."""
    asked = demonstration.Asked(folder or options.settings().models[0], prompt, seed, seconds)
    demonstration.generate(asked, out)
    options.say(f"Wrote {out}")


def _ended(client: Client, done: Attribution, top: int, json: bool) -> None:
    rows = islice(client.influences(done.id), top)
    if json:
        options.as_json(Found(attribution=done, influences=list(rows)))
    else:
        show.ranking(show.console(), done, rows)


def _queued(seen: Attribution, json: bool) -> None:
    if json:
        options.as_json(seen)
    else:
        options.say(f"{seen.id} is {seen.status}; rootnote wait {seen.id}")


def _found(client: Client, named: str) -> list[Any]:
    """Return the songs of an id or an ISRC. Raises NotFound."""
    try:
        return [client.song(named)]
    except NotFound:
        try:
            found = list(client.songs(isrc=named))
        except InvalidRequest:
            found = []
        if not found:
            raise NotFound(f"{named} is neither the id nor the ISRC of a song") from None
        return found
