"""A network interface that is a board's own: raw while it has no address, and configured as the board would.

Sources: packet(7), netdevice(7); Linux, Documentation/networking/filter.rst, for what a filter is made of.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from pibake.errors import PibakeError
from pibake.probe import packet
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from ipaddress import IPv4Address, IPv4Interface

    from pibake.probe.packet import Message

LINK_SECONDS = 10.0
SIOCGIFFLAGS, SIOCGIFHWADDR, ARPHRD_ETHER = 0x8913, 0x8927, 1
IFF_RUNNING = 0x40
OUTGOING = 4
"""packet(7)'s PACKET_OUTGOING: what this host sent itself."""
SO_ATTACH_FILTER = 26
"""asm-generic/socket.h."""


@contextmanager
def powered(interface: str) -> Iterator[None]:
    """Bring an interface up without an address, and leave it down and without one.

    Raises:
        PibakeError: nothing is plugged in at its other end.
    """
    _quiet(interface)
    run(["ip", "link", "set", interface, "up"], why="bring the board's network up")
    try:
        _wait(interface)
        yield
    finally:
        _quiet(interface)
        run(["ip", "link", "set", interface, "down"], why="bring the board's network down", check=False)


def configure(interface: str, address: IPv4Interface, gateway: IPv4Address | None) -> None:
    """Give the interface its one address, and a router if there is one."""
    _quiet(interface)
    run(["ip", "address", "add", str(address), "dev", interface], why="give the board its address")
    if gateway:
        argv = ["ip", "route", "add", "default", "via", str(gateway), "dev", interface]
        run(argv, why="give the board its router", check=False)


def _quiet(interface: str) -> None:
    run(["ip", "address", "flush", "dev", interface], why="take the board's address away", check=False)


def hardware_address(interface: str) -> bytes:
    """Return the MAC address of an interface.

    Raises:
        PibakeError: there is no such interface, or it is no Ethernet.
    """
    wanted = struct.pack("16s24x", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            kind, address = struct.unpack("16xH6s16x", fcntl.ioctl(control, SIOCGIFHWADDR, wanted))
        except OSError:
            kind, address = 0, b""
    if kind != ARPHRD_ETHER:
        raise PibakeError(
            f"{interface} is no Ethernet interface", "name one with --interface; `ip link` lists them"
        )
    return bytes(address)


def _wait(interface: str) -> None:
    """Return when the interface has a link."""
    until = time.monotonic() + LINK_SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        while time.monotonic() < until:
            answer = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH14x", interface.encode(), 0))
            if struct.unpack("16sH14x", answer)[1] & IFF_RUNNING:
                return
            time.sleep(0.02)
    raise PibakeError(
        f"{interface} has no link after {LINK_SECONDS:g} s",
        "is the cable in, and the interface of this host up? `ip -br link` tells; --interface names another",
    )


def listening(interface: str, port: int) -> socket.socket:
    """Return a raw socket that hears nothing on an interface but UDP to one port; the kernel leaves out the rest.

    Raises:
        OSError: there is no such interface, or this process may not.
    """
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    try:
        attach(found, _filter(port))
        found.bind((interface, 0))
    except OSError:
        found.close()
        raise
    return found


def attach(raw: socket.socket, instructions: Sequence[tuple[int, int, int, int]]) -> None:
    """Let the kernel pass to a raw socket only what a filter passes: code, steps on true, steps on false, and operand of each."""
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    held = ctypes.create_string_buffer(program, len(program))
    raw.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program) // 8, ctypes.addressof(held))
    )


def _filter(port: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return instructions (code, steps on true, steps on false, operand) that pass first fragments of UDP to a port."""
    return (
        (0x28, 0, 0, 12),  # Ethernet's type: IPv4
        (0x15, 0, 8, 0x0800),
        (0x30, 0, 0, 23),  # IPv4's protocol: UDP
        (0x15, 0, 6, 17),
        (0x28, 0, 0, 20),  # the place of a fragment: the first
        (0x45, 4, 0, 0x1FFF),
        (0xB1, 0, 0, 14),  # behind IPv4's header, as long as it says: the port
        (0x48, 0, 0, 16),
        (0x15, 0, 1, port),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    )


class Wire:
    """A raw socket on one interface that sends and hears DHCP."""

    def __init__(self, interface: str, mac: bytes) -> None:
        self.mac = mac
        self.socket = listening(interface, packet.CLIENT_PORT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: Message) -> None:
        """Broadcast a message from no address."""
        self.socket.send(packet.broadcast(self.mac, packet.encode(message)))

    def hear(self, xid: int, until: float) -> Message | None:
        """Return the next answer to this board and transaction; None when the monotonic clock says `until`."""
        while (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame, sender = self.socket.recvfrom(65535)
            except TimeoutError:
                return None
            found = packet.payload(frame) if sender[2] != OUTGOING else None
            message = packet.decode(*found) if found else None
            if message and message.op == 2 and message.xid == xid and message.mac == self.mac:
                return message
        return None
