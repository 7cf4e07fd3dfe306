"""What boards fetch by HTTP: the files of TFTP for UEFI, and signed boot images for the Pi 4 and 5."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pibake.netboot.httpboot import IMAGE, SIGNATURE
from pibake.serve import ramdisk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Address

    from pibake.netboot.values import Client
    from pibake.secret import Secret
    from pibake.serve.folders import Folders
    from pibake.serve.ramdisk import Ramdisk
    from pibake.tree import Tree

NEIGHBOURS = Path("/proc/net/arp")


@dataclass(frozen=True)
class Boot:
    """What one node boots from: its golden image's boot partition, its own files of it, and their time."""

    client: Client
    tftp: Path
    own: Tree
    epoch: int


@dataclass
class Files:
    """Answers one peer's question for one path; `boots` may be replaced while it does."""

    boots: Mapping[str, Boot]
    folders: Folders
    key: Secret | None
    _known: dict[str, Ramdisk] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, peer: IPv4Address, path: str) -> Path | bytes | Ramdisk | None:
        """Return what is there for a board at an address, or None."""
        # shim asks for `//grubaa64.efi`, having made a backslash of its own a slash, or with the backslash
        path = path.replace("\\", "/").lstrip("/")
        name = PurePosixPath(path).name
        if name in {IMAGE, SIGNATURE}:
            return self._image(peer, name)
        try:
            found = (self.folders.tftp / path).resolve()
            return found if found.is_relative_to(self.folders.tftp.resolve()) and found.is_file() else None
        except (OSError, ValueError):  # what no file can be called
            return None

    def _image(self, peer: IPv4Address, name: str) -> bytes | Ramdisk | None:
        """Return a node's boot image, or its signature: all boards of a rack ask for the same path."""
        boot = self._whose(peer)
        if boot is None or self.key is None:
            return None
        with self._lock:
            key = f"{boot.tftp.name} {boot.own.digest()}"
            if key not in self._known:
                shared = boot.tftp.parent / f"{boot.tftp.name}.fat"
                ramdisk.make(boot.tftp, shared, epoch=boot.epoch)
                self._known[key] = ramdisk.ramdisk(shared, boot.own, epoch=boot.epoch)
            disk = self._known[key]
        return disk if name == IMAGE else disk.sig(self.key, int(time.time())).encode()

    def _whose(self, peer: IPv4Address) -> Boot | None:
        """Find a node by its own address, or by the MAC address behind one that a router gave it."""
        hardware = neighbour(peer)
        for boot in self.boots.values():
            if boot.client.address == peer or (hardware and boot.client.mac == hardware):
                return boot
        return None


def neighbour(address: IPv4Address) -> str:
    """Return the MAC address of a neighbour, as the kernel knows it; "" if it does not (proc(5), /proc/net/arp)."""
    for line in NEIGHBOURS.read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[0] == str(address):
            return fields[3]
    return ""
