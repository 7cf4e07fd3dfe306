"""Asks who on the wire answers DHCP, as a machine would that boots from the network (RFC 2131, PXE 2.1)."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ETH_P_IP = 0x0800
UDP, SERVER, CLIENT = 17, 67, 68
COOKIE = b"\x63\x82\x53\x63"
BROADCAST = 0x8000
TYPE, IDENTIFIER, VENDOR, FILE = 53, 54, 60, 67
DISCOVER, OFFER = 1, 2
END, PAD = 255, 0
PXE = b"PXEClient"
HEAD = struct.Struct("!4BIHH4I16s64s128s")
"""op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file (RFC 2131 section 2)."""


@dataclass(frozen=True)
class Offer:
    """What one server offered: an address or none (0.0.0.0), and whether it also says what to boot."""

    server: IPv4Address
    address: IPv4Address
    boots: bool


def offers(interface: str, seconds: float, ended: Callable[[], bool] = lambda: False) -> list[Offer]:
    """Ask, and return what was offered within `seconds`, or until `ended`; one per server.

    The one who asks has a MAC address of its own making (locally administered, `02:...`), and takes nothing.

    Raises:
        OSError: the interface is down or gone, or this process may not.
    """
    mac = b"\x02" + os.urandom(5)
    xid = int.from_bytes(os.urandom(4), "big")
    found: dict[IPv4Address, Offer] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as wire:
        wire.bind((interface, ETH_P_IP))
        wire.sendto(datagram(discover(mac, xid)), (interface, ETH_P_IP, 0, 0, b"\xff" * 6))
        deadline = time.monotonic() + seconds
        wire.settimeout(0.1)
        while time.monotonic() < deadline and not ended():
            try:
                packet = wire.recv(2048)
            except TimeoutError:
                continue
            offer = parsed(packet, xid)
            if offer:
                known = found.get(offer.server)
                found[offer.server] = known if known and known.boots else offer
    return list(found.values())


def discover(mac: bytes, xid: int) -> bytes:
    """Return a DHCPDISCOVER of a machine that boots by PXE; the answer is to be broadcast."""
    head = HEAD.pack(1, 1, 6, 0, xid, 0, BROADCAST, 0, 0, 0, 0, mac, b"", b"")
    options = [
        (TYPE, bytes([DISCOVER])),
        (VENDOR, PXE + b":Arch:00000:UNDI:002001"),
        (93, bytes(2)),  # RFC 4578: architecture, interface, identifier
        (94, b"\x01\x02\x01"),
        (97, b"\x00" + mac.ljust(16, b"\0")),
        (55, bytes([1, 3, 43, 60, 66, FILE])),
    ]
    return (
        head + COOKIE + b"".join(bytes([code, len(value)]) + value for code, value in options) + bytes([END])
    )


def datagram(payload: bytes) -> bytes:
    """Return an IPv4 packet with a UDP datagram from nobody to everybody; UDP without checksum (RFC 768)."""
    udp = struct.pack("!4H", CLIENT, SERVER, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", checksum) + head[12:] + udp


def parsed(packet: bytes, xid: int) -> Offer | None:
    """Return the offer in an IPv4 packet; None if it is something else."""
    start = (packet[0] & 15) * 4 if packet else 0
    if len(packet) < start + 8 + HEAD.size + 4 or packet[9] != UDP:
        return None
    if struct.unpack_from("!HH", packet, start) != (SERVER, CLIENT):
        return None
    fields = HEAD.unpack_from(packet, start + 8)
    options = _options(packet[start + 8 + HEAD.size :])
    if fields[0] != 2 or fields[4] != xid or options.get(TYPE) != bytes([OFFER]):
        return None
    server = options.get(IDENTIFIER, packet[12:16])
    boots = options.get(VENDOR, b"").startswith(PXE) or FILE in options or bool(fields[13].strip(b"\0"))
    return Offer(IPv4Address(server[:4].ljust(4, b"\0")), IPv4Address(fields[8]), boots)


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = len(COOKIE)
    while data[:4] == COOKIE and at + 1 < len(data) and data[at] != END:
        if data[at] == PAD:
            at += 1
            continue
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found
