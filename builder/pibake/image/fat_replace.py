"""Small files of a FAT partition replaced so that a power cut leaves each as it was or as it should be.

mtools writes in an order of its own, and into clusters it has just freed. Here the change is a list of writes first:

1. the new content, into clusters that are free, and their chains in the table: nothing refers to them yet;
2. one entry after the other, in the order they were asked for, is turned to its new content; an entry lies in one sector,
   which a disk writes whole or not at all;
3. the old content is overwritten with zeros, for it may be secret, and its clusters are freed.

Cut off in 1 or 3, clusters stay taken that belong to nobody; `fsck.vfat` frees them, and nothing else is harmed.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image.fat_tree import DELETED, FREE, LONG_NAME, SLOT, Entry, Volume, short_name

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ARCHIVE = 0x20


@dataclass(frozen=True)
class Write:
    """Bytes to put at an offset of the image; each is to be on the disk before the next one."""

    offset: int
    data: bytes


def replace(image: Path, start: int, files: Mapping[str, bytes | None], *, epoch: int) -> tuple[Write, ...]:
    """Return the writes that give the FAT file system at byte `start` of an image these files.

    Args:
        image: an image or a device; it is only read.
        start: where the boot partition begins.
        files: content by path, in the order they are to change; None where no file is to be. Folders must be there.
        epoch: the time the files get, in Unix time.

    Raises:
        ImageError: the file system is damaged, or has no room.
    """
    change = _Change(Volume(image, start), epoch)
    for path, data in files.items():
        change.add(path, data)
    return change.writes()


class _Change:
    """What is to be written, in the order of the module's docstring, and the table as it will be."""

    def __init__(self, volume: Volume, epoch: int) -> None:
        self.volume = volume
        moment = time.gmtime(max(epoch, 315532800))  # FAT's time begins in 1980
        clock = moment.tm_hour << 11 | moment.tm_min << 5 | moment.tm_sec // 2
        day = (moment.tm_year - 1980) << 9 | moment.tm_mon << 5 | moment.tm_mday
        self.stamp = (clock, day)
        self.table = volume.table[:]
        self.content: list[Write] = []
        self.entries: list[Write] = []
        self.old: list[int] = []
        self.sectors: dict[int, bytearray] = {}
        self.folders: dict[str, list[int]] = {}
        self.free = (cluster for cluster in range(2, volume.count + 2) if not volume.value(cluster))

    def add(self, path: str, data: bytes | None) -> None:
        folder, _, name = path.rpartition("/")
        entry = self._find(folder, name)
        if entry is None and data is None:
            return
        if entry:
            if entry.is_folder:
                raise ImageError(f"{self.volume.image}: {path} on the boot partition is a folder, not a file")
            self.old += self.volume.chain(entry.cluster, path)
        if data is None and entry:
            for slot in reversed(entry.slots):  # the entry before its long name, which means nothing alone
                self._put(slot, bytes([DELETED]))
        elif entry and data is not None:
            self._put(entry.slots[-1] + 11, self._described(entry.raw, self._store(data), len(data))[11:])
        elif data is not None:
            self._insert(folder, name, data)

    def writes(self) -> tuple[Write, ...]:
        volume = self.volume
        taken = self._tables(volume.table, self.table)
        freed = self.table[:]
        for cluster in self.old:
            freed[cluster] &= ~volume.end
        zeros = [Write(volume.place(cluster), bytes(volume.cluster_size)) for cluster in sorted(self.old)]
        return (
            *self.content,
            *taken,
            *self.entries,
            *_joined(zeros),
            *self._tables(self.table, freed),
            *self._summary(freed),
        )

    def _store(self, data: bytes) -> int:
        """Put content into free clusters; return the first, 0 for no content."""
        size = self.volume.cluster_size
        pieces = [data[at : at + size].ljust(size, b"\0") for at in range(0, len(data), size)]
        clusters = [self._take() for _ in pieces]
        for cluster, following in zip(clusters, [*clusters[1:], self.volume.end], strict=False):
            self._link(cluster, following)
        places = (self.volume.place(cluster) for cluster in clusters)
        self.content += _joined(map(Write, places, pieces))
        return clusters[0] if clusters else 0

    def _take(self) -> int:
        cluster = next(self.free, 0)
        if not cluster:
            raise ImageError(
                f"{self.volume.image}: the boot partition has no room for the new seed beside the old one",
                "remove what is not needed from it, or flash the card anew",
            )
        return cluster

    def _link(self, cluster: int, following: int) -> None:
        self.table[cluster] = self.table[cluster] & ~self.volume.end | following

    def _described(self, raw: bytes, cluster: int, size: int) -> bytes:
        """Return an entry with another content and the time of this change; its name and creation stay."""
        entry = bytearray(raw)
        entry[11] |= ARCHIVE
        struct.pack_into(
            "<HHHHHI", entry, 18, self.stamp[1], cluster >> 16, *self.stamp, cluster & 0xFFFF, size
        )
        return bytes(entry)

    def _find(self, folder: str, name: str) -> Entry | None:
        return self.volume.find(f"{folder}/{name}" if folder else name)

    def _insert(self, folder: str, name: str, data: bytes) -> None:
        """Make a new entry with a long name; the long name's slots come first, so they are written before it."""
        slots = self.folders.setdefault(folder, self.volume.slots(folder))
        pieces = -(-len(name) // 13)
        places = self._room(folder, slots, pieces + 1)
        used = {bytes(self._sector(slot)[(at := slot % self.volume.sector) : at + 11]) for slot in slots}
        short = short_name(name, used)
        created = struct.pack("<HH", *self.stamp)
        raw = short + bytes([ARCHIVE, 0, 0]) + created + bytes(14)
        total = 0
        for byte in short:  # the checksum that ties the pieces to their entry
            total = ((total & 1) << 7 | total >> 1) + byte & 0xFF
        for index, place in zip(range(pieces, 0, -1), places, strict=False):
            units = (name[(index - 1) * 13 : index * 13] + "\0")[:13].encode("utf-16-le").ljust(26, b"\xff")
            number = index | (0x40 if index == pieces else 0)
            piece = (
                bytes([number])
                + units[:10]
                + bytes([LONG_NAME, 0, total])
                + units[10:22]
                + bytes(2)
                + units[22:]
            )
            self._put(place, piece)
        self._put(places[-1], self._described(raw, self._store(data), len(data)))

    def _room(self, folder: str, slots: list[int], count: int) -> list[int]:
        """Return places in a row for an entry: the first that are free, or in clusters that are added to the folder."""
        run: list[int] = []
        ended = False
        for position, slot in enumerate(slots):
            first = self._sector(slot)[slot % self.volume.sector]
            ended = ended or first == FREE
            run = [*run, slot] if ended or first == DELETED else []
            if len(run) == count:
                if ended and position + 1 < len(slots):  # what is behind the end may be anything
                    self._put(slots[position + 1], bytes([FREE]))
                return run
        if not folder and self.volume.bits == 16:  # which has its root folder in a place of its own
            raise ImageError(
                f"{self.volume.image}: the root folder of the boot partition has no room for another name",
                "remove what is not needed from it, or flash the card anew",
            )
        cluster = self._take()
        self._link(self.volume.cluster(slots[-1]), cluster)
        self._link(cluster, self.volume.end)
        place, size = self.volume.place(cluster), self.volume.cluster_size
        self.content.append(Write(place, bytes(size)))
        self.sectors |= {
            at: bytearray(self.volume.sector) for at in range(place, place + size, self.volume.sector)
        }
        slots += range(place, place + size, SLOT)
        return [*run, *range(place, place + size, SLOT)][:count]

    def _sector(self, place: int) -> bytearray:
        """Return the sector of a folder that a byte is in, as it is with the changes made so far."""
        start = place - place % self.volume.sector
        if start not in self.sectors:
            self.sectors[start] = bytearray(self.volume.read(start, self.volume.sector))
        return self.sectors[start]

    def _put(self, place: int, data: bytes) -> None:
        """Change bytes of one sector; changes to the same sector in a row are one write."""
        start, sector = place - place % self.volume.sector, self._sector(place)
        sector[place - start : place - start + len(data)] = data
        if self.entries and self.entries[-1].offset == start:
            self.entries.pop()
        self.entries.append(Write(start, bytes(sector)))

    def _tables(self, before: array[int], after: array[int]) -> list[Write]:
        """Return the sectors in which two tables differ, for every copy; those that lead on from older chains come last."""
        volume, found = self.volume, []
        old, new = before.tobytes(), after.tobytes()
        width = volume.bits // 8
        for at in range(0, len(new), volume.sector):
            was, is_ = old[at : at + volume.sector], new[at : at + volume.sector]
            if was != is_:
                entries = range(at // width, (at + volume.sector) // width)
                found.append((any(before[n] and before[n] != after[n] for n in entries), at, is_))
        return [
            Write(volume.table_start + copy * volume.table_size + at, data)
            for _, at, data in sorted(found)
            for copy in range(volume.copies)
        ]

    def _summary(self, table: array[int]) -> list[Write]:
        """Return the write of FAT32's count of free clusters, which tools take for granted."""
        volume = self.volume
        if not volume.info:
            return []
        sector = bytearray(volume.read(volume.info, volume.sector))
        count = sum(not table[cluster] & volume.end for cluster in range(2, volume.count + 2))
        struct.pack_into("<I", sector, 488, count)
        return [Write(volume.info, bytes(sector))]


def _joined(writes: Iterable[Write]) -> list[Write]:
    """Return writes with those that touch each other in one."""
    joined: list[list[Write]] = []
    for write in writes:
        if joined and joined[-1][-1].offset + len(joined[-1][-1].data) == write.offset:
            joined[-1].append(write)
        else:
            joined.append([write])
    return [Write(row[0].offset, b"".join(write.data for write in row)) for row in joined]
