"""The root partition of a base while a payload is put into it: a file of its own, later part of a larger image.

resize2fs could not do with less, see `ext4.resize`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image import ext4, table
from pibake.image.ext4_write import write
from pibake.image.extents import CHUNK, ZEROS, extents
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pibake.image.ext4_tree import Files
    from pibake.image.ext4_write import Entry
    from pibake.progress import Meter

MIB = 1 << 20
SPARE = 64 * MIB
"""What is free in a golden image beyond what was free in its base."""
GRAIN = 4 * MIB
"""Images are a multiple of this: the erase block of small SD cards, and what QEMU's SD card wants to be aligned to."""


@dataclass(frozen=True)
class RootPart:
    """The root partition while it is edited: a file of its own, which will start at byte `start` of the image."""

    path: Path
    start: int
    label: str
    epoch: int

    def take(self, base: Path, size: int, meter: Meter) -> None:
        """Copy the partition out of the base, and bring its file system into a clean state."""
        _copy(_Range(base, self.start, self.start + size), self.path, 0, meter.add)
        ext4.repair(self.path, epoch=self.epoch)

    def fill(self, files: Files, entries: Sequence[Entry], meter: Meter) -> None:
        """Make room in the file system, write the entries, and have it checked; what is free then is holes."""
        before = ext4.state(self.path)
        wanted = before.free + SPARE
        self._grow(wanted + sum(_footprint(entry, before.block) for entry in entries), len(entries))
        already = meter.done
        write(files, entries, epoch=self.epoch, on_bytes=lambda count: meter.set(already + count))
        self._grow(wanted, 0)  # only if the estimate was too low
        ext4.finish(self.path, epoch=self.epoch)

    def _grow(self, free: int, inodes: int) -> None:
        """Enlarge the file system until so much is free; the end of the image stays aligned."""
        tail = MIB if self.label == "gpt" else 0  # for the second table at the end of the disk
        while (now := ext4.state(self.path)).free < free or now.inodes < inodes:
            lacking = max(free - now.free, 128 * MIB if now.inodes < inodes else 0)
            # resize2fs leaves out a last group of blocks that is too small for its own tables: from what was asked for
            # the last time on, so that each turn asks for more
            end = self.start + self.path.stat().st_size + lacking + lacking // 50 + tail
            ext4.resize(self.path, -(-end // GRAIN) * GRAIN - tail - self.start, epoch=self.epoch)

    def put_behind_boot(self, base: Path, image: Path, meter: Meter) -> None:
        """Make the image: everything of the base before the root partition, then this one, in a table that fits."""
        size = self.path.stat().st_size
        if not self._moved_up(image):
            _copy(_Range(self.path, 0, size), image, self.start, meter.add)
        with image.open("r+b") as file:
            file.truncate(-(-(self.start + size) // GRAIN) * GRAIN)
        _copy(_Range(base, 0, self.start), image, 0, meter.add)
        table.enlarge_last(image, self.start + size)

    def _moved_up(self, image: Path) -> bool:
        """Turn the file into the image by putting a hole before its content, which copies nothing.

        ext4 and XFS can do that (fallocate(2), FALLOC_FL_INSERT_RANGE) at whole blocks; elsewhere False is returned.
        """
        self.path.replace(image)
        insert = ["fallocate", "--insert-range", "--offset", "0", "--length", str(self.start), str(image)]
        if run(insert, why="put the boot partition before the root partition", check=False).code == 0:
            return True
        image.replace(self.path)
        return False


def digest(path: Path, on_bytes: Callable[[int], None]) -> str:
    """Return the sha256 (hex) of a file; its holes, half of a golden image, come from memory."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        position, end = 0, path.stat().st_size
        for first, last in [*extents(file.fileno(), 0, end), (end, end)]:
            while position < first:
                total.update(ZEROS[: min(len(ZEROS), first - position)])
                position += min(len(ZEROS), first - position)
            while position < last:
                piece = os.pread(file.fileno(), min(CHUNK, last - position), position)
                if not piece:
                    raise ImageError(f"{path} became shorter while it was read")
                total.update(piece)
                position += len(piece)
                on_bytes(len(piece))
    return total.hexdigest()


def _footprint(entry: Entry, block: int) -> int:
    """Return about how much of the file system an entry takes: its blocks, and one for a directory or extents."""
    size = entry.source.stat().st_size if entry.source else 0
    return -(-size // block) * block + block + size // 256


@dataclass(frozen=True)
class _Range:
    path: Path
    start: int
    end: int


def _copy(source: _Range, target: Path, at: int, on_bytes: Callable[[int], None]) -> None:
    """Copy a range of a file to byte `at` of another one, holes as holes."""
    reader = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(writer, max(os.fstat(writer).st_size, at + source.end - source.start))
        for first, last in extents(reader, source.start, source.end):
            position = first
            while position < last:
                piece = os.pread(reader, min(CHUNK, last - position), position)
                # what does not fit into one write is read again, until there is room or an error
                count = os.pwrite(writer, piece, at + position - source.start)
                if not count:
                    raise ImageError(f"{source.path} became shorter while it was copied")
                position += count
                on_bytes(count)
    finally:
        os.close(reader)
        os.close(writer)
