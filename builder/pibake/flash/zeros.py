"""Zeros on a device, where an old partition table or signature could be found."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from pibake.flash.target import ALIGN

if TYPE_CHECKING:
    from pibake.flash.target import Target

EDGE = 1 << 20
"""Bytes cleared at both ends of a device: GPT, and the labels of LVM, md, ZFS and whole-disk file systems, stand in them."""


def clear_edges(target: Target) -> None:
    """Make zeros of a device's first and last EDGE, whatever they hold."""
    last = target.size // ALIGN * ALIGN
    view = memoryview(mmap.mmap(-1, EDGE))
    for start, end in ((0, min(EDGE, last)), (max(0, last - EDGE), last)):
        target.write(view[: end - start], start)
    if last < target.size:
        target.write(view[: target.size - last], last)
