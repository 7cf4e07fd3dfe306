"""Hears what boards ask on the wire, also those that nobody answers.

Sources: packet(7); Linux, Documentation/networking/filter.rst (what a filter is made of).
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from pibake.netboot.values import DHCP_PORT, TFTP_PORT
from pibake.probe.wire import attach
from pibake.rack.sighting import connection, sighting
from pibake.serve.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pibake.netboot.values import Site
    from pibake.rack.values import Sighting

AGAIN = 2.0
"""Seconds until an interface that failed is tried again."""
SO_RCVBUFFORCE = 33
"""asm-generic/socket.h."""
ROOM = 4 << 20
"""Bytes of frames that wait to be looked at: some thousand questions at once."""
IPV4 = 0x0800
"""linux/if_ether.h's ETH_P_IP."""
OURS = {0, 1}
"""packet(7)'s PACKET_HOST and PACKET_BROADCAST: what is for this host, and not what it sends, or others to others."""
LENGTH = 1024
"""Bytes of a frame that are looked at."""


class Ear(Background):
    """Listens while its block is entered, in a thread.

    Args:
        site: this server.
        on_sighting: told each question of a board's.
        on_connection: told who begins a connection to NFS or NBD, and at which port.
        say: told in a sentence that the interface cannot be heard.
    """

    def __init__(
        self,
        site: Site,
        on_sighting: Callable[[Sighting], None],
        on_connection: Callable[[str, int], None],
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._site = site
        self._on_sighting = on_sighting
        self._on_connection = on_connection
        self._say = say
        self._deaf = False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with _listening(self._site) as wire:
                    self._listen(wire)
            except OSError as error:
                if not self._deaf:
                    self._say(
                        f"cannot hear boards on {self._site.interface}: {error.strerror};"
                        " those that nobody knows are not seen meanwhile; it is tried again"
                    )
                self._deaf = True
                self._stop.wait(AGAIN)

    def _listen(self, wire: socket.socket) -> None:
        """Listen until told to stop.

        Raises:
            OSError: the interface went down, or away.
        """
        wire.settimeout(0.2)
        while not self._stop.is_set():
            try:
                frame, sender = wire.recvfrom(LENGTH)
            except TimeoutError:
                continue
            self._deaf = False
            if sender[2] not in OURS:
                continue
            if seen := sighting(frame, time.time()):
                self._on_sighting(seen)
            elif begun := connection(frame):
                self._on_connection(*begun)


def _listening(site: Site) -> socket.socket:
    # with no protocol before it is bound: else it would hear other interfaces, too, until then
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        attach(found, _filter((site.ports.nfs, site.ports.nbd)))
        found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        found.bind((site.interface, IPV4))
    except OSError:
        found.close()
        raise
    return found


def _filter(ports: Sequence[int]) -> tuple[tuple[int, int, int, int], ...]:
    """Return instructions (code, steps on true, steps on false, operand) that pass what is of interest."""
    return (
        (0x28, 0, 0, 12),  # Ethernet's type: IPv4
        (0x15, 0, 16, IPV4),
        (0x28, 0, 0, 20),  # the place of a fragment: the first
        (0x45, 14, 0, 0x1FFF),
        (0xB1, 0, 0, 14),  # behind IPv4's header, as long as it says
        (0x30, 0, 0, 23),  # IPv4's protocol
        (0x15, 0, 3, 17),
        (0x48, 0, 0, 16),  # UDP: the port
        (0x15, 8, 0, DHCP_PORT),
        (0x15, 7, 8, TFTP_PORT),
        (0x15, 0, 7, 6),
        (0x48, 0, 0, 16),  # TCP: the port, and that it begins: SYN without ACK
        (0x15, 1, 0, ports[0]),
        (0x15, 0, 4, ports[1]),
        (0x50, 0, 0, 27),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, LENGTH),
        (0x06, 0, 0, 0),
    )
