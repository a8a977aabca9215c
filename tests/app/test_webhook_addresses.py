"""Where webhooks may go, and that they go nowhere else, whatever a name server or a redirect says."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.errors import InvalidRequest
from app.webhooks import addresses
from app.webhooks.addresses import PrivateAddress, UnknownHost, checked, is_public, parse
from app.webhooks.post import ANSWER_BYTES, Post
from tests.app.receiver import answer, receiving

PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),  # noqa: S104
    *("169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "fe80::1", "fe80::1%eth0"),
    *("fc00::1", "fd12::1", "fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:808:808::1", "2001:db8::1", "2001::1", "100::1"),
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_the_public_internet_is_refused(address):
    assert not is_public(address)
    with pytest.raises(PrivateAddress):
        checked("hooks.example", 443, allow_private=False, resolve=lambda *_: ["8.8.8.8", address])


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_not(address):
    assert is_public(address)
    assert checked("hooks.example", 443, allow_private=False, resolve=lambda *_: [address]) == [address]


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "https://", "https:///x", "example.com", "", "https://a:b@c/"),
        *("https://example.com/#part", "https://example.com:0/", "https://example.com:99999/", "https://[::1", "//x"),
        *("https://exa mple.com/", "https://\x00/", "https://" + "a" * 3000, "javascript:alert(1)", "https://a@b/"),
    ],
)
def test_what_is_no_plain_https_url_is_refused(url):
    with pytest.raises(InvalidRequest):
        parse(url, allow_private=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "017700000001"])
def test_no_notation_of_this_machine_is_taken_for_another(host):
    parsed = parse(f"https://{host}/", allow_private=False)
    with pytest.raises((PrivateAddress, UnknownHost)):
        checked(parsed.host, addresses.port_of(parsed), allow_private=False)


def test_a_name_that_leads_elsewhere_at_delivery_is_not_followed():
    with receiving() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        sent = Post(5.0, resolve=lambda *_: ["127.0.0.1"]).send(f"https://hooks.example:{port}/", {}, b"{}")
    assert (sent.status, sent.taken) == (None, False)
    assert sent.error.startswith("private-address")
    assert receiver.got == []


def test_a_name_is_asked_for_once_and_its_address_used():
    asked = []

    def resolve(host, port):
        asked.append(host)
        return ["127.0.0.1"]

    with receiving() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        url = f"http://hooks.example:{port}/a?b=c"
        sent = Post(5.0, allow_private=True, resolve=resolve).send(url, {"webhook-id": "1"}, b"{}")
    assert (sent.status, asked) == (204, ["hooks.example"])
    assert receiver.got[0][0]["host"] == f"hooks.example:{port}"


def test_redirects_are_answers_like_any_other():
    with receiving() as elsewhere, receiving(answer(302, Location=elsewhere.url)) as receiver:
        sent = Post(5.0, allow_private=True).send(receiver.url, {}, b"{}")
    assert (sent.status, sent.taken, elsewhere.got) == (302, False, [])


def test_an_answer_is_read_to_its_bound_and_shown_without_what_cannot_be():
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(10_000):
            handler.wfile.write(b"a\x00" * 4096)

    with receiving(endless) as receiver:
        sent = Post(10.0, allow_private=True).send(receiver.url, {}, b"{}")
    assert (sent.status, sent.taken) == (200, True)
    assert len(sent.body) <= ANSWER_BYTES
    assert "\x00" not in sent.body


def test_a_receiver_that_drips_is_left_after_the_whole_time_is_over():
    def drip(handler):
        for each in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            handler.wfile.write(bytes([each]))
            time.sleep(0.1)

    with receiving(drip) as receiver:
        began = time.monotonic()
        sent = Post(1.0, allow_private=True).send(receiver.url, {}, b"{}")
        assert time.monotonic() - began < 3.0
    assert sent.status is None
    assert "Timeout" in sent.error


def test_what_answers_nonsense_or_nothing_is_an_error_and_no_exception():
    def nonsense(handler):
        handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")

    with receiving(nonsense) as receiver:
        assert Post(2.0, allow_private=True).send(receiver.url, {}, b"{}").status is None
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        assert "Connect" in Post(2.0, allow_private=True).send(url, {}, b"{}").error
    assert Post(2.0).send("https://no-such-host.invalid/", {}, b"{}").error.startswith("unknown-host")


def _certificate(folder, name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    moment = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    kind = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "pem").write_bytes(key.private_bytes(*kind) + made.public_bytes(serialization.Encoding.PEM))
    return str(folder / "pem")


def test_a_certificate_is_checked_against_the_name_although_the_address_is_pinned(tmp_path):
    pem = _certificate(tmp_path, "hooks.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    trusting = ssl.create_default_context(cafile=pem)
    with receiving(tls=server) as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        post = Post(5.0, allow_private=True, resolve=lambda *_: ["127.0.0.1"], tls=trusting)
        assert post.send(f"https://hooks.example:{port}/", {}, b"{}").status == 204
        assert post.send(f"https://other.example:{port}/", {}, b"{}").status is None
        unknown = Post(5.0, allow_private=True, resolve=lambda *_: ["127.0.0.1"])
        assert unknown.send(f"https://hooks.example:{port}/", {}, b"{}").status is None
