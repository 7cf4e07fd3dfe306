"""What of an image has to be written to a card: what its file systems have in use, and whatever else is not zero.

A hole in a file says nothing about that: tools that copy and unpack images make holes of zeros that belong to a file or
a journal, and a card that is not written there keeps what it held before. So the file systems are asked.

FAT: Microsoft's FAT specification 1.03, "BIOS Parameter Block" and "FAT Data Structure". ext4: dumpe2fs(8). Anything
else counts as in use from its first byte to its last.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import CommandFailed, ImageError
from pibake.image import debugfs, ext4, table
from pibake.image.extents import ZEROS, extents
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK = 4096
"""Bytes to which ranges are rounded: what is written at once to any card, and the block of a bmap file."""


@dataclass(frozen=True)
class Geometry:
    """Where things are in a FAT file system, in bytes from its first one.

    Attributes:
        table: the first file allocation table.
        data: cluster 2; the tables and a FAT12's or FAT16's root folder are before it.
        cluster: bytes per cluster.
        clusters: how many there are.
        bits: 12, 16 or 32.
    """

    table: int
    data: int
    cluster: int
    clusters: int
    bits: int


def geometry(image: Path, offset: int) -> Geometry:
    """Return the geometry of the FAT file system at byte `offset` of an image.

    Raises:
        ImageError: there is none.
    """
    with image.open("rb") as file:
        file.seek(offset)
        block = file.read(512)
    if len(block) < 512 or block[510:] != b"\x55\xaa":
        raise ImageError(f"{image.name}: no FAT file system at byte {offset}")
    sector, per_cluster, reserved, fats, entries, small, short = struct.unpack_from("<HBHBHHxH", block, 11)
    large, long = struct.unpack_from("<II", block, 32)
    if sector not in {512, 1024, 2048, 4096} or not per_cluster or not fats:
        raise ImageError(f"{image.name}: the FAT file system at byte {offset} has no sound first block")
    data = reserved + fats * (short or long) + -(-entries * 32 // sector)
    clusters = ((small or large) - data) // per_cluster
    bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
    return Geometry(reserved * sector, data * sector, per_cluster * sector, clusters, bits)


def ranges(image: Path) -> list[tuple[int, int]]:
    """Return the (start, end) byte ranges of an image that a card has to get: sorted, apart, in multiples of BLOCK.

    Raises:
        ImageError: the image has no partition table.
    """
    used = [found for partition in table.read(image).partitions for found in _in_use(image, partition)]
    length = image.stat().st_size
    return union([*used, *_not_zero(image, union(used, length), length)], length)


def union(ranges: Iterable[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Return ranges sorted, rounded outward to BLOCK (or the image's `length`), and joined where they meet."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        first, last = start // BLOCK * BLOCK, min(-(-end // BLOCK) * BLOCK, length)
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        elif last > first:
            joined.append((first, last))
    return joined


def _in_use(image: Path, partition: table.Partition) -> Iterator[tuple[int, int]]:
    whole = partition.start, partition.start + partition.size
    try:
        if partition.is_fat:
            yield from _fat(image, partition.start)
        elif partition.type in table.EXTENDED:
            yield whole
        else:
            yield from _ext4(image, partition.start)
    except (ImageError, CommandFailed):  # of another kind, or damaged: what is in use there is unknown
        yield whole


def _fat(image: Path, offset: int) -> Iterator[tuple[int, int]]:
    shape = geometry(image, offset)
    if shape.bits == 12:  # one and a half bytes for each of at most 4,084 clusters: too few to be worth it
        yield offset, offset + shape.data + shape.clusters * shape.cluster
        return
    yield offset, offset + shape.data
    kind, mask = ("H", 0xFFFF) if shape.bits == 16 else ("I", 0x0FFFFFFF)
    with image.open("rb") as file:
        file.seek(offset + shape.table)
        entries = array(kind, file.read((shape.clusters + 2) * shape.bits // 8))
    place = offset + shape.data
    for used, run_ in itertools.groupby(enumerate(entries[2:]), key=lambda item: bool(item[1] & mask)):
        if used:
            first, *rest = (number for number, _ in run_)
            last = rest[-1] if rest else first
            yield place + first * shape.cluster, place + (last + 1) * shape.cluster


def _ext4(image: Path, offset: int) -> Iterator[tuple[int, int]]:
    state = ext4.state(image, offset)
    listed = run(["dumpe2fs", debugfs.place(image, offset)], why="see which blocks are in use").stdout
    position = 0
    # one line per group of blocks: "  Free blocks: 1234-5678, 6000"
    for line in re.finditer(r"^  Free blocks: (.*)$", listed, re.MULTILINE):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line[1]):
            start, end = int(first) * state.block, (int(last or first) + 1) * state.block
            if start > position:
                yield offset + position, offset + start
            position = max(position, end)
    if position < state.size:
        yield offset + position, offset + state.size


def _not_zero(image: Path, used: list[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """Yield what lies outside of `used` and holds anything but zeros."""
    edges = [0, *(edge for pair in used for edge in pair), length]
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            for first, last in extents(descriptor, start, end):
                for position in range(first, last, len(ZEROS)):
                    piece = os.pread(descriptor, min(len(ZEROS), last - position), position)
                    if piece != ZEROS[: len(piece)]:
                        yield position, position + len(piece)
    finally:
        os.close(descriptor)
