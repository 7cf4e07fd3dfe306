"""The boards that can be played: how each behaves on the wire, as data.

Sources: Raspberry Pi documentation, "Network booting" (boot flow, known problems, captures), "Boot flow" and "DHCP_OPTION97";
captures in raspberrypi/firmware#862, #871, #941 (DHCP of boot ROM and bootcode.bin) and #1041 (their TFTP), #670 (servers),
raspberrypi/rpi-eeprom#58, #82, #87, #376, #687 (EEPROM), raspberrypi/cmprovision#16 (CM4); EDK2 under QEMU for UEFI. Where in the
order of files nothing is published, it is a likely one: servers cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MENU = b"Raspberry Pi Boot"
"""What a Pi looks for in option 43."""
PXE_OPTIONS = (128, 129, 130, 131, 132, 133, 134, 135)
LEGACY_WANTED = (43, 60, 67, *PXE_OPTIONS, 66)
EEPROM_WANTED = (1, 3, 43, 60, 66, 67, *PXE_OPTIONS)
UEFI_WANTED = (
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97, *PXE_OPTIONS,
)  # fmt: skip


class Id(StrEnum):
    """What a board puts into option 97."""

    CONSTANT = "0x44, sixteen times"
    SERIAL = "the serial, four times"
    BOARD = "FourCC, board revision, end of the MAC address, serial"
    ZERO = "zeros"


class Need(StrEnum):
    """What a board does without a file."""

    REQUIRED = "stops"
    EXPECTED = "goes on, and lacks something"
    OPTIONAL = "goes on"
    ABSENT = "goes on; if the file is there, something else happens than booting"


@dataclass(frozen=True)
class Asking:
    """How a stage gets an address.

    Attributes:
        wanted: option 55, in order.
        identifier: what option 97 holds.
        vendor: option 60.
        architecture: option 93.
        interface: option 94.
        order: the options of a DISCOVER.
        request: the options of a REQUEST; empty for a stage that takes an offered address without asking for it.
        xid: its transaction id; None for a random one.
        menu: what option 43 must hold; empty for a stage that takes a boot file's name instead.
        sources: where it takes the TFTP server's address from, the first that is there: "66", "43" (who sent it), "siaddr".
        tries: how many DISCOVERs it sends.
        wait: seconds between them.
        hasty: seconds before which an answer may hang it.
        gateway: whether it reaches servers in other subnets.
    """

    wanted: tuple[int, ...]
    identifier: Id
    vendor: str = "PXEClient:Arch:00000:UNDI:002001"
    architecture: int = 0
    interface: bytes = b"\1\2\1"
    order: tuple[int, ...] = (53, 55, 93, 94, 97, 60)
    request: tuple[int, ...] = ()
    xid: int | None = None
    menu: bytes = MENU
    sources: tuple[str, ...] = ("66", "43", "siaddr")
    tries: int = 5
    wait: float = 5.0
    hasty: float = 0.0
    gateway: bool = True


@dataclass(frozen=True)
class Transfer:
    """How a stage asks for files.

    Attributes:
        options: of a read request, in order, as names and values.
        probe: options of a request that only asks whether a file is there; empty to ask with `options`.
        abort: error code with which such a request is given up.
        limit: seconds a file may take.
        blocks: block size -> note: files of more than 65535 such blocks stop some firmware.
    """

    options: tuple[tuple[str, int], ...] = ()
    probe: tuple[tuple[str, int], ...] = ()
    abort: int = 0
    limit: float = 30.0
    blocks: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Stage:
    """One program that asks for an address and then for files.

    Attributes:
        asking: its DHCP.
        transfer: its TFTP.
        prefixed: whether it looks in a folder of the board's own first.
        markers: files of which one must be there, or it looks in the root instead.
        files: what it loads, in order, and what becomes of it without; names in braces come from config.txt.
    """

    asking: Asking
    transfer: Transfer
    prefixed: bool
    markers: tuple[str, ...]
    files: tuple[tuple[str, Need], ...]


@dataclass(frozen=True)
class Model:
    """One board: its name in `boards.BOARDS`, the start of its MAC address, option 97's first words, and its stages."""

    board: str
    stages: tuple[Stage, ...]
    oui: str = ""
    fourcc: bytes = b""
    revision: int = 0


ROM_ASKING = Asking(
    LEGACY_WANTED, Id.CONSTANT, xid=0x26F30339, menu=MENU + b"   ", sources=("66", "43"), hasty=2.0, gateway=False
)  # fmt: skip
ROM_PLUS_ASKING = Asking(
    (*LEGACY_WANTED, 1, 3), Id.SERIAL, xid=0x26F30339, menu=MENU, sources=("66", "43"), gateway=True
)
BOOTCODE_ASKING = Asking(
    (*LEGACY_WANTED, 1, 3), Id.SERIAL, xid=0x26F30339, sources=("66", "43", "siaddr"), gateway=False
)
EEPROM_ASKING = Asking(
    EEPROM_WANTED, Id.BOARD, request=(53, 55, 93, 94, 97, 50, 54), tries=11, wait=4.0
)  # fmt: skip
UEFI_ASKING = Asking(
    UEFI_WANTED, Id.ZERO, vendor="PXEClient:Arch:00011:UNDI:003000", architecture=11, interface=b"\1\3\0",
    order=(53, 55, 97, 94, 93, 60), request=(53, 54, 50, 55, 97, 94, 93, 60), menu=b"", sources=("siaddr", "66", "43"),
    tries=4, wait=4.0,
)  # fmt: skip

SIZE = ("tsize", 0)
OLD_BLOCKS = "an EEPROM from before October 2022 asks for blocks of 1024 bytes and cannot count that far"
NO_ROLLOVER = "an EEPROM from before September 2025 cannot count that many blocks"
ROM_TRANSFER = Transfer()
BOOTCODE_TRANSFER = Transfer((SIZE,))
EEPROM_TRANSFER = Transfer((SIZE, ("blksize", 1468)), blocks=((1468, NO_ROLLOVER),))
OLD_EEPROM_TRANSFER = Transfer((SIZE, ("blksize", 1468)), blocks=((1468, NO_ROLLOVER), (1024, OLD_BLOCKS)))
UEFI_TRANSFER = Transfer(
    (("blksize", 1468), ("windowsize", 4)), (SIZE, ("blksize", 1468), ("windowsize", 4)), abort=8
)

ROM_FILES = (("bootcode.bin", Need.REQUIRED), ("bootsig.bin", Need.ABSENT))
BOOTCODE_FILES = (
    ("autoboot.txt", Need.OPTIONAL), ("config.txt", Need.EXPECTED), ("recovery.elf", Need.ABSENT),
    ("start.elf", Need.REQUIRED), ("fixup.dat", Need.EXPECTED), ("dt-blob.bin", Need.OPTIONAL), ("bootcfg.txt", Need.OPTIONAL),
    ("{device_tree}", Need.REQUIRED), ("{overlays}", Need.EXPECTED), ("{cmdline}", Need.REQUIRED),
    ("armstub8.bin", Need.OPTIONAL), ("{kernel}", Need.REQUIRED), ("{initramfs}", Need.REQUIRED),
)  # fmt: skip
FILES_2711 = (
    ("config.txt", Need.EXPECTED), ("vl805.sig", Need.OPTIONAL), ("pieeprom.sig", Need.OPTIONAL),
    ("recover4.elf", Need.ABSENT), ("recovery.elf", Need.ABSENT), ("start4.elf", Need.REQUIRED), ("fixup4.dat", Need.EXPECTED),
    ("dt-blob.bin", Need.OPTIONAL), ("bootcfg.txt", Need.OPTIONAL), ("{initramfs}", Need.REQUIRED),
    ("{device_tree}", Need.REQUIRED), ("{overlays}", Need.EXPECTED), ("{cmdline}", Need.REQUIRED),
    ("armstub8-gic.bin", Need.OPTIONAL), ("{kernel}", Need.REQUIRED),
)  # fmt: skip
FILES_2712 = (
    ("config.txt", Need.REQUIRED), ("pieeprom.sig", Need.OPTIONAL), ("{device_tree}", Need.REQUIRED),
    ("{overlays}", Need.EXPECTED), ("{cmdline}", Need.REQUIRED), ("{initramfs}", Need.REQUIRED), ("{kernel}", Need.REQUIRED),
)  # fmt: skip

BOOTCODE = Stage(BOOTCODE_ASKING, BOOTCODE_TRANSFER, True, ("start.elf",), BOOTCODE_FILES)
ROM = (Stage(ROM_ASKING, ROM_TRANSFER, False, (), ROM_FILES), BOOTCODE)
ROM_PLUS = (Stage(ROM_PLUS_ASKING, ROM_TRANSFER, False, (), ROM_FILES), BOOTCODE)
EEPROM_2711 = (Stage(EEPROM_ASKING, OLD_EEPROM_TRANSFER, True, ("start4.elf", "start.elf"), FILES_2711),)
EEPROM_2712 = (Stage(EEPROM_ASKING, EEPROM_TRANSFER, True, ("config.txt",), FILES_2712),)
UEFI = (Stage(UEFI_ASKING, UEFI_TRANSFER, False, (), (("{boot_file}", Need.REQUIRED),)),)

MODELS = {
    "pi2": Model("pi2", ROM, "b8:27:eb"),
    "pi3": Model("pi3", ROM, "b8:27:eb"),
    "pi3b+": Model("pi3b+", ROM_PLUS, "b8:27:eb"),
    "pi4": Model("pi4", EEPROM_2711, "dc:a6:32", b"RPi4", 0xC03111),
    "pi400": Model("pi400", EEPROM_2711, "dc:a6:32", b"RPi4", 0xC03130),
    "cm4": Model("cm4", EEPROM_2711, "dc:a6:32", b"RPi4", 0xB03140),
    "pi5": Model("pi5", EEPROM_2712, "2c:cf:67", b"RPi5", 0xC04170),
    "pi500": Model("pi500", EEPROM_2712, "2c:cf:67", b"RPi5", 0xD04190),
    "cm5": Model("cm5", EEPROM_2712, "2c:cf:67", b"RPi5", 0xC04180),
    "uefi": Model("generic", UEFI, "52:54:00"),
}
"""What `pibake probe --as` takes -> how it behaves."""
