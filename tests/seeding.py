"""What tests of seeds share: a system as the image of a base says it, and its boot partition's texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pibake.seed import Origin
from pibake.system import CloudInit, Growth, Kernel, Network, Release, System

FILES = ("user-data", "meta-data", "network-config")
DEBIAN = System(
    release=Release("debian", "13", "trixie", "Debian GNU/Linux 13 (trixie)"),
    arch="arm64",
    init="systemd",
    boot="boot/firmware",
    cmdlines=("cmdline.txt",),
    network=Network.NETPLAN,
    growth=Growth.CLOUD_INIT,
    cloud_init=CloudInit("25.1.4", "link", FILES, (Network.NETPLAN, Network.NETWORKD)),
    python="3.13",
    kernels=(Kernel("vmlinuz", "6.12.48+deb13-arm64"),),
)
ORIGIN = Origin("lab", "debian-13", "ba" * 32, "90" * 32)


def on(cmdline: str, path: str = "cmdline.txt", system: System = DEBIAN) -> dict[str, Any]:
    """Return `seed`'s arguments for a base with this kernel command line."""
    return {
        "system": replace(system, cmdlines=(path,)),
        "origin": ORIGIN,
        "boot": {path: cmdline, system.config: "arm_64bit=1\nkernel=vmlinuz\n"},
    }
