"""What the values of `head:` may be."""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass

from pibake.config import values, wire
from pibake.config.problems import Bad, nearest, show

DHCP = "dhcp"
PROTOCOLS = ("tcp", "udp")
MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){2,}")
PORT_HINT = "write it like 443, 51820/udp or 30000-32767"


@dataclass(frozen=True, order=True)
class Opening:
    """Ports of a protocol, "tcp" or "udp": one, or a range with both its ends."""

    protocol: str
    first: int
    last: int

    def __str__(self) -> str:
        """Return it as cluster.yaml has it."""
        ports = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return ports if self.protocol == "tcp" else f"{ports}/{self.protocol}"

    def meets(self, other: Opening) -> bool:
        """Return whether both have a port in common."""
        return self.protocol == other.protocol and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Target:
    """Where a port leads: an address, and a port there; None is the same port."""

    address: ipaddress.IPv4Address
    port: int | None


SSH = Opening("tcp", 22, 22)
"""Open unless cluster.yaml says otherwise: nodes take keys only, and a head that nobody reaches is of little use."""


@functools.lru_cache(maxsize=64)
def port(text: str) -> str:
    """Return the MAC address or the name of a port."""
    if MAC.fullmatch(text):
        return values.mac(text)
    if re.fullmatch(r"(wlan|wlp|wlx)\w*", text):
        raise Bad(
            f"{text} is a Wi-Fi port", "write `wifi: {ssid: ..., psk: ..., country: ...}` in place of `port`"
        )
    return wire.interface(text)


@functools.lru_cache(maxsize=64)
def address(text: str) -> ipaddress.IPv4Interface | None:
    """Return a fixed address with its prefix; None is "dhcp"."""
    if text == DHCP:
        return None
    if hint := nearest(text, [DHCP]):
        raise Bad(f"{show(text)} is neither dhcp nor an address", hint)
    found = values.address(text)
    if not isinstance(found, ipaddress.IPv4Address):
        raise Bad(
            f"{found} is an IPv6 address, and the way out is IPv4", "write it like 203.0.113.5/24, or dhcp"
        )
    if "/" not in text:
        raise Bad(f"{text} has no prefix", f"write {text}/24, or whatever the network there has")
    return ipaddress.IPv4Interface(text)


@functools.lru_cache(maxsize=64)
def ip4(text: str) -> ipaddress.IPv4Address:
    """Return a bare IPv4 address."""
    found = values.ip(text)
    if not isinstance(found, ipaddress.IPv4Address):
        raise Bad(f"{found} is an IPv6 address, and the way out is IPv4", "write it like 203.0.113.1")
    return found


@functools.lru_cache(maxsize=64)
def pool(text: str) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """Return the first and the last address of a range."""
    parts = [part.strip() for part in text.split("-")]
    try:
        first, last = map(ipaddress.IPv4Address, parts)
    except ValueError:
        raise Bad(
            f"{show(text)} is not a range of IPv4 addresses", "write it like 10.0.0.100-10.0.0.199"
        ) from None
    if last < first:
        raise Bad(f"{show(text)} ends before it starts", f"write {last}-{first}")
    return first, last


@functools.lru_cache(maxsize=256)
def opening(text: str) -> Opening:
    """Return ports: `22`, `51820/udp`, `30000-32767`."""
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp))?", text)
    if not found:
        raise Bad(f"{show(text)} is not a port", PORT_HINT)
    first, last = _number(found[1]), _number(found[2] or found[1])
    if last < first:
        raise Bad(f"{show(text)} ends before it starts", f"write {last}-{first}")
    return Opening(found[3] or "tcp", first, last)


@functools.lru_cache(maxsize=256)
def single(text: str) -> Opening:
    """Return one port: `80` or `53/udp`."""
    found = opening(text)
    if found.first != found.last:
        raise Bad(f"{show(text)} is a range, and one port leads to one place", "write a line for each port")
    return found


@functools.lru_cache(maxsize=256)
def target(text: str) -> Target:
    """Return an address with a port, or without."""
    bare, colon, number = text.partition(":")
    try:
        found = ipaddress.IPv4Address(bare)
    except ValueError:
        raise Bad(
            f"{show(text)} is not an IPv4 address, with a port or without", "write it like 10.0.0.240:8080"
        ) from None
    if colon and not re.fullmatch(r"[0-9]{1,5}", number):
        raise Bad(f"{show(number)} is not a port", f"write it like {bare}:8080")
    return Target(found, _number(number) if colon else None)


def _number(text: str) -> int:
    if not 1 <= int(text) <= 65535:
        raise Bad(f"{text} is not a port", "ports go from 1 to 65535")
    return int(text)
