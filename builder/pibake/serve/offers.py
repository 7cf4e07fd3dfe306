"""Asks who on the wire answers DHCP, as a machine would that boots from the network (RFC 2131, PXE 2.1)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.probe.packet import DISCOVER, OFFER, Message
from pibake.probe.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address

BROADCAST = 0x8000
"""The flag that has servers answer to everybody: there is no board to hear its own address."""
VENDOR, FILE = 60, 67
PXE = b"PXEClient"
OPTIONS = (
    (53, bytes([DISCOVER])),
    (55, bytes([1, 3, 43, VENDOR, 66, FILE])),
    (VENDOR, PXE + b":Arch:00000:UNDI:002001"),
    (93, bytes(2)),  # RFC 4578: architecture and interface
    (94, b"\x01\x02\x01"),
)
SLICE = 0.1


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
    mac, xid = b"\x02" + os.urandom(5), int.from_bytes(os.urandom(4), "big")
    found: dict[IPv4Address, Offer] = {}
    with Wire(interface, mac) as wire:
        wire.send(Message(1, xid, mac, OPTIONS, flags=BROADCAST))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not ended():
            message = wire.hear(xid, time.monotonic() + SLICE)
            if message and message.kind == OFFER:
                boots = message.option(VENDOR).startswith(PXE) or bool(message.option(FILE) or message.file)
                known = found.get(message.server)
                found[message.server] = (
                    known if known and known.boots else Offer(message.server, message.yiaddr, boots)
                )
    return list(found.values())
