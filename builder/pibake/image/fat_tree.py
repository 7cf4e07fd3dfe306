"""The structure of a FAT16 or FAT32 file system: clusters, their chains, and the entries of folders.

Read for what mtools cannot do: `fat_replace` changes files in an order of its own choosing. Offsets are bytes of the image or
device. Format: Microsoft FAT specification 1.03; long names: its section "Long Directory Entries".
"""

from __future__ import annotations

import os
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

SLOT = 32
"""Bytes of an entry of a folder, and of each piece of a long name before it."""
FREE, DELETED = 0x00, 0xE5
"""First byte of a slot: nothing here and behind, and nothing here."""
VOLUME, FOLDER, LONG_NAME = 0x08, 0x10, 0x0F
"""Attributes."""
LOWEST = {16: 4085, 32: 65525}
"""The least number of clusters of each kind; the kind follows from the number alone."""


@dataclass(frozen=True)
class Entry:
    """A name in a folder: where its slots are (the last one is the entry itself), and where its content begins."""

    name: str
    slots: tuple[int, ...]
    raw: bytes

    @property
    def cluster(self) -> int:
        """Return the first cluster, 0 for an empty file."""
        high, low = struct.unpack_from("<H4xH", self.raw, 20)
        return int(high << 16 | low)

    @property
    def is_folder(self) -> bool:
        """Return whether it is a folder."""
        return bool(self.raw[11] & FOLDER)


class Volume:
    """The FAT file system at byte `start` of `image`.

    Raises:
        ImageError: there is none, or its chains are damaged.
    """

    def __init__(self, image: Path, start: int) -> None:
        self.image, self.start = image, start
        block = self.read(start, 512)
        if len(block) < 512 or block[510:] != b"\x55\xaa":
            raise self._damaged("its first block has no signature 55 aa")
        self.sector, per_cluster, reserved, self.copies, self.root_slots, short = struct.unpack_from(
            "<HBHBHH", block, 11
        )
        size16, size32 = struct.unpack_from("<H8xI", block, 22)
        total, fat32, root = short or size32, *struct.unpack_from("<I4xI", block, 36)
        if (
            self.sector not in {512, 1024, 2048, 4096}
            or not per_cluster
            or not reserved
            or not 1 <= self.copies <= 2
        ):
            raise self._damaged("its first block is nonsense")
        self.cluster_size: int = self.sector * per_cluster
        self.table_size = (size16 or fat32) * self.sector
        self.table_start = start + reserved * self.sector
        self.root_start = self.table_start + self.copies * self.table_size
        self.data_start: int = self.root_start + -(-self.root_slots * SLOT // self.sector) * self.sector
        self.count = (start + total * self.sector - self.data_start) // self.cluster_size
        self.bits = 32 if not size16 else 16
        self.root_cluster = root if self.bits == 32 else 0
        info = struct.unpack_from("<H", block, 48)[0] if self.bits == 32 else 0
        self.info = start + info * self.sector if 0 < info < reserved else 0
        if self.count < LOWEST[self.bits] or (self.count + 2) * self.bits // 8 > self.table_size:
            raise self._damaged(
                f"{self.count} clusters are no FAT{self.bits}"
            )  # FAT12: no firmware's partition is so small
        self.table = self._table()

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes of the image."""
        with self.image.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), count, offset)

    def place(self, cluster: int) -> int:
        """Return where a cluster begins."""
        return self.data_start + (cluster - 2) * self.cluster_size

    def cluster(self, place: int) -> int:
        """Return the cluster that a byte is in."""
        return (place - self.data_start) // self.cluster_size + 2

    def chain(self, cluster: int, what: str) -> list[int]:
        """Return the clusters of a chain.

        Raises:
            ImageError: it leads in a circle, or to a cluster that is free or does not exist; `what` is whose it is.
        """
        found: list[int] = []
        while cluster:
            if not 2 <= cluster < self.count + 2 or not self.value(cluster) or len(found) > self.count:
                raise self._damaged(f"the clusters of {what} do not hang together")
            found.append(cluster)
            following = self.value(cluster)
            cluster = 0 if following >= self.end & ~7 else following
        return found

    @property
    def end(self) -> int:
        """Return the value that ends a chain."""
        return 0x0FFFFFFF if self.bits == 32 else 0xFFFF

    def value(self, cluster: int) -> int:
        """Return what the table says of a cluster: 0 if it is free, otherwise the next of its chain."""
        return int(self.table[cluster]) & self.end

    def slots(self, path: str) -> list[int]:
        """Return the places of all slots of a folder; the root is "".

        Raises:
            ImageError: there is no such folder.
        """
        if not path and self.bits == 16:
            return list(range(self.root_start, self.root_start + self.root_slots * SLOT, SLOT))
        cluster = self.root_cluster
        if path:
            entry = self.find(path)
            if entry is None or not entry.is_folder:
                raise self._damaged(f"it has no folder {path}")
            cluster = entry.cluster
        chain = self.chain(cluster, path or "the root folder")
        return [self.place(cluster) + at for cluster in chain for at in range(0, self.cluster_size, SLOT)]

    def find(self, path: str) -> Entry | None:
        """Return what a path stands for, in whatever case; None if there is nothing."""
        folder, _, name = path.rpartition("/")
        entries = self.entries(self.slots(folder))
        return next((entry for entry in entries if entry.name.lower() == name.lower()), None)

    def entries(self, slots: list[int]) -> list[Entry]:
        """Return the entries in the slots of a folder."""
        found: list[Entry] = []
        pieces: list[tuple[int, str]] = []
        for place, raw in zip(slots, self._raw(slots), strict=True):
            if raw[0] == FREE:
                break
            if raw[0] == DELETED:
                pieces = []
            elif raw[11] & 0x3F == LONG_NAME:
                text = (raw[1:11] + raw[14:26] + raw[28:32]).decode("utf-16-le", "replace")
                pieces.append((place, text.partition("\0")[0].rstrip("\uffff")))
            else:
                long = "".join(text for _, text in reversed(pieces))
                if not raw[11] & VOLUME:
                    places = (*(at for at, _ in pieces), place)
                    found.append(Entry(long or _short(raw), places, raw))
                pieces = []
        return found

    def _raw(self, slots: list[int]) -> list[bytes]:
        """Return the bytes of slots, with one read for those in a row."""
        raws: list[bytes] = []
        position = 0
        while position < len(slots):
            end = position + 1
            while end < len(slots) and slots[end] == slots[end - 1] + SLOT:
                end += 1
            data = self.read(slots[position], (end - position) * SLOT)
            if len(data) < (end - position) * SLOT:
                raise self._damaged("it ends too early")
            raws += [data[at : at + SLOT] for at in range(0, len(data), SLOT)]
            position = end
        return raws

    def _table(self) -> array[int]:
        values = array("I" if self.bits == 32 else "H")
        data = self.read(self.table_start, self.table_size)
        if len(data) < self.table_size:
            raise self._damaged("it ends too early")
        values.frombytes(data)
        return values

    def _damaged(self, detail: str) -> ImageError:
        return ImageError(
            f"{self.image}: the boot partition at byte {self.start} is no FAT file system that can be read: {detail}",
            "`fsck.vfat` may repair it; otherwise flash the card anew",
        )


def _short(raw: bytes) -> str:
    """Return a name of 8 and 3 letters; Windows' bits in byte 12 say which part is in lower case."""
    stem, suffix = raw[:8].decode("cp437").rstrip(), raw[8:11].decode("cp437").rstrip()
    stem = stem.lower() if raw[12] & 0x08 else stem
    suffix = suffix.lower() if raw[12] & 0x10 else suffix
    return f"{stem}.{suffix}" if suffix else stem


def short_name(name: str, used: Collection[bytes]) -> bytes:
    """Return a name of 8 and 3 letters for one that is longer, which is not among those `used`: `PIBAKE~1TAR`."""
    stem, _, suffix = name.upper().rpartition(".") if "." in name else (name.upper(), "", "")
    letters = "".join(c for c in stem if c.isalnum() and c.isascii())[:6]
    numbers = (f"{letters[: 7 - len(str(number))]}~{number}" for number in range(1, 1000))
    shorts = (number.ljust(8).encode() + suffix[:3].ljust(3).encode() for number in numbers)
    return next(short for short in shorts if short not in used)
