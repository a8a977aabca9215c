"""Where deliveries may go: the public internet, and nothing that lies behind it, under whatever notation."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING

import httpx

from app.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Resolve = Callable[[str, int], list[str]]

LONGEST_URL = 2_000
_HOST = re.compile(rb"[a-zA-Z0-9._:-]+")
_REFUSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # this network
            "100.64.0.0/10",  # shared by carriers
            "192.0.0.0/24",  # assignments of the protocol
            "192.88.99.0/24",  # 6to4 relays
            "240.0.0.0/4",
            "::/96",  # IPv4-compatible
            "64:ff9b::/96",  # NAT64
            "64:ff9b:1::/48",
            "100::/64",  # discarded
            "2001::/23",  # Teredo and other assignments of the protocol
            "2002::/16",  # 6to4
            "fec0::/10",  # site-local
        ),
    )
)


class PrivateAddress(InvalidRequest):
    """An address that a webhook may not go to."""

    type, title = "private-address", "This address is not on the public internet"


class UnknownHost(InvalidRequest):
    """A name that leads nowhere."""

    type, title = "unknown-host", "This host has no address"


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; an IPv4 address inside an IPv6 one counts as itself."""
    found: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    refused = any(found in network for network in _REFUSED if network.version == found.version)
    return found.is_global and not found.is_multicast and not found.is_reserved and not refused


def system_resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system knows them; raises UnknownHost."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnknownHost(f"{host} has no address") from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def checked(host: str, port: int, *, allow_private: bool, resolve: Resolve = system_resolve) -> list[str]:
    """The addresses of a host, each of them allowed; raises PrivateAddress where one is not, UnknownHost."""
    found = resolve(host, port)
    if not found:
        raise UnknownHost(f"{host} has no address")
    if not allow_private and not all(map(is_public, found)):
        raise PrivateAddress(f"{host} leads to an address that is not on the public internet")
    return found


def parse(url: str, *, allow_private: bool) -> httpx.URL:
    """An endpoint's URL; raises InvalidRequest for one that is not plain https (with `allow_private`: or http)."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise InvalidRequest("url: this is not a URL") from error
    if parsed.scheme not in ({"https", "http"} if allow_private else {"https"}) or not parsed.host:
        raise InvalidRequest("url: it has to begin with https://")
    sound = _HOST.fullmatch(parsed.raw_host) and 0 < port_of(parsed) < 65_536 and len(str(parsed)) <= LONGEST_URL
    if parsed.userinfo or parsed.fragment or not sound:
        raise InvalidRequest("url: a host and a port that can be, no user, no fragment, at most 2000 characters")
    return parsed


def port_of(url: httpx.URL) -> int:
    """The port of a URL, its scheme's own where it names none."""
    return {"https": 443, "http": 80}[url.scheme] if url.port is None else url.port
