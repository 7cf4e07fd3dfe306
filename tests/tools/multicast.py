"""Asks by multicast DNS (RFC 6762)."""

from __future__ import annotations

import secrets
import socket
import struct

from tests.tools.netns import inside

GROUP, PORT = "224.0.0.251", 5353


def heard(namespace: str, name: str, own: str) -> str:
    """Ask for a name's IPv4 address by multicast (RFC 6762), from an address of one's `own`; return it, or nothing if nobody answers."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = (
        struct.pack("!6H", secrets.randbits(16), 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    )

    def work() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
            asking.settimeout(2)
            asking.sendto(query, (GROUP, PORT))
            try:
                answer = asking.recv(2000)
            except TimeoutError:
                return ""
            return socket.inet_ntoa(answer[-4:])

    return inside(namespace, work)
