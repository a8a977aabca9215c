"""Which names and addresses mean this machine alone."""

import ipaddress

_NAME = "localhost"


def name_of(host: str) -> str:
    """Return the name in a Host header, without its port."""
    return host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]


def is_loopback(name: str) -> bool:
    """Whether a name or an address is reached from this machine alone."""
    if name.lower() == _NAME:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
