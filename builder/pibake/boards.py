"""The boards pibake knows: what each boots with, runs, and reaches its network through.

Sources: Raspberry Pi documentation, "Conditional filters" (which `[section]`s of config.txt a model sees), "Revision
codes" (the numbers of `[board-type=...]`), "Boot flow" (firmware files by generation), "Raspberry Pi hardware" and the
product pages (memory sold, ports); raspberrypi/linux and mainline Linux, arch/arm64/boot/dts/broadcom (device trees).
Compute Modules come with or without Wi-Fi, and have Ethernet where the carrier has the socket: both are taken to be there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

GENERIC = "generic"
"""The board of a node that does not say which it is."""

ROM_FIRMWARE = ("bootcode.bin", "start.elf")
"""What the boot ROM of every board before the Pi 4 loads from the boot partition, one through the other."""
EEPROM_FIRMWARE = ("start4.elf",)
"""What the Pi 4's EEPROM loads; the Pi 5's holds the whole firmware, so that its partition needs none."""

RP1_MAINLINE = (6, 18)
"""The first mainline Linux that drives the Ethernet of the Pi 5, which is part of its RP1 chip.

Linux' cadence/macb driver and `arm64: dts: rp1: Add ethernet DT node`, accepted in September 2025 for 6.18. Kernels of
Raspberry Pi's own, which Raspberry Pi OS and Ubuntu use, drive it in every release that boots the board.
"""

NETBOOT = {
    "rom-3b": "boot ROM, after a fuse is set once",
    "rom-3b+": "boot ROM",
    "eeprom-2711": "EEPROM of the BCM2711",
    "eeprom-2712": "EEPROM of the BCM2712",
    "uefi": "UEFI's PXE, or whatever the board has",
    "none": "cannot",
}
"""Netboot generation -> what boots such a board from the wire."""


@dataclass(frozen=True)
class Board:
    """One board.

    Attributes:
        name: its id in cluster.yaml.
        title: what its maker calls it.
        about: what sets it apart.
        family: its generation, in the words of config.txt's filters: "pi3", "pi4", "pi5", "pi02".
        filters: every model filter of config.txt that it sees.
        types: numbers of `[board-type=...]` that it sees, if all boards of this name do.
        firmware: files that must be on its boot partition.
        device_trees: names of its device tree, one of which must be on its boot partition; any will do if there are none.
        netboot: how it boots from the wire, a key of `NETBOOT`.
        memory: the sizes it is sold with, in MiB, ascending; empty where that is not known.
        ethernet: whether it has an Ethernet port.
        wifi: whether it has Wi-Fi.
        arches: what it runs, in Debian's names. Each of the processors runs 32-bit programs, the Pi 5's under a 64-bit kernel only.
        mainline: first mainline Linux with which its Ethernet works, as (major, minor); empty for any that boots it.
    """

    name: str
    title: str
    about: str
    family: str
    filters: tuple[str, ...]
    firmware: tuple[str, ...]
    device_trees: tuple[str, ...]
    netboot: str
    memory: tuple[int, ...]
    types: tuple[int, ...] = field(default=(), kw_only=True)
    ethernet: bool = field(default=True, kw_only=True)
    wifi: bool = field(default=True, kw_only=True)
    arches: tuple[str, ...] = field(default=("arm64", "armhf"), kw_only=True)
    mainline: tuple[int, ...] = field(default=(), kw_only=True)


BOARDS = {
    board.name: board
    for board in (
        Board(
            GENERIC,
            "Any 64-bit Raspberry Pi, or arm64 machine with UEFI",
            "any 64-bit Raspberry Pi: the image carries the firmware and device trees of all of them",
            "",
            (),
            (),
            (),
            "uefi",
            (),
        ),
        Board(
            "pi2",
            "Raspberry Pi 2 Model B v1.2",
            "2 Model B v1.2, with the processor of the 3: no Wi-Fi; the v1.1 looks the same, but is 32-bit only",
            "pi2",
            ("pi2",),
            ROM_FIRMWARE,
            ("bcm2710-rpi-2-b.dtb", "bcm2837-rpi-2-b.dtb"),
            "rom-3b",
            (1024,),
            types=(0x04,),
            wifi=False,
        ),
        Board(
            "pi3",
            "Raspberry Pi 3 Model B",
            "3 Model B: 100 Mbit/s Ethernet on USB; its boot ROM needs a fuse set before it boots from the wire",
            "pi3",
            ("pi3",),
            ROM_FIRMWARE,
            ("bcm2710-rpi-3-b.dtb", "bcm2837-rpi-3-b.dtb"),
            "rom-3b",
            (1024,),
            types=(0x08,),
        ),
        Board(
            "pi3b+",
            "Raspberry Pi 3 Model B+",
            "3 Model B+: boots from the wire as it comes, by the boot ROM, with no EEPROM to configure",
            "pi3",
            ("pi3", "pi3+"),
            ROM_FIRMWARE,
            ("bcm2710-rpi-3-b-plus.dtb", "bcm2837-rpi-3-b-plus.dtb"),
            "rom-3b+",
            (1024,),
            types=(0x0D,),
        ),
        Board(
            "pi4",
            "Raspberry Pi 4 Model B",
            "4 Model B: Gigabit Ethernet of its own; boots from the wire by its EEPROM",
            "pi4",
            ("pi4",),
            EEPROM_FIRMWARE,
            ("bcm2711-rpi-4-b.dtb",),
            "eeprom-2711",
            (1024, 2048, 4096, 8192),
            types=(0x11,),
        ),
        Board(
            "pi400",
            "Raspberry Pi 400",
            "400: a Pi 4 inside a keyboard, with a device tree of its own",
            "pi4",
            ("pi4", "pi400"),
            EEPROM_FIRMWARE,
            ("bcm2711-rpi-400.dtb",),
            "eeprom-2711",
            (4096,),
            types=(0x13,),
        ),
        Board(
            "cm4",
            "Raspberry Pi Compute Module 4",
            "Compute Module 4: as a Pi 4, but with eMMC, or a card slot of the carrier's",
            "pi4",
            ("pi4", "cm4"),
            EEPROM_FIRMWARE,
            ("bcm2711-rpi-cm4.dtb", "bcm2711-rpi-cm4-io.dtb"),
            "eeprom-2711",
            (1024, 2048, 4096, 8192),
            types=(0x14,),
        ),
        Board(
            "pi5",
            "Raspberry Pi 5",
            "5: Ethernet behind the RP1 chip, 16 KiB pages, its own kernel",
            "pi5",
            ("pi5",),
            (),
            ("bcm2712-rpi-5-b.dtb", "bcm2712-d-rpi-5-b.dtb", "bcm2712d0-rpi-5-b.dtb"),
            "eeprom-2712",
            (1024, 2048, 4096, 8192, 16384),
            types=(0x17,),
            mainline=RP1_MAINLINE,
        ),
        Board(
            "pi500",
            "Raspberry Pi 500 and 500+",
            "500: a Pi 5 inside a keyboard, with a device tree of its own",
            "pi5",
            ("pi5", "pi500"),
            (),
            ("bcm2712-rpi-500.dtb",),
            "eeprom-2712",
            (8192, 16384),
            types=(0x19,),
            mainline=RP1_MAINLINE,
        ),
        Board(
            "cm5",
            "Raspberry Pi Compute Module 5",
            "Compute Module 5: as a Pi 5, but with eMMC, or a card slot of the carrier's",
            "pi5",
            ("pi5", "cm5"),
            (),
            tuple(
                f"bcm2712-rpi-cm5{lite}-{carrier}.dtb" for lite in ("", "l") for carrier in ("cm5io", "cm4io")
            ),
            "eeprom-2712",
            (2048, 4096, 8192, 16384),
            mainline=RP1_MAINLINE,
        ),
        Board(
            "zero2w",
            "Raspberry Pi Zero 2 W",
            "Zero 2 W: no Ethernet and 512 MiB, so an agent at most, on Wi-Fi or a USB adapter",
            "pi02",
            ("pi0", "pi0w", "pi02"),
            ROM_FIRMWARE,
            ("bcm2710-rpi-zero-2-w.dtb", "bcm2710-rpi-zero-2.dtb", "bcm2837-rpi-zero-2-w.dtb"),
            "none",
            (512,),
            types=(0x12,),
            ethernet=False,
        ),
    )
}
"""Name -> board, in the order in which they are listed."""


def size(mib: int) -> str:
    """Return a size in MiB as it is written in cluster.yaml: 4GiB, 512MiB."""
    return f"{mib}MiB" if mib % 1024 else f"{mib // 1024}GiB"
