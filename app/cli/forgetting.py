"""Let the model forget a song, and show what that does to a track."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app import show
from app.attributions.influence_schemas import SongName
from app.cli import options
from app.cli.options import Url
from app.counterfactuals.schemas import Counterfactual, Forgotten, Result, Shift

_SEED = "Of the generation; left out: the attribution's, or 0."


def forget(  # noqa: PLR0913  a command's options are its interface
    attribution: Annotated[str, typer.Argument(help="Id of the attribution.")],
    song: Annotated[str, typer.Option(help="Id of the song that the model shall forget.")],
    prompt: Annotated[str | None, typer.Option(help="What the track was made from, where not known.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help=_SEED)] = None,
    out: Annotated[Path | None, typer.Option(help="A folder to write the recordings to.")] = None,
    url: Url = None,
) -> None:
    """Make a track again with a model that forgot a song, and beside it a control song."""
    console, told = show.console(), set[str]()

    def watch(seen: Counterfactual) -> None:
        word = str(seen.stage or seen.status)
        if word not in told:
            told.add(word)
            console.print(f"  {word}")

    with options.connect(url) as client:
        done = client.forget(attribution, song, prompt, seed, watch)
        if done.result is not None:
            _show(console, done, done.result)
        if done.result is not None and out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for take in done.result.audio:
                client.take(done.id, take, out / f"{take}.flac")
                options.say(f"Wrote {out / f'{take}.flac'}")


def _show(console: Console, done: Counterfactual, result: Result) -> None:
    """Show what moved without the song, beside what moved without the control song."""
    table = Table(title=f"Track of {done.attribution_id} made again, seed {done.seed}", title_justify="left")
    for name in ("forgotten", "title", "artist"):
        table.add_column(name, overflow="fold")
    for name in ("track's loss", "90 %", "own loss", "sound, dB"):
        table.add_column(name, justify="right", no_wrap=True)
    _row(table, "the song", done.song, result.song)
    if done.control is not None and result.control is not None:
        _row(table, f"control, by {done.control.matched_by}", done.control.song, result.control)
    console.print(table)
    console.print(f"the track's loss with nothing forgotten: {result.loss:.4g}")
    if result.difference is not None:
        console.print(
            f"the song's change less the control's: {result.difference.mean:+.4f} ({_between(result.difference)})"
        )
    if result.likeness is not None:
        console.print(
            f"the track made again with nothing forgotten is {result.likeness.spectral_db:.1f} dB from the track"
        )


def _row(table: Table, name: str, song: SongName, found: Forgotten) -> None:
    sound = "–" if found.apart is None else f"{found.apart.spectral_db:.1f}"
    numbers = (f"{found.change.mean:+.4f}", _between(found.change), f"{found.own.mean:+.3f}", sound)
    table.add_row(name, escape(song.title), escape(song.artist), *numbers)


def _between(shift: Shift) -> str:
    return f"{shift.low:+.4f} to {shift.high:+.4f}"
