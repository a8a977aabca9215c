"""A request that never ends is not held in memory, and an ordinary one is read whole."""

from __future__ import annotations

import socket
import threading
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest
import uvicorn

from app.protocol import LONGEST_HEAD, BoundedProtocol
from tests.app.live import serving
from tests.processes import until

PIECE = b"x" * 1024


async def echo(scope, receive, send):
    """Answer with the length of what came."""
    assert scope["type"] == "http"
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    body = b"%d" % length
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def connection():
    with serving(echo, http=BoundedProtocol, lifespan="off") as url:
        where = urlsplit(url)
        with socket.create_connection((where.hostname, where.port), timeout=20.0) as made:
            yield made


def test_an_answer_leaves_at_once_from_a_socket_that_processes_share_too():
    """A socket made without naming TCP, as uvicorn makes it for several processes: asyncio then leaves Nagle on."""
    server = uvicorn.Server(uvicorn.Config(echo, http=BoundedProtocol, lifespan="off", log_level="warning"))
    with socket.socket() as shared:
        shared.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [shared]})
        thread.start()
        try:
            until(lambda: server.started, 20.0)
            with socket.create_connection(shared.getsockname()):
                (made,) = until(lambda: list(server.server_state.connections), 20.0)
                option = made.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        finally:
            server.should_exit = True
            thread.join(20.0)
    assert option


def answer_of(connection):
    """The status and the body of the next answer."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def poured(connection, begin, piece):
    """Send `piece` again and again behind `begin`; return how much was sent before that was refused."""
    connection.sendall(begin)
    sent = 0
    while sent < 64 * LONGEST_HEAD:
        try:
            connection.sendall(piece)
        except OSError:
            break
        sent += len(piece)
    return sent


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", PIECE),
        (b"GET / HTTP/1.1\r\nX: ", PIECE),
        (b"GET / HTTP/1.1\r\n", b"X: " + PIECE + b"\r\n"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X: " + PIECE + b"\r\n"),
    ],
    ids=["address", "header", "headers", "trailers"],
)
def test_a_head_that_does_not_end_is_refused(connection, begin, piece):
    assert poured(connection, begin, piece) < 64 * LONGEST_HEAD


def test_a_head_that_is_too_long_is_told_so(connection):
    connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (LONGEST_HEAD + 1))
    assert answer_of(connection)[0] == 400


def test_a_body_may_be_longer_than_a_head_and_come_in_small_parts(connection):
    parts = b"".join(b"1\r\nx\r\n" for _ in range(LONGEST_HEAD))
    connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n")
    assert answer_of(connection) == (200, b"%d" % LONGEST_HEAD)


def test_many_short_requests_are_not_one_long_one(connection):
    request = b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 4096 + b"\r\n\r\n"
    for _ in range(2 * LONGEST_HEAD // len(request)):
        connection.sendall(request)
        assert answer_of(connection) == (200, b"0")
