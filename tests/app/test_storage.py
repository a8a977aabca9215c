"""One behaviour on a local folder, in memory and over the S3 protocol; what is missing is not what does not answer."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from app.errors import AudioCorrupt, AudioMissing, Empty, StorageUnavailable, TooLarge
from app.storage import Storage, key_of, spool

DATA = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(DATA).hexdigest()
KEY = key_of("default", SHA256)


class ObjectServer(BaseHTTPRequestHandler):
    """As much of the S3 protocol as objects need."""

    objects: ClassVar[dict[str, bytes]] = {}
    protocol_version = "HTTP/1.1"
    refuse = False

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.objects[self.path] = body
        self._answer(200)

    def do_GET(self):
        body = self.objects.get(self.path)
        self._answer(404 if body is None else 200, body or b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        keys = re.findall(rb"<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"])))
        for key in keys:
            self.objects.pop(f"/bucket/{key.decode()}", None)
        deleted = b"".join(b"<Deleted><Key>%s</Key></Deleted>" % key for key in keys)
        self._answer(200, b"<DeleteResult>%s</DeleteResult>" % deleted)

    def _answer(self, status, body=b""):
        if self.refuse:
            status, body = 403, b"<Error><Code>AccessDenied</Code></Error>"
        self.send_response(status)
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        """Quietly."""


@pytest.fixture
def s3(monkeypatch):
    handler = type("Handler", (ObjectServer,), {"objects": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    variables = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}
    variables["ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
    for name, value in variables.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["folder", "folder with odd name", "memory", "s3"])
def storage(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
    names = {"folder": "objects", "folder with odd name": "ob jects %20#é?"}
    urls = {"memory": "memory:///", "s3": "s3://bucket/some/prefix"}
    return Storage.open(urls.get(request.param) or f"file://{tmp_path / names[request.param]}")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def test_what_is_put_comes_back_whole(storage, file, tmp_path):
    storage.put(file, KEY)
    storage.put(file, KEY)
    storage.fetch(KEY, tmp_path / "back", SHA256)
    assert (tmp_path / "back").read_bytes() == DATA
    assert b"".join(storage.read(KEY)) == DATA
    storage.check()


def test_what_was_never_put_or_deleted_is_missing_and_trying_again_is_no_use(storage, file, tmp_path):
    with pytest.raises(AudioMissing) as raised:
        storage.fetch(KEY, tmp_path / "back")
    assert not raised.value.retryable
    storage.put(file, KEY)
    storage.delete(KEY)
    storage.delete(KEY)
    with pytest.raises(AudioMissing):
        b"".join(storage.read(KEY))


def test_changed_bytes_are_noticed(storage, file, tmp_path):
    file.write_bytes(DATA[:-1] + b"x")
    storage.put(file, KEY)
    with pytest.raises(AudioCorrupt):
        storage.fetch(KEY, tmp_path / "back", SHA256)


def _every_call(storage, file, tmp_path):
    yield lambda: storage.put(file, KEY)
    yield lambda: storage.fetch(KEY, tmp_path / "back")
    yield lambda: storage.delete(KEY)
    yield storage.check


def _dead_folder(tmp_path, request):
    storage = Storage.open(f"file://{tmp_path / 'objects'}")
    shutil.rmtree(tmp_path / "objects")
    (tmp_path / "objects").write_text("a file where the folder was")
    return storage


def _dead_s3(tmp_path, request):
    request.getfixturevalue("s3")
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    return Storage.open("s3://bucket")


def _refusing_s3(tmp_path, request):
    request.getfixturevalue("s3").refuse = True
    return Storage.open("s3://bucket")


@pytest.mark.parametrize("dead", [_dead_folder, _dead_s3, _refusing_s3])
def test_a_storage_that_does_not_answer_is_worth_another_try(dead, request, file, tmp_path):
    storage = dead(tmp_path, request)
    for call in _every_call(storage, file, tmp_path):
        with pytest.raises(StorageUnavailable) as raised:
            call()
        assert raised.value.retryable


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/x", "file:///proc/nothing/here"])
def test_an_address_that_is_none_is_a_typed_error(url):
    with pytest.raises(StorageUnavailable):
        Storage.open(url)


def test_spooling_counts_and_digests(tmp_path):
    spooled = spool([DATA[:5], b"", DATA[5:]], tmp_path / "spool", len(DATA))
    assert (spooled.sha256, spooled.bytes, spooled.path.read_bytes()) == (SHA256, len(DATA), DATA)


def test_spooling_stops_at_the_cap_without_reading_on(tmp_path):
    read = []

    def endless():
        while True:
            read.append(1)
            yield bytes(1000)

    with pytest.raises(TooLarge):
        spool(endless(), tmp_path / "spool", 10_000)
    assert len(read) == 11
    assert (tmp_path / "spool").stat().st_size <= 10_000


def test_nothing_is_empty(tmp_path):
    with pytest.raises(Empty):
        spool([], tmp_path / "spool", 10)
