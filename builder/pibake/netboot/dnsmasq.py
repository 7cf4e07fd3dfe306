"""The configuration of dnsmasq, which speaks DHCP, PXE and TFTP to the boards.

One reply serves the boot ROM of the Pi 2 to the EEPROM of the Pi 5, which look in different places: option 43 with
"Raspberry Pi Boot" and three spaces, option 60, option 97 as it came, siaddr, and option 66. As a proxy, dnsmasq 2.90 has no
way to send option 66; boards then go by option 43 and the address that sent it.

Sources: dnsmasq(8) and src/rfc2131.c; Raspberry Pi documentation, "Network booting" (known problems of the Pi 3's boot ROM)
and "DHCP_OPTION97"; raspberrypi/firmware#871 (option 66 must not end with a NUL), #934 (the delay).

Who is answered by MAC address stands in a file of its own, which dnsmasq reads again at SIGHUP (dnsmasq(8), dhcp-hostsfile):
files that boards are loading go on meanwhile, and a restart would end them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.netboot import pxe
from pibake.netboot.values import SERVER
from pibake.resources import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.netboot.values import Client, Site

TRANSFERS = 2000
"""TFTP transfers at a time: of a request beyond, nothing is heard. A board that asked twice leaves one behind for two minutes."""
FILES = 2 * TRANSFERS + 96
"""What dnsmasq may have open: a socket and a file for each."""
LENT = 120
"""Seconds for which a board has an address: another one in its place is not given it before. dnsmasq takes no fewer."""
HOSTS = "dnsmasq.hosts"
"""The name of the file with nodes by MAC address."""


@dataclass(frozen=True)
class Uefi:
    """What an arm64 machine with UEFI is told to load: `file` by PXE, below the TFTP root, and `url` by HTTP boot."""

    file: str
    url: str


@dataclass(frozen=True)
class _Node:
    """A client in dnsmasq's words: patterns of its MAC address, and of option 97 where cluster.yaml gives its serial only.

    `pinned` says that the MAC address is that of the first board with the serial.
    """

    tag: str
    pinned: bool
    address: str
    hardware: tuple[str, ...]
    identifiers: tuple[str, ...]


def config(
    site: Site, clients: Sequence[Client], *, tftp_root: str, run: str, uefi: Uefi | None = None
) -> str:
    """Return a dnsmasq.conf that answers these clients and nobody else, together with the file `HOSTS` in the folder `run`.

    A board that is known by MAC address has the tag "known" in the log, one by serial `node-` and its hostname. It is the same for any clients that are known by MAC address.

    Args:
        site: this server; its `dhcp` chooses between a proxy and reservations.
        clients: each with a MAC address or a serial.
        tftp_root: folder that TFTP serves, as an absolute path.
        run: folder for the lease file, the pid file and `HOSTS`.
        uefi: what machines that are no Pi load; they get no boot file without it.

    Raises:
        ValueError: a name or path holds a control character.
    """
    return render(
        "netboot/dnsmasq.conf.j2",
        site=site,
        network=site.address.network,
        nodes=[_node(client) for client in clients],
        tftp_root=_quoted(tftp_root),
        pid_file=_quoted(f"{run}/dnsmasq.pid"),
        lent=LENT,
        lease_file=_quoted(f"{run}/dnsmasq.leases"),
        hosts_file=_quoted(f"{run}/{HOSTS}"),
        transfers=TRANSFERS,
        boot_rom=pxe.BOOT_ROM.hex(":"),
        uefi=uefi,
    )


def hosts(site: Site, clients: Sequence[Client]) -> str:
    """Return the text of the file `HOSTS` for these clients: a line of `dhcp-host` for each.

    The tag they have is "known", which dnsmasq sets: reading the file again after one with tags of ours was used, dnsmasq
    2.90 frees memory that is not theirs (option.c, `dhcp_netid_free`; rfc2131.c puts other tags behind a host's own). Of
    boards with a serial that one board has already, nobody else is answered.
    """
    lines = []
    for node in map(_node, clients):
        # a line with a tag comes before one without, whatever MAC address that has
        tag = f"tag:serial-{node.tag}," if node.pinned else ""
        given = node.address if site.dhcp == SERVER else str(LENT)
        lines += [f"{known},{tag}{given}" for known in node.hardware]
        if tag:
            lines.append(f"*:*:*:*:*:*,{tag}ignore")
    return "".join(f"{line}\n" for line in lines)


def _node(client: Client) -> _Node:
    generation = client.board.netboot
    hardware = client.mac
    if not hardware and generation in pxe.MASK_ROM:
        hardware = ":".join(("*", "*", "*", *_pairs(client.serial)[1:]))
    return _Node(
        tag=f"node-{client.hostname}",
        pinned=client.pinned,
        address=str(client.address),
        hardware=(hardware,) if hardware else (),
        identifiers=identifiers(client.serial) if client.pinned or not hardware else (),
    )


def identifiers(serial: str) -> tuple[str, ...]:
    """Return patterns of option 97 (type byte and 16 bytes) of boards with this serial (8 hex digits).

    The EEPROM sends "RPi4" or "RPi5", board revision, the end of the MAC address, and the serial; before March 2020, and
    with `DHCP_OPTION97=0`, the serial four times. Least significant byte first as captured; the other order is accepted.
    """
    pairs = _pairs(serial)
    orders = dict.fromkeys((pairs[::-1], pairs))
    fourcc = ("52", "50", "69", "*")
    return tuple(
        ":".join(("00", *layout))
        for order in orders
        for layout in ((*fourcc, *("*",) * 8, *order), (*order, *order, *order, *order))
    )


def _quoted(path: str) -> str:
    """Return a path in which commas, colons, spaces and hashes mean nothing to dnsmasq."""
    escaped = path.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _pairs(serial: str) -> tuple[str, ...]:
    return tuple(serial[i : i + 2] for i in range(0, len(serial), 2))
