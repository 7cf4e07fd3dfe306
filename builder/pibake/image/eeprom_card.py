"""Setting the boot EEPROM of a Pi 4 or 5: a card for one board after the other, or files for a rack on the network.

On the card the boot ROM finds recovery.bin, which writes pieeprom.bin into the EEPROM if the digest in pieeprom.sig is right,
and then blinks the green LED for good; it would rename itself after a pieeprom.upd, which the next board has no use for.
From TFTP a bootloader takes pieeprom.upd itself, if it differs and `ts:` in pieeprom.sig is newer than that of its last
update (ENABLE_SELF_UPDATE). Raspberry Pi documentation, "boot-eeprom", "Recovery image"; rpi-eeprom, imager/.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.image import fat
from pibake.netboot import eeprom
from pibake.netboot.httpboot import signature
from pibake.run import run
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.netboot.eeprom import Eeprom

PACKAGE = (Path("/usr/lib/firmware/raspberrypi"), Path("/lib/firmware/raspberrypi"))
"""Where the package rpi-eeprom has its files: `bootloader-2711/default/`, and formerly `bootloader/`."""
RECOVERY = "recovery.bin"
SECTOR, START, LENGTH = 512, 1 << 20, 40 << 20
"""Of the card's one partition: FAT32, as the vendor's card has it, needs 65525 clusters of a sector at least."""
LARGEST = 4 << 20


@dataclass(frozen=True)
class Bootloader:
    """An EEPROM image and, beside it, the program that writes it: None if there was none."""

    image: Eeprom
    recovery: Path | None


def named(path: Path) -> Bootloader:
    """Return the bootloader that a person has named; recovery.bin is looked for beside it.

    Raises:
        PibakeError: there is no such file, or it is no EEPROM image.
    """
    if not path.is_file():
        raise PibakeError(
            f"there is no file {path}",
            "name a pieeprom-*.bin, or get the package rpi-eeprom and leave it out",
        )
    with path.open("rb") as file:
        data = file.read(LARGEST)
    recovery = path.with_name(RECOVERY)
    return Bootloader(eeprom.parse(data, path.name), recovery if recovery.is_file() else None)


def installed(chip: str, places: tuple[Path, ...] = PACKAGE) -> Bootloader:
    """Return the newest default bootloader for a chip ("2711", "2712") that the package rpi-eeprom has here.

    Raises:
        PibakeError: there is none.
    """
    folders = [place / name / "default" for place in places for name in (f"bootloader-{chip}", "bootloader")]
    for folder in folders:
        # the names end in the date of release
        for path in sorted(folder.glob("pieeprom-*.bin"), reverse=True):
            if (found := named(path)).image.chip == chip:
                return found
    raise PibakeError(
        f"no bootloader for the BCM{chip} is installed here (in {places[0]})",
        "name one with --eeprom pieeprom-DATE.bin, recovery.bin beside it: they are in the package rpi-eeprom of"
        " Raspberry Pi OS",
    )


def update(image: Eeprom, time: int) -> Tree:
    """Return what a bootloader takes from its TFTP folder: pieeprom.upd and pieeprom.sig."""
    return Tree({"pieeprom.upd": File(image.data), "pieeprom.sig": _sig(image, time)})


def write_card(image: Eeprom, recovery: Path, target: Path, time: int) -> None:
    """Write the image of a card that sets one EEPROM after the other, whole or not at all."""
    data = recovery.read_bytes()
    if not 0 < len(data) <= LARGEST:
        raise PibakeError(
            f"{recovery} is no {RECOVERY}: it has {len(data)} bytes",
            "get it again, from the package rpi-eeprom",
        )
    tree = Tree({RECOVERY: File(data), "pieeprom.bin": File(image.data), "pieeprom.sig": _sig(image, time)})
    volume = hashlib.sha256(image.data).hexdigest()[:8]
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as file:
            file.truncate(START + LENGTH)
        script = f"label: dos\nlabel-id: 0x{volume}\nunit: sectors\nstart={START // SECTOR}, type=c\n"
        run(["sfdisk", "--quiet", part], why="write the partition table", stdin=script.encode())
        argv = ["mkfs.vfat", "-F", "32", "-s", "1", "-n", "PI-EEPROM", "--invariant", "-i", volume]
        run(
            [*argv, "--offset", str(START // SECTOR), part, str(LENGTH // 1024)],
            why="make the card's file system",
        )
        fat.write(part, START, tree, epoch=time)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _sig(image: Eeprom, time: int) -> File:
    return File(signature(hashlib.sha256(image.data).hexdigest(), time, chip=image.chip).encode())
