"""Commands that post tracks and read what was found."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from app import demo as demonstration
from app import show
from app.cli import options
from app.cli.options import File, Url
from app.client import Client, Track
from app.errors import InvalidRequest, NotFound

SHOWN = 20


def attribute(  # noqa: PLR0913  a command's options are its interface
    file: File,
    prompt: Annotated[str | None, typer.Option(help="What the model was told.")] = None,
    method: Annotated[str | None, typer.Option(help="index or unlearn.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of a registered model.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many songs to show.")] = 10,
    url: Url = None,
) -> None:
    """Post a track and show which songs influenced it."""
    out = show.console()
    with options.connect(url) as client:
        with show.progress(out) as watch:
            done = client.attribute(Track(file, prompt=prompt, method=method, model=model, top_k=top), watch)
        show.ranking(out, done, islice(client.influences(done.id), top))


def history(
    song: Annotated[str, typer.Argument(help="An ISRC, or a song's id.")],
    rows: Annotated[int, typer.Option(min=1, help="How many tracks to show.")] = SHOWN,
    url: Url = None,
) -> None:
    """Show in which tracks a song was found."""
    with options.connect(url) as client:
        for found in _found(client, song):
            show.history(show.console(), found, islice(client.history(found.id), rows))


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
