"""Who the client is when proxies stand between: ``X-Forwarded-For``, believed of the proxies we were told of alone.

Each proxy appends the address that spoke to it, and a client may begin the list with whatever it likes. So it is read
from its end, and only as long as the one that wrote the entry is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Networks = Sequence[IPv4Network | IPv6Network]


def client_address(peer: str, headers: Sequence[tuple[bytes, bytes]], trusted: Networks) -> str:
    """The nearest address that is no trusted proxy's; ``peer`` is whose connection it is."""
    nearest = _address(peer)
    entries = [entry for name, value in headers if name == b"x-forwarded-for" for entry in value.split(b",")]
    while nearest is not None and entries and any(nearest in network for network in trusted):
        written = _address(entries.pop().decode("latin-1").strip())
        if written is None:  # a proxy that hides its clients, or writes what we can't read: it stands for them all
            break
        nearest = written
    return peer if nearest is None else str(nearest)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: perhaps in brackets, perhaps with a port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
