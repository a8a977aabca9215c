"""`rootnote demo`: the whole service on a track made this minute, from upload to history."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from app import show
from app.attributions.schemas import Attribution
from app.attributions.waiting import ENDED
from app.catalogue.schemas import Song
from app.client import Client, Track
from app.config import Settings
from app.errors import Unavailable
from app.supervisor import ProgramFailed, end, start, tail

READY_SECONDS = 300.0
LOOK_SECONDS = 0.25
STOP_SECONDS = 60.0
SHOWN = 10
SEED = 1
TAKES = 3


@dataclass(frozen=True)
class Asked:
    """A track to be made by the model in `folder`; seconds: None for as long as the model makes them.

    Further takes are made under the seeds that follow, beside the first one as NAME-2, NAME-3, …
    """

    folder: Path
    prompt: str
    seed: int = 0
    seconds: float | None = None
    takes: int = 1


class NotGenerated(Unavailable):
    """The model made no track."""

    type, title = "not-generated", "No track could be generated"


def run(known: Settings, out: Console) -> None:
    """Start the service, generate a track, have it attributed over HTTP, show the result; on a terminal, go on serving.

    Raises ServiceError where a step fails.
    """
    settings = Settings(data_dir=known.data_dir / "demo", host=known.host, port=free_port(known.host, known.port))
    address = f"http://{settings.host}:{settings.port}"
    _step(out, 1, f"Starting Rootnote on {settings.data_dir}: database, broker, worker, API; nothing to install")
    with service(settings) as serving, Client(address) as client:
        track, *others = _generated(settings, out)
        await_ready(client, serving, settings)
        _step(out, 3, f"POST {address}/v1/attributions (audio={track.path.name}, method={track.method})")
        with show.progress(out) as watch:
            attribution = client.attribute(track, watch)
        waiting = [client.post(other).id for other in others]
        song = _ranked(client, attribution, out)
        _history(client, song, waiting, out)
        _step(out, 6, "Pages to look at, and to listen to")
        for name, path in (
            ("report", f"/attributions/{attribution.id}"),
            ("song", f"/songs/{song.id}"),
            ("upload", "/"),
        ):
            out.print(f"{name}: {address}{path}", soft_wrap=True)
        if out.is_terminal:
            out.print(f"Still serving: {address}/docs (data in {settings.data_dir}; Ctrl-C stops)", soft_wrap=True)
            _until_stopped(serving)
    out.print("Stopped.")


def free_port(host: str, wanted: int) -> int:
    """Return the wanted port where it is free, else one that is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable(f"no free port on {host}")


@contextmanager
def service(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run `rootnote up` as a child, stopped at the end whatever happens."""
    place = {"DATA_DIR": str(settings.data_dir), "HOST": settings.host, "PORT": str(settings.port)}
    environment = {f"ROOTNOTE_{name}": value for name, value in place.items()}
    process = start((sys.executable, "-m", "app.cli", "up"), _log(settings), environment)
    try:
        yield process
    finally:
        end(process, STOP_SECONDS)


def await_ready(client: Client, serving: subprocess.Popen[bytes], settings: Settings) -> None:
    """Return once the service is ready, its model loaded. Raises ProgramFailed with its last words."""
    limit, log = time.monotonic() + READY_SECONDS, _log(settings)
    while not client.ready():
        if serving.poll() is not None or time.monotonic() > limit:
            raise ProgramFailed(f"the service did not get ready; its logs are in {log.parent}\n{tail(log)}")
        time.sleep(LOOK_SECONDS)


def generate(asked: Asked, out: Path) -> None:
    """Let a model make a track, in a process of its own. Raises NotGenerated with its last words."""
    if not (asked.folder / "pipeline").is_dir():
        raise NotGenerated(f"{asked.folder} is not the folder of a model: it has no pipeline/")
    what = ("--model", str(asked.folder), "--prompt", asked.prompt, "--seed", str(asked.seed), "--out", str(out))
    length = () if asked.seconds is None else ("--seconds", str(asked.seconds))
    command = (sys.executable, "-m", "worker.generate", *what, *length, "--takes", str(asked.takes))
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise NotGenerated(words[-1] if words else f"exit status {done.returncode}")


def _ranked(client: Client, attribution: Attribution, out: Console) -> Song:
    """Show the songs behind a track and return the first."""
    rows = list(islice(client.influences(attribution.id), SHOWN))
    _step(out, 4, f"GET /v1/attributions/{attribution.id}/influences")
    show.ranking(out, attribution, rows)
    return client.song(rows[0].song.id)


def _history(client: Client, song: Song, waiting: list[str], out: Console) -> None:
    """Show a song's history once the other takes have ended too."""
    limit = time.monotonic() + READY_SECONDS
    for ident in waiting:
        while client.get(ident).status not in ENDED and time.monotonic() < limit:
            time.sleep(LOOK_SECONDS)
    _step(out, 5, f"GET /v1/songs/{song.id}/influences, after two more takes under the same prompt")
    show.history(out, song, islice(client.history(song.id), SHOWN))


def _until_stopped(serving: subprocess.Popen[bytes]) -> None:
    with suppress(KeyboardInterrupt):
        serving.wait()


def _step(out: Console, number: int, words: str) -> None:
    out.print(f"[bold]{number}.[/] {escape(words)}", soft_wrap=True)


def _generated(settings: Settings, out: Console) -> list[Track]:
    """Let the model make a track and two more takes of it."""
    folder = settings.models[0]
    prompt = _prompt(folder / "prompts.json")
    _step(out, 2, f'Generating a track with the model in {folder}: "{prompt}"')
    path = settings.data_dir / "generated.wav"
    generate(Asked(folder, prompt, SEED, takes=TAKES), path)
    paths = (path, *(path.with_stem(f"{path.stem}-{take}") for take in range(2, TAKES + 1)))
    return [Track(each, prompt=prompt, method="index") for each in paths]


def _prompt(path: Path) -> str:
    """Return the prompt that the model's folder names for a demonstration. Raises NotGenerated."""
    try:
        return str(json.loads(path.read_text())["demo"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise NotGenerated(f"{path} names no prompt: {error!r}") from error


def _log(settings: Settings) -> Path:
    return settings.data_dir / "logs" / "up.log"
