"""What an image says of the system in it: which one it is, and where a seed has to go for that system to see it.

Values only. `pibake.image.inspect` reads them out of an image; seeds, renderers and board rules go by them, never by
the name a catalogue gave to a base.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Network(StrEnum):
    """Programs that configure the network of a running system."""

    NETPLAN = "netplan"
    NETWORKD = "networkd"
    NETWORK_MANAGER = "network-manager"
    IFUPDOWN = "ifupdown"
    DHCPCD = "dhcpcd"
    IFCFG = "ifcfg"


class Growth(StrEnum):
    """What makes the root file system as large as the card at the first boot."""

    CLOUD_INIT = "cloud-init"
    """cloud-init's growpart and resizefs, with the tools they call."""
    RASPBERRY_PI = "rpi-resize"
    """Raspberry Pi OS' own, asked for by a word of the kernel command line."""
    PIBAKE = "pibake"
    """pibake's first-boot unit, with sfdisk or growpart, and resize2fs."""
    NONE = "none"
    """Nothing can: the tools are missing."""


@dataclass(frozen=True)
class Release:
    """Which system: os-release(5)'s ID, VERSION_ID, VERSION_CODENAME and PRETTY_NAME, empty where they are not given."""

    id: str
    version: str
    codename: str
    title: str


@dataclass(frozen=True)
class CloudInit:
    """The cloud-init of an image.

    Attributes:
        version: as its package says, without the packaging's part: "25.1.4", "0.7.9".
        found_by: how its NoCloud data source comes to the seed on the boot partition: "label" (a file system label),
            "link" (from below /var/lib/cloud/seed), "seedfrom" (a file:// URL).
        files: the names it reads there, as they are called on the boot partition: "user-data", "meta-data", and
            "network-config" if it reads one.
        renders: the programs it can hand a network configuration to on this system, best first; empty if there is none.
    """

    version: str
    found_by: str
    files: tuple[str, ...]
    renders: tuple[Network, ...]

    @property
    def release(self) -> tuple[int, ...]:
        """Return the version as numbers, to compare with: (25, 1, 4)."""
        numbers = []
        for part in self.version.split("."):
            digits = ""
            for character in part:
                if not character.isdigit():
                    break
                digits += character
            numbers.append(int(digits or 0))
        return tuple(numbers)

    @property
    def reads_network(self) -> bool:
        """Return whether the seed's network-config reaches a program that can act on it."""
        return "network-config" in self.files and bool(self.renders)


@dataclass(frozen=True)
class Kernel:
    """A kernel of the boot partition: its file, its release if modules of it are there, and its pages in KiB."""

    file: str
    release: str
    page_kib: int = 4


@dataclass(frozen=True)
class System:
    """Everything that decides how a node is made from an image.

    Attributes:
        release: which system it is.
        arch: Debian's name of the user land's architecture: "arm64" or "armhf".
        init: "systemd", or the name of another program that is process 1.
        boot: where the boot partition is mounted, without leading slash: "boot/firmware" or "boot".
        cmdlines: every file of the boot partition that holds a kernel command line some board or slot may boot with.
        config: the text file the firmware reads settings from, "config.txt".
        network: what configures the network; several may be installed, this one is in charge.
        growth: what enlarges the root file system.
        cloud_init: its cloud-init, or None.
        python: version of /usr/bin/python3, "" without one.
        kernels: the kernels on the boot partition.
        customised: what shows that somebody has made a node of this image before; "" if nothing does.
        wizard: units that would ask a person questions at the first boot.
    """

    release: Release
    arch: str
    init: str
    boot: str
    cmdlines: tuple[str, ...]
    network: Network
    growth: Growth
    cloud_init: CloudInit | None = None
    python: str = ""
    kernels: tuple[Kernel, ...] = ()
    config: str = "config.txt"
    customised: str = ""
    wizard: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> System:
        """Return what `to_json` was made from."""
        cloud = values["cloud_init"]
        return System(
            **{
                **values,
                "release": Release(**values["release"]),
                "cmdlines": tuple(values["cmdlines"]),
                "network": Network(values["network"]),
                "growth": Growth(values["growth"]),
                "cloud_init": CloudInit(
                    cloud["version"],
                    cloud["found_by"],
                    tuple(cloud["files"]),
                    tuple(map(Network, cloud["renders"])),
                )
                if cloud
                else None,
                "kernels": tuple(Kernel(**kernel) for kernel in values["kernels"]),
                "wizard": tuple(values["wizard"]),
            }
        )
