"""The disk of an assembled Debian base: partition table and boot partition.

The root partition is made by `images/debian/disk.sh`, in the user namespace of the tree.

Formats: MBR as sfdisk writes it; FAT32 by mkfs.vfat, not mformat, which would put the label in upper case, and
`LABEL=system-boot` in fstab would then never match; files by mtools.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.run import run

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
SECTOR = 512
BLOCK = 4096
START = 1 * MIB
"""Where the boot partition starts; the boards' boot ROM does not care, alignment does."""


@dataclass(frozen=True)
class Disk:
    """The image file while it is being made."""

    path: Path
    boot_mib: int
    size_mib: int
    epoch: int
    identifier: Callable[[str], uuid.UUID]

    @property
    def root_offset(self) -> int:
        """Return where the root partition starts, in bytes."""
        return START + self.boot_mib * MIB

    def partition(self) -> None:
        """Create the file, sparse, and write its partition table."""
        with self.path.open("wb") as file:
            file.truncate(self.size_mib * MIB)
        label = self.identifier("disk").int >> 96
        boot = self.boot_mib * MIB // SECTOR
        script = (
            f"label: dos\nlabel-id: {label:#010x}\nunit: sectors\n"
            f"start={START // SECTOR}, size={boot}, type=c, bootable\n"
            f"start={self.root_offset // SECTOR}, type=83\n"
        )
        run(["sfdisk", "--quiet", self.path], why="write the partition table", stdin=script.encode())

    def environment(self) -> dict[str, str]:
        """Return what `disk.sh` needs to know."""
        return {
            "PIBAKE_OFFSET": str(self.root_offset),
            "PIBAKE_BLOCKS": str((self.size_mib * MIB - self.root_offset) // BLOCK),
            "PIBAKE_UUID": str(self.identifier("writable")),
        }

    def write_boot(self, firmware: Path) -> None:
        """Make the boot partition and copy the files of a folder into it."""
        volume = self.identifier("system-boot").int >> 96
        run(
            [
                "mkfs.vfat", "-F", "32", "-n", "system-boot", "--invariant", "-i", f"{volume:08x}",
                "--offset", str(START // SECTOR), self.path, str(self.boot_mib * MIB // 1024),
            ],
            why="make the boot partition",
        )  # fmt: skip
        # In sorted order, because the order of copying is the order on the partition.
        self._copy(firmware, "")
        for folder in sorted(f for f in firmware.iterdir() if f.is_dir()):
            self._copy(folder, folder.name)

    def _copy(self, folder: Path, target: str) -> None:
        """Copy the files of a folder into a folder of the boot partition; -m keeps their dates."""
        files = sorted(f for f in folder.iterdir() if f.is_file())
        for file in files:
            os.utime(file, (self.epoch, self.epoch))
        place = f"{self.path}@@{START}"
        env = {"TZ": "UTC", "MTOOLS_SKIP_CHECK": "1", "SOURCE_DATE_EPOCH": str(self.epoch)}
        if target:
            run(["mmd", "-i", place, f"::{target}"], why="fill the boot partition", env=env)
        run(
            ["mcopy", "-Q", "-m", "-i", place, *files, f"::{target}/"], why="fill the boot partition", env=env
        )
