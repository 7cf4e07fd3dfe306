"""Answers the boot ROM of the Pi 2 and 3, which may hang if it is answered within two seconds.

dnsmasq can wait, too (`dhcp-reply-delay`), but hears no DHCP meanwhile: what fills its socket then, such as machines that
nobody knows and that ask without end, takes the place of what boards say. Here each board waits on its own. The answer is
dnsmasq's, field by field; all else that these boards say, dnsmasq answers (netboot/dnsmasq.conf.j2).

Sources: raspberrypi/firmware#934; dnsmasq 2.90, src/dnsmasq.c, delay_dhcp.
"""

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.netboot import pxe
from pibake.netboot.dnsmasq import LENT
from pibake.netboot.values import DHCP_PORT, SERVER
from pibake.probe import packet
from pibake.probe.packet import ANY, DISCOVER, OFFER, Message
from pibake.probe.wire import hardware_address, listening
from pibake.serve.background import Background

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from pibake.netboot.values import Client, Site

DELAY = pxe.HANGS + 0.1
"""Seconds from a question to its answer. A board asks again after 5 s."""
LOOK = 0.2
"""Seconds between two looks at whether it is over."""
AGAIN = 2.0
"""Seconds until an interface that failed is tried again."""
BROADCAST = 0x8000
PXE = b"PXEClient"
IDENTITY = bytes((97, len(pxe.BOOT_ROM))) + pxe.BOOT_ROM
"""Option 97 as it stands in a message of the boot ROM's."""


class Late(Background):
    """Hears boot ROMs and answers each after `DELAY`, while its block is entered; one thread, however many boards.

    Args:
        site: this server.
        clients: all nodes on the wire.
        say: told in a sentence, from another thread, when the interface cannot be heard.
    """

    def __init__(self, site: Site, clients: Sequence[Client], say: Callable[[str], None]) -> None:
        super().__init__()
        self._site = site
        self._say = say
        self._known = _known(clients)
        self._waiting: dict[bytes, Message] = {}
        self._due: list[tuple[float, bytes]] = []

    def update(self, clients: Sequence[Client]) -> None:
        """Go on with these nodes."""
        self._known = _known(clients)

    def _run(self) -> None:
        said = ""
        while not self._stop.is_set():
            try:
                with listening(self._site.interface, DHCP_PORT) as wire:
                    self._serve(wire)
            except (OSError, PibakeError) as error:
                reason = error.strerror if isinstance(error, OSError) else error.message
                why = f"cannot hear boot ROMs of Pi 2 and 3 on {self._site.interface}: {reason}"
                if why != said:
                    self._say(f"{why}; is the interface there and up? `ip link` tells; it is tried again")
                said = why
                self._stop.wait(AGAIN)

    def _serve(self, wire: socket.socket) -> None:
        """Hear and answer until it is over.

        Raises:
            OSError: the interface went down, or away.
        """
        own = hardware_address(self._site.interface), self._site.address.ip
        while not self._stop.is_set():
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, mac = heapq.heappop(self._due)
                if offered := self._offer(self._waiting.pop(mac)):
                    wire.send(packet.answer(own, offered))
            wire.settimeout(max(min(self._due[0][0] - now, LOOK), 0.001) if self._due else LOOK)
            try:
                frame = wire.recv(2048)
            except TimeoutError:
                continue
            self._hear(frame)

    def _hear(self, frame: bytes) -> None:
        """Note that a board is to be answered; one that asks meanwhile is answered once, as it asked last."""
        found = packet.payload(frame, DHCP_PORT)
        if not found or IDENTITY not in found[0]:
            return
        message = packet.decode(*found)
        if message and asks(message) and client_of(message.mac, self._known):
            if message.mac not in self._waiting:
                heapq.heappush(self._due, (time.monotonic() + DELAY, message.mac))
            self._waiting[message.mac] = message

    def _offer(self, asked: Message) -> Message | None:
        client = client_of(asked.mac, self._known)
        return offer(self._site, client, asked) if client else None


def asks(message: Message) -> bool:
    """Tell whether this is what the boot ROM says, and not bootcode.bin or a system."""
    return (
        message.op == 1
        and message.kind == DISCOVER
        and message.option(60).startswith(PXE)
        and message.option(97) == pxe.BOOT_ROM
    )


def offer(site: Site, client: Client, asked: Message) -> Message:
    """Return what dnsmasq would offer: an address and where to boot from, or as a proxy the latter alone."""
    server = site.address.ip
    boot: tuple[tuple[int, bytes], ...] = ((43, pxe.menu()),)
    identity = (60, PXE), (97, asked.option(97))
    if site.dhcp != SERVER:
        options = ((53, bytes((OFFER,))), (54, server.packed), *identity, *boot)
        return Message(2, asked.xid, asked.mac, options, ANY, server, flags=BROADCAST)
    network = site.address.network
    options = (
        (53, bytes((OFFER,))), (54, server.packed), (51, LENT.to_bytes(4, "big")), (1, network.netmask.packed),
        (28, network.broadcast_address.packed), (66, str(server).encode()), *identity, *boot,
    )  # fmt: skip
    return Message(2, asked.xid, asked.mac, options, client.address, server, flags=asked.flags & BROADCAST)


def client_of(mac: bytes, known: Mapping[bytes, Client]) -> Client | None:
    """Return the node of a MAC address: by all of it, else by its end, which is that of the serial."""
    return known.get(mac) or known.get(mac[3:])


def _known(clients: Sequence[Client]) -> dict[bytes, Client]:
    """Return the nodes that may hang, by MAC address, or by the last three bytes of a serial where only that is known."""
    return {
        bytes.fromhex(client.mac.replace(":", ""))
        if client.mac
        else bytes.fromhex(client.serial)[-3:]: client
        for client in clients
        if client.board.netboot in pxe.LATE
    }
