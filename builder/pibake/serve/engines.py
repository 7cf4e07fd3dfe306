"""The engines that serve what has been got ready."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.netboot import ganesha, grub
from pibake.netboot.dnsmasq import Uefi
from pibake.netboot.ganesha import Export
from pibake.serve import dhcp, disks, nfs

if TYPE_CHECKING:
    from pibake.serve.engine import Engine
    from pibake.serve.folders import Folders
    from pibake.serve.prepare import Served

NUMBERS = "exports.json"
SOCKETS = Path("/run/pibake")
"""The name of a socket is 107 bytes long at most (unix(7)), which a folder of somebody's may exceed."""


def engines(served: Served, folders: Folders) -> tuple[Engine, ...]:
    """Return the engines in the order they start: boards are answered when everything they will ask for is there."""
    found = []
    if any(client.root == "nfs" for client in served.clients):
        found.append(nfs.engine(served.site, exports(served, folders), folders.run / "nfs", handles(folders)))
    if served.disks:
        found.append(disks.engine(served.disks, monitor(folders)))
    uefi = Uefi(grub.SHIM, grub.url(served.site)) if served.uefi else None
    found.append(dhcp.engine(served.site, served.clients, folders.tftp, folders.run / "dnsmasq", uefi))
    return tuple(found)


def monitor(folders: Folders) -> Path:
    """Return the socket at which the storage daemon is told what to do."""
    return _socket(folders, "nbd")


def handles(folders: Folders) -> Path:
    """Return the socket at which Ganesha asks what it may open."""
    return _socket(folders, "nfs")


def _socket(folders: Folders, what: str) -> Path:
    name = hashlib.sha256(str(folders.root).encode()).hexdigest()[:12]
    return SOCKETS / f"{name}.{what}"


def exports(served: Served, folders: Folders) -> tuple[Export, ...]:
    """Return the golden images for every node, and each node's own folder for that node alone."""
    mounting = [client for client in served.clients if client.root == "nfs"]
    paths = [ganesha.GOLDEN, *(ganesha.own(client.hostname) for client in mounting)]
    number = nfs.numbers(folders.run / NUMBERS, paths)
    golden = Export(number[ganesha.GOLDEN], folders.golden, ganesha.GOLDEN, served.site.address.network)
    return (
        golden,
        *(
            Export(
                number[path], folders.node(client.hostname) / "export", path, client.address, writable=True
            )
            for client in mounting
            for path in [ganesha.own(client.hostname)]
        ),
    )
