"""DHCP messages, and the frames that carry them before a board has an address.

Sources: RFC 2131 section 2 (message) and 4.1 (option overload), RFC 2132 (options), RFC 768 (a UDP checksum of zero is none).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
COOKIE = b"\x63\x82\x53\x63"
FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
ANY = IPv4Address(0)
BROADCAST, EVERYBODY = b"\xff" * 6, IPv4Address("255.255.255.255")
SERVER_PORT, CLIENT_PORT = 67, 68
TTL = 128


@dataclass(frozen=True)
class Message:
    """One DHCP message; `options` are code and value, in order, those with the same code joined (RFC 3396)."""

    op: int
    xid: int
    mac: bytes
    options: tuple[tuple[int, bytes], ...]
    yiaddr: IPv4Address = ANY
    siaddr: IPv4Address = ANY
    ciaddr: IPv4Address = ANY
    file: str = ""
    flags: int = 0
    source: IPv4Address = field(default=ANY, compare=False)

    def option(self, code: int) -> bytes:
        """Return an option's value; empty if it is not there."""
        return dict(self.options).get(code, b"")

    def address(self, code: int) -> IPv4Address | None:
        """Return an option that is an address, the first of several; None if it is not there."""
        value = self.option(code)
        return IPv4Address(value[:4]) if len(value) >= 4 else None

    @property
    def kind(self) -> int:
        """Option 53: `OFFER`, `ACK` and so on; 0 for BOOTP."""
        return int.from_bytes(self.option(53), "big")

    @property
    def server(self) -> IPv4Address:
        """Who sent it, by its own words (option 54), else by its packet."""
        return self.address(54) or self.source


def encode(message: Message) -> bytes:
    """Return a message's bytes, as long as its options are, without padding."""
    addresses = (message.ciaddr.packed, message.yiaddr.packed, message.siaddr.packed, ANY.packed)
    head = FIXED.pack(
        message.op, 1, 6, 0, message.xid, 0, message.flags, *addresses, message.mac, b"", message.file.encode()
    )  # fmt: skip
    options = b"".join(bytes((code, len(value))) + value for code, value in message.options)
    return head + COOKIE + options + b"\xff"


def decode(raw: bytes, source: IPv4Address = ANY) -> Message | None:
    """Return the message that a UDP packet from `source` holds; None if it holds none."""
    if len(raw) < FIXED.size + 4 or raw[FIXED.size : FIXED.size + 4] != COOKIE:
        return None
    op, _, _, _, xid, _, flags, ciaddr, yiaddr, siaddr, _, chaddr, sname, file = FIXED.unpack_from(raw)
    options = _options(raw[FIXED.size + 4 :])
    overload = int.from_bytes(options.get(52, b"")[:1], "big")
    for bit, area in ((1, file), (2, sname)):
        if overload & bit:
            for code, value in _options(area).items():
                options[code] = options.get(code, b"") + value
    name = b"" if overload & 1 else file
    return Message(
        op, xid, chaddr[:6], tuple(options.items()), IPv4Address(yiaddr), IPv4Address(siaddr), IPv4Address(ciaddr),
        name.split(b"\0")[0].decode("ascii", "replace"), flags, source,
    )  # fmt: skip


def _options(area: bytes) -> dict[int, bytes]:
    """Return the options in an area up to its end mark; a value that is cut off is left out."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(area) and area[at] != 255:
        if area[at] == 0:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            break
        code, length = area[at], area[at + 1]
        found[code] = found.get(code, b"") + area[at + 2 : at + 2 + length]
        at += 2 + length
    return found


def broadcast(mac: bytes, payload: bytes, port: int = SERVER_PORT) -> bytes:
    """Return the Ethernet frame in which a board without an address sends a message to everybody."""
    return _frame((mac, ANY, CLIENT_PORT), (BROADCAST, EVERYBODY, port), payload)


def answer(server: tuple[bytes, IPv4Address], message: Message) -> bytes:
    """Return the frame in which a server, of this MAC and IPv4 address, answers a board that has no address yet.

    It goes to the board alone if that is given an address, and else to everybody (RFC 2131 section 4.1).
    """
    alone = message.yiaddr != ANY and not message.flags
    board = (message.mac, message.yiaddr) if alone else (BROADCAST, EVERYBODY)
    return _frame((*server, SERVER_PORT), (*board, CLIENT_PORT), encode(message))


def _frame(
    source: tuple[bytes, IPv4Address, int], target: tuple[bytes, IPv4Address, int], payload: bytes
) -> bytes:
    """Return a frame from and to a MAC address, IPv4 address and port."""
    udp = struct.pack("!HHHH", source[2], target[2], 8 + len(payload), 0) + payload
    addresses = source[1].packed, target[1].packed
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, TTL, 17, 0, *addresses)
    checked = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return target[0] + source[0] + b"\x08\x00" + checked + udp


def payload(frame: bytes, port: int = CLIENT_PORT) -> tuple[bytes, IPv4Address] | None:
    """Return what a frame brings to a port, and from whom; None for anything else, and for fragments."""
    if len(frame) < 14 + 20 + 8 or frame[12:14] != b"\x08\x00" or frame[14] >> 4 != 4 or frame[23] != 17:
        return None
    start = 14 + (frame[14] & 15) * 4
    fragment = int.from_bytes(frame[20:22], "big") & 0x3FFF
    _, to, length, _ = struct.unpack_from("!HHHH", frame.ljust(start + 8, b"\0"), start)
    if fragment or to != port:
        return None
    return frame[start + 8 : start + length], IPv4Address(frame[26:30])


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
