"""The API at a real address, for clients."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tests.processes import until


@contextmanager
def serving(app: ASGIApp, **options: Any) -> Iterator[str]:
    """Serve an application from a thread; yields its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, **({"log_level": "warning"} | options)))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, 20.0)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(20.0)
