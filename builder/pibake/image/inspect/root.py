"""The root file system of an image, read in a handful of processes, and what it says without further questions."""

from __future__ import annotations

import re
import shlex
import struct
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image import ext4
from pibake.image.ext4_tree import DIRECTORY, LINK, REGULAR, Files
from pibake.system import Release

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SHELLS = ("bin/sh", "bin/bash", "usr/bin/env")
"""Programs that are on every system: whose architecture they have, the system has."""
UNITS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
FOLDERS = (
    "boot", "etc", "etc/cloud/cloud.cfg.d", "etc/network/interfaces.d", "etc/rc3.d", "etc/ssh", "lib/modules", "sbin", "bin",
    "usr/bin", "usr/lib", "usr/sbin", "usr/lib/raspberrypi-sys-mods", "var/lib/cloud/seed/nocloud",
    "var/lib/cloud/seed/nocloud-net", "var/lib/cloud/instances", *UNITS,
)  # fmt: skip
"""Folders whose names are asked about."""
TEXTS = (
    "etc/os-release", "etc/fstab", "etc/machine-id", "etc/cloud/cloud.cfg", "etc/network/interfaces", "var/lib/dpkg/status",
)  # fmt: skip
PATHS = (
    "etc/cloud/cloud-init.disabled", "etc/pibake", "var/lib/cloud/instance", "boot/firmware", "sbin/init", "usr/bin/python3",
    "etc/NetworkManager/NetworkManager.conf", "etc/sysconfig/config", "etc/sysconfig/network-scripts/network-functions",
    "usr/lib/raspi-config/init_resize.sh",
)  # fmt: skip
SCRIPT = 64 << 10
"""No script that stands in for init is larger than this, in bytes; every init is."""
MACHINES = {183: "arm64", 62: "amd64", 3: "i386", 243: "riscv64"}
"""Debian's names for values of e_machine (elf(5))."""
ARM, HARD_FLOAT = 40, 0x400
"""EM_ARM, and EF_ARM_ABI_FLOAT_HARD of e_flags, which tells armhf from armel (ELF for the Arm Architecture)."""


class Root:
    """The tree of the last partition of an image; paths have no leading slash."""

    def __init__(self, image: Path) -> None:
        self.image = image
        partition = ext4.root_partition(image)
        self.files = files = Files(image, partition.start)
        # a name that is not there makes `know` list the folder it would be in
        files.know([*(f"{folder}/*" for folder in FOLDERS), *TEXTS, *PATHS, *SHELLS])
        wants = [
            f"{folder}/{name}"
            for folder in UNITS
            for name, node in files.listing(folder).items()
            if node.kind == DIRECTORY and name.endswith((".wants", ".requires"))
        ]
        files.know([f"{folder}/*" for folder in wants])
        self._enabled = {
            *(name for folder in wants for name in files.listing(folder)),
            *(name[3:] for name in files.listing("etc/rc3.d") if re.match(r"S\d\d", name)),
        }
        init = files.find("sbin/init")[1]
        self._contents = files.contents(
            [
                *TEXTS,
                *SHELLS,
                *(
                    f"etc/cloud/cloud.cfg.d/{name}"
                    for name in self.names("etc/cloud/cloud.cfg.d")
                    if name.endswith(".cfg")
                ),
                *(f"etc/network/interfaces.d/{name}" for name in self.names("etc/network/interfaces.d")),
                *(["sbin/init"] if init and init.size <= SCRIPT else []),
            ]
        )

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none if there is no such folder."""
        return sorted(self.files.listing(folder))

    def has(self, path: str) -> bool:
        """Return whether something is at a path, links followed."""
        return self.files.find(path)[1] is not None

    def data(self, path: str) -> bytes:
        """Return a file's content; nothing if it is missing or was not read."""
        return self._contents.get(path, b"")

    def text(self, path: str) -> str:
        """Return a file's text; nothing if it is missing or was not read."""
        return self.data(path).decode("utf-8", "replace")

    def program(self, name: str, folders: Iterable[str] = ("usr/bin", "bin", "usr/sbin", "sbin")) -> bool:
        """Return whether one of some folders has a program."""
        return any(name in self.files.listing(folder) for folder in folders)

    def enabled(self, unit: str) -> bool:
        """Return whether systemd starts a unit at boot by itself; old init scripts count under their own name."""
        return unit in self._enabled and not self.masked(unit)

    def masked(self, unit: str) -> bool:
        """Return whether a unit is a link to /dev/null or an empty file (systemd.unit(5))."""
        here, node = self.files.find(f"etc/systemd/system/{unit}", follow=False)
        if node and node.kind == LINK:
            return self.files.find(here)[0] == "dev/null"
        return node is not None and node.kind == REGULAR and node.size == 0


def release(root: Root) -> Release:
    """Return which system it is (os-release(5)).

    Raises:
        ImageError: it does not say.
    """
    fields = {}
    for line in root.text("etc/os-release").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            try:
                fields[name] = "".join(shlex.split(value))
            except ValueError:
                fields[name] = value  # a quote that is never closed
    if not fields:
        raise ImageError(
            f"{root.image.name}: no /etc/os-release in the last partition, whose root folder holds "
            f"{', '.join(root.names('')) or 'nothing'}",
            "pibake expects a Linux system in the last partition; a base is the image of a whole, installed system",
        )
    return Release(
        fields.get("ID", "linux"),
        fields.get("VERSION_ID", ""),
        fields.get("VERSION_CODENAME", ""),
        fields.get("PRETTY_NAME", ""),
    )


def architecture(root: Root) -> str:
    """Return Debian's name of the user land's architecture, "arm64" or "armhf".

    Raises:
        ImageError: it is another one, or no program was found to tell it.
    """
    head = next((root.data(path)[:64] for path in SHELLS if root.data(path).startswith(b"\x7fELF")), b"")
    if len(head) < 64:
        raise ImageError(
            f"{root.image.name}: cannot tell the system's architecture: none of /{', /'.join(SHELLS)} is a program",
            "is the last partition the root file system?",
        )
    machine = struct.unpack_from("<H", head, 18)[0]
    name = MACHINES.get(machine, f"machine {machine}")
    if machine == ARM:
        name = "armhf" if struct.unpack_from("<I", head, 36)[0] & HARD_FLOAT else "armel"
    if name not in {"arm64", "armhf"}:
        raise ImageError(
            f"{root.image.name}: the system is for {name}, which no board of pibake's runs",
            "get the vendor's arm64 or armhf image",
        )
    return name


def init(root: Root) -> str:
    """Return what process 1 is, by name.

    An image may bring a script in its place that is to run once and puts the real one back (HypriotOS' for 64 bit).
    """
    path, node = root.files.find("sbin/init")
    script = root.text("sbin/init")
    if script.startswith("#!"):
        kept = next((name for name in root.names("sbin") if name.startswith("init.") and name in script), "")
        path, node = root.files.find(f"sbin/{kept}") if kept else (path, node)
    if node is None:
        raise ImageError(
            f"{root.image.name}: there is no /sbin/init in the last partition",
            "pibake expects a Linux system in the last partition",
        )
    return path.rpartition("/")[2]


def python(root: Root) -> str:
    """Return the version of /usr/bin/python3, "3.11"; "" if there is none."""
    path, node = root.files.find("usr/bin/python3")
    if node is None:
        return ""
    if named := re.fullmatch(r".*/python(3\.\d+)", path):
        return named[1]
    versions = [name[6:] for name in root.names("usr/lib") if re.fullmatch(r"python3\.\d+", name)]
    return max(versions, key=lambda version: int(version[2:]), default="3")
