"""Zeros on a device: where an old partition table or signature could be found, and where a file system may count on them."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from pibake.flash import blockdev, faults
from pibake.flash.target import ALIGN

if TYPE_CHECKING:
    import threading

    from pibake.flash.target import Target

EDGE = 1 << 20
"""Bytes cleared at both ends of a device: GPT, and the labels of LVM, md, ZFS and whole-disk file systems, stand in them."""
CHUNK = 4 << 20
GRAIN = 256 << 10
"""Bytes that are made zeros at once if one of them is none."""


def clear_edges(target: Target) -> None:
    """Make zeros of a device's first and last EDGE, whatever they hold."""
    last = target.size // ALIGN * ALIGN
    view = memoryview(mmap.mmap(-1, EDGE))
    for start, end in ((0, min(EDGE, last)), (max(0, last - EDGE), last)):
        target.write(view[: end - start], start)
    if last < target.size:
        target.write(view[: target.size - last], last)


def fill(target: Target, start: int, end: int, stop: threading.Event) -> None:
    """Make sure that a range holds zeros: by the device itself, or by writing where reading finds something else.

    Reading is several times as fast as writing on every card, and most of a card's gaps hold zeros already.
    """
    end = min(-(-end // ALIGN) * ALIGN, target.size // ALIGN * ALIGN)
    if start >= end or blockdev.make_zeros(target.descriptor, start, end):
        return
    zeros = bytes(GRAIN)
    buffer, blank = mmap.mmap(-1, CHUNK), memoryview(mmap.mmap(-1, GRAIN))
    for first in range(start, end, CHUNK):
        faults.stop_if(stop, target.path)
        count = min(CHUNK, end - first)
        target.read_into(memoryview(buffer)[:count], first)
        for offset in range(0, count, GRAIN):
            part = buffer[offset : min(offset + GRAIN, count)]
            if part != zeros[: len(part)]:
                target.write(blank[: len(part)], first + offset)
