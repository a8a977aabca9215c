"""The commands `rootnote index …`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app import indexing, show
from app.builds.service import Standing
from app.cli import options
from app.config import Settings
from app.indexing import Wanted

index = typer.Typer(help="The models' indexes.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A model's folder.")]
Training = Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Songs, as `encode` writes them.")]
Name = Annotated[str | None, typer.Option(help="The model's name; by default the folder's.")]
Wait = Annotated[bool, typer.Option(help="Show the progress until the end.")]
Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys of songs.")]


@index.command()
def encode(
    folder: Folder,
    audio: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of the recordings.")],
    out: Annotated[Path, typer.Option(help="The training set to write.")] = Path("training.safetensors"),
    without: Annotated[Path | None, typer.Option(exists=True, help="A training set whose songs are left out.")] = None,
) -> None:
    """Encode the songs that a model was trained on, as its songs.csv names them."""
    indexing.encode(folder, audio, out, without, options.say)


@index.command()
def build(  # noqa: PLR0913  a command's options are its interface
    folder: Folder,
    training: Training,
    name: Name = None,
    background: Annotated[int, typer.Option(min=1, help="Unrelated tracks to generate.")] = 32,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps of those.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples in one pass; else what suits the device.")] = None,
    config: Annotated[Path | None, typer.Option(exists=True, help="JSON with what differs from the default.")] = None,
    wait: Wait = True,
) -> None:
    """Have the builders make a model's first index, and register the model."""
    how: dict[str, Any] = {"background": background}
    how |= {"batch": batch} if batch else {}
    how |= {"steps": steps} if steps else {}
    how |= {"config": json.loads(config.read_text())} if config else {}
    _begin(Wanted(folder, training, name, grows=False, how=how), wait=wait)


@index.command()
def add(
    folder: Folder,
    training: Training,
    name: Name = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples in one pass; else what suits the device.")] = None,
    wait: Wait = True,
) -> None:
    """Have the builders add songs to an index; no other song's score moves."""
    _begin(Wanted(folder, training, name, grows=True, how={"batch": batch} if batch else {}), wait=wait)


@index.command()
def status(model: Annotated[str, typer.Argument(help="A model's name, or a build's id.")], wait: Wait = False) -> None:
    """Show how far a build is."""
    if wait:
        _follow(model)
    else:
        _Lines()(indexing.look(Settings(), model))


@index.command()
def remove(folder: Folder, keys: Keys, name: Name = None) -> None:
    """Take songs down: new answers never rank them again, old reports stay."""
    _change(folder, name, "remove", *keys)


@index.command()
def merge(
    folder: Folder,
    keys: Keys,
    into: Annotated[str, typer.Option(help="Key of the song that they are duplicates of.")],
    name: Name = None,
) -> None:
    """Count duplicates under one song."""
    _change(folder, name, "merge", *keys, "--into", into)


@index.command()
def upgrade(folder: Folder, name: Name = None) -> None:
    """Bring an index of an earlier format to the present one."""
    _change(folder, name, "upgrade")


@index.command()
def requantise(folder: Folder, name: Name = None) -> None:
    """Keep an index's rows in four bits a number: half the bytes. Earlier versions stay as they are."""
    _change(folder, name, "requantise")


@index.command()
def verify(folder: Folder) -> None:
    """Digest every file of an index again."""
    _change(folder, None, "verify")


@index.command()
def versions(folder: Folder) -> None:
    """List an index's versions, the newest first."""
    _change(folder, None, "versions")


class _Lines:
    """Says how far a build is, a line whenever that changes."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, seen: Standing) -> None:
        end = f", until about {seen.eta:%Y-%m-%d %H:%M} UTC" if seen.eta else ""
        line = f"{seen.name}: {seen.status}, {seen.progress:.0%} ({seen.pieces_done} of {seen.pieces} pieces{end})"
        if line != self._told:
            options.say(line)
        self._told = line


def _begin(wanted: Wanted, *, wait: bool) -> None:
    settings = Settings()
    ident = indexing.begin(settings, wanted)
    show.console().print(f"Build {ident}")
    if wait:
        _follow(ident)


def _follow(named: str) -> None:
    end = indexing.follow(Settings(), named, _Lines())
    show.console().print(f"Index {end.index_digest}")


def _change(folder: Path, name: str | None, *what: str) -> None:
    indexing.change(Settings(), folder, name, what, options.say)
