"""What on the wire, or on this machine, keeps boards from booting: looked for at the start, and for as long as it lasts.

Spanning tree: a switch port that has it passes nothing for up to 30 s after a board's link comes up (IEEE 802.1D-2004
section 17.14), which is when its boot ROM asks; BPDUs, every 2 s, tell.
"""

from __future__ import annotations

import shutil
import socket
import struct
import threading
from typing import TYPE_CHECKING, Self

from pibake.netboot.values import SERVER
from pibake.serve.offers import offers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pibake.netboot.values import Site
    from pibake.serve.offers import Offer

ETH_P_802_2 = 0x0004
BRIDGES = bytes.fromhex("0180c2000000")
LLC = bytes.fromhex("424203")
"""Where BPDUs go, and how they begin (IEEE 802.1D-2004 sections 7.12.3 and 9)."""
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_MULTICAST = 263, 1, 0
"""linux/socket.h and linux/if_packet.h."""
EVERY = 300.0
"""Seconds between two questions for other DHCP servers."""
ROOM, ROOM_EVERY = 1 << 30, 10.0
"""Bytes below which the disk with nodes' files is all but full, and seconds between two looks at it."""
FOR = 5.0
"""Seconds in which they answer: dnsmasq looks for 3 s whether the address it would offer is in use."""


class Watch:
    """Looks while its block is entered, and says once of each thing what is wrong; `say` is called from threads.

    `folder` is where nodes' files are.
    """

    def __init__(self, site: Site, folder: Path, say: Callable[[str], None]) -> None:
        self._site = site
        self._folder = folder
        self._say = say
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._often, args=(look, pause), name=look.__name__, daemon=True)
            for look, pause in (
                (self._bridges, 0.0),
                (self._servers, EVERY),
                (self._room, ROOM_EVERY),
            )
        ]

    def __enter__(self) -> Self:
        """Begin; nothing waits for the first answers."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _often(self, look: Callable[[], None], pause: float) -> None:
        while not self._stop.is_set():
            try:
                look()
            except OSError as error:
                self._once("", f"cannot look for trouble on {self._site.interface}: {error.strerror}")
                self._stop.wait(10.0)
            self._stop.wait(pause)

    def _bridges(self) -> None:
        """Listen for spanning tree for a moment."""
        with bridges(self._site.interface) as wire:
            wire.settimeout(0.1)
            while not self._stop.is_set():
                try:
                    frame, sender = wire.recvfrom(256)
                except TimeoutError:
                    continue
                if frame.startswith(LLC):
                    self._once("tree", _tree(self._site, sender[4].hex(":")))

    def _servers(self) -> None:
        for offer in offers(self._site.interface, FOR, self._stop.is_set):
            if offer.server != self._site.address.ip and (why := _rival(self._site, offer)):
                self._once(str(offer.server), why)

    def _room(self) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < ROOM:
            self._once("room", _full(self._folder, free))
        elif free > 2 * ROOM:  # said again, should it come to that again
            self._said.discard("room")

    def _once(self, subject: str, warning: str) -> None:
        if subject not in self._said:
            self._said.add(subject)
            self._say(warning)


def bridges(interface: str) -> socket.socket:
    """Return a socket that gets what switches say to each other on an interface.

    Raises:
        OSError: there is no such interface, or this process may not.
    """
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_802_2))
    try:
        wire.bind((interface, ETH_P_802_2))
        index = socket.if_nametoindex(interface)
        member = struct.pack("iHH8s", index, PACKET_MR_MULTICAST, len(BRIDGES), BRIDGES)
        wire.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, member)
    except OSError:
        wire.close()
        raise
    return wire


def _tree(site: Site, sender: str) -> str:
    return (
        f"the switch {sender} at {site.interface} has spanning tree on: a port may pass nothing for 30 s after a board is"
        " switched on, and the board may have given up by then; make the boards' ports edge ports (PortFast), or turn it off"
    )


def _full(folder: Path, free: int) -> str:
    return (
        f"{folder} has {free >> 20} MiB left: when there is nothing, nodes' writes fail, and their file systems become"
        " read-only until they are started again; make room there, nodes' own files take what they have written"
    )


def _rival(site: Site, offer: Offer) -> str:
    """Return what is wrong with another DHCP server; "" if it is the router that gives addresses beside a proxy."""
    if offer.boots:
        return (
            f"{offer.server} tells machines what to boot, too: boards take whichever answer comes first;"
            " turn its PXE or option 66/67 off"
        )
    if site.dhcp == SERVER:
        return (
            f"{offer.server} gives addresses, too (it offered {offer.address}): boards may get one that is not theirs;"
            " turn its DHCP off, or set dhcp: proxy in cluster.yaml"
        )
    return ""
