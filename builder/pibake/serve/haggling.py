"""What an NBD client says before it has a disk, passed on to the server if it is the disk that it may have.

Source: the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md), "Handshake" and "Option haggling".
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection

GREETING = struct.Struct(">8s8sH")
OPTION = struct.Struct(">QII")
REPLY = struct.Struct(">QIII")
ASKS, ANSWERS = 0x49484156454F5054, 0x3E889045565A9
"""What options begin with ("IHAVEOPT"), and replies to them."""
EXPORT_NAME, ABORT, INFO, GO, STRUCTURED, LIST_META, SET_META = 1, 2, 6, 7, 8, 9, 10
NAMED = {INFO, GO, LIST_META, SET_META}
"""Options whose data begins with the name of an export, and its length."""
ACK, ERROR = 1, 1 << 31
UNSUPPORTED, UNKNOWN = ERROR + 1, ERROR + 6
LONGEST, MOST = 4096 + 64, 32
"""Bytes of an option (a name has 4096 at most), and options of one client."""
PATIENCE = 10.0
"""Seconds in which all has to be said until there is a disk, however it is cut."""


class Refused(Exception):
    """What a client says is not what a node says."""


def haggle(client: socket.socket, daemon: socket.socket, allowed: Collection[str]) -> str:
    """Pass on what a client and the daemon say to each other, until the client has one of the disks it may have; return its name.

    Raises:
        Refused: it says something else.
        OSError: one of them ends, or it takes too long.
    """
    until = time.monotonic() + PATIENCE
    client.sendall(_receive(daemon, GREETING.size, until))
    daemon.sendall(_receive(client, 4, until))
    for _ in range(MOST):
        head = _receive(client, OPTION.size, until)
        magic, option, length = OPTION.unpack(head)
        if magic != ASKS or length > LONGEST:
            raise Refused
        data = _receive(client, length, until)
        if option == EXPORT_NAME:  # has no reply
            if _decoded(data) not in allowed:
                raise Refused
            daemon.sendall(head + data)
            return _decoded(data)
        if option == ABORT:
            raise Refused
        if not _may(option, data, allowed):
            refusal = UNKNOWN if option in NAMED else UNSUPPORTED
            client.sendall(REPLY.pack(ANSWERS, option, refusal, 0))
            continue
        daemon.sendall(head + data)
        if _answered(client, daemon, until) == ACK and option == GO:
            return _name(data)
    raise Refused


def _may(option: int, data: bytes, allowed: Collection[str]) -> bool:
    """Tell whether an option may be passed on; a list of all disks, and encryption, are none of those."""
    return option == STRUCTURED or (option in NAMED and _name(data) in allowed)


def _name(data: bytes) -> str:
    """Return the name of an export at the head of an option's data; "" if that is cut off."""
    length = int.from_bytes(data[:4], "big")
    return _decoded(data[4 : 4 + length]) if len(data) >= 4 + length else ""


def _answered(client: socket.socket, daemon: socket.socket, until: float) -> int:
    """Pass on the daemon's replies to an option; return the type of the last one."""
    while True:
        head = _receive(daemon, REPLY.size, until)
        _, _, kind, length = REPLY.unpack(head)
        client.sendall(head + _receive(daemon, length, until))
        if kind == ACK or kind & ERROR:
            return int(kind)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _receive(link: socket.socket, length: int, until: float) -> bytes:
    """Return exactly so many bytes.

    Raises:
        OSError: it ended before, or not all were there at the time `until` (`time.monotonic`).
    """
    data = b""
    while len(data) < length:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        link.settimeout(left)
        more = link.recv(length - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data
