"""What a frame on the wire tells of the board that sent it. Whatever it holds, there is an answer, and nothing to trust in it.

Sources: Raspberry Pi documentation, "Network booting" (captures), "DHCP_OPTION97" and "Revision codes" (bits of the new style);
raspberrypi/firmware#1265 (option 97 of boot ROMs); RFC 1350 section 5 (read requests); RFC 4578 (option 93); RFC 9293 section 3.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.boards import BOARDS, GENERIC
from pibake.netboot import pxe
from pibake.netboot.values import DHCP_PORT, TFTP_PORT
from pibake.plan.wire import ROM_OUI
from pibake.probe import packet
from pibake.rack.values import Sighting

if TYPE_CHECKING:
    from ipaddress import IPv4Address

VENDORS = (b"PXEClient", b"HTTPClient")
"""How option 60 begins of what is about to boot; systems that run say other things."""
FOURCC = {b"RPi4": "eeprom-2711", b"RPi5": "eeprom-2712"}
"""How option 97 of an EEPROM begins -> netboot generation."""
UEFI = (11, 19)
"""arm64 in option 93, by PXE and by HTTP."""
NEW_STYLE, TYPE, MEMORY = 1 << 23, (4, 0xFF), (20, 0x7)
"""Of a revision code: the bit that says it has these, and shift and mask of each; memory is 256 MiB times a power of two."""
MODULES = {0x18: "cm5", 0x1A: "cm5"}
"""Types of boards that config.txt's filters do not tell apart by number: with and without storage of their own."""
SOLD_MOST = ("pi3", "pi3b+", "pi4", "pi5")
READ = b"\0\1"
VENDOR_LENGTH, PATH_LENGTH = 64, 200
"""Characters that are kept."""
TCP, SYN, SYN_ACK = 6, 0x02, 0x12


def sighting(frame: bytes, time: float) -> Sighting | None:
    """Return what an Ethernet frame tells of a board that asks for an address or a file; None for anything else."""
    if asked := packet.payload(frame, DHCP_PORT):
        return _dhcp(*asked, time)
    if asked := packet.payload(frame, TFTP_PORT):
        return _tftp(*asked, frame[6:12], time)
    return None


def connection(frame: bytes) -> tuple[str, int] | None:
    """Return who begins a TCP connection, and to which port; None for anything else."""
    if len(frame) < 14 + 20 + 14 or frame[12:14] != b"\x08\x00" or frame[23] != TCP:
        return None
    start = 14 + (frame[14] & 15) * 4
    flags = frame[start + 13] if len(frame) > start + 13 else 0
    if flags & SYN_ACK != SYN:
        return None
    return ".".join(map(str, frame[26:30])), int.from_bytes(frame[start + 2 : start + 4], "big")


def printable(raw: bytes, limit: int) -> str:
    """Return the printable ASCII of what somebody has sent, shortened."""
    return "".join(chr(byte) for byte in raw[:limit] if 32 <= byte < 127)


def _dhcp(raw: bytes, source: IPv4Address, time: float) -> Sighting | None:
    message = packet.decode(raw, source)
    if message is None or message.op != 1 or message.kind != packet.DISCOVER:
        return None
    if not message.option(60).startswith(VENDORS) or not _own(message.mac):
        return None
    mac = message.mac.hex(":")
    serial, boards, memory = _identity(message.option(97), mac)
    if int.from_bytes(message.option(93), "big") in UEFI:
        serial, boards, memory = "", (GENERIC,), 0
    vendor = printable(message.option(60), VENDOR_LENGTH)
    return Sighting(time, mac, "dhcp", serial, boards, memory, vendor)


def _tftp(raw: bytes, source: IPv4Address, mac: bytes, time: float) -> Sighting | None:
    if not raw.startswith(READ) or not _own(mac):
        return None
    path = printable(raw[2:].partition(b"\0")[0], PATH_LENGTH)
    serial = path.partition("/")[0]
    known = serial if re.fullmatch(r"[0-9a-f]{8}", serial) else ""
    return Sighting(time, mac.hex(":"), "tftp", known, address=str(source), path=path)


def _own(mac: bytes) -> bool:
    """Tell whether it is the address of one machine (IEEE 802, the group bit), and not that of nobody."""
    return len(mac) == 6 and any(mac) and not mac[0] & 1


def _identity(told: bytes, mac: str) -> tuple[str, tuple[str, ...], int]:
    """Return the serial, boards and memory that option 97 tells: a type byte, and 16 more."""
    body = told[1:]
    if len(told) != 17 or told[0] != 0 or not any(body):
        return "", (), 0
    if told == pxe.BOOT_ROM:
        return "", _of(pxe.HASTY), 0
    if body[:4] in FOURCC:
        revision = int.from_bytes(body[4:8], "little")
        return body[12:][::-1].hex(), _typed(revision, FOURCC[body[:4]]), _memory(revision)
    if body == body[:4] * 4:
        serial = body[:4][::-1].hex()
        # the boot ROM of a 3B+, or bootcode.bin on any board before the Pi 4
        if mac.startswith(ROM_OUI):
            return serial, _of("rom-3b+", pxe.HASTY), 0
        return serial, _of(*FOURCC.values()), 0
    return "", (), 0


def _of(*generations: str) -> tuple[str, ...]:
    """Return the boards of some netboot generations, those that were sold most first."""
    found = [board for board in BOARDS.values() if board.netboot in generations]
    found.sort(key=lambda board: (generations.index(board.netboot), board.name not in SOLD_MOST))
    return tuple(board.name for board in found)


def _typed(revision: int, generation: str) -> tuple[str, ...]:
    shift, mask = TYPE
    kind = revision >> shift & mask
    exact = [
        board.name
        for board in BOARDS.values()
        if board.netboot == generation
        and revision & NEW_STYLE
        and (kind in board.types or MODULES.get(kind) == board.name)
    ]
    return tuple(exact) or _of(generation)


def _memory(revision: int) -> int:
    shift, mask = MEMORY
    return 256 << (revision >> shift & mask) if revision & NEW_STYLE else 0
