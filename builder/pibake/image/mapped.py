"""What of an image has to be written to a card: what its file systems have in use, and whatever else is not zero.

A hole in a file says nothing about that: tools that copy and unpack images make holes of zeros that belong to a file or
a journal, and a card that is not written there keeps what it held before. So the file systems are asked.

FAT is read here, ext4 by dumpe2fs(8). Anything else counts as in use from its first byte to its last.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING

from pibake.errors import CommandFailed, ImageError
from pibake.image import debugfs, ext4, table
from pibake.image.extents import ZEROS, extents
from pibake.image.fat_tree import Volume
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK = 4096
"""Bytes to which ranges are rounded: what is written at once to any card, and the block of a bmap file."""


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
    return joined(
        (start // BLOCK * BLOCK, min(-(-end // BLOCK) * BLOCK, length))
        for start, end in ranges
        if end > start
    )


def joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges sorted, those that overlap or touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def _in_use(image: Path, partition: table.Partition) -> Iterator[tuple[int, int]]:
    whole = partition.start, partition.start + partition.size
    try:
        if partition.is_fat:
            yield from _fat(image, partition.start)
        elif partition.type in table.EXTENDED:
            yield whole
        else:
            yield from _ext4(image, partition.start)
    except (ImageError, CommandFailed):  # FAT12, of another kind, or damaged: what is in use there is unknown
        yield whole


def _fat(image: Path, offset: int) -> Iterator[tuple[int, int]]:
    volume = Volume(image, offset)
    yield offset, volume.data_start  # its tables, and the root folder of FAT16
    clusters = range(2, volume.count + 2)
    for used, group in itertools.groupby(clusters, key=lambda cluster: volume.value(cluster) > 0):
        if used:
            run_ = list(group)
            yield volume.place(run_[0]), volume.place(run_[-1] + 1)


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
