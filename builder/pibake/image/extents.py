"""Where a sparse file holds data, and how much of the disk it takes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 8 << 20
ZEROS = bytes(1 << 20)


def extents(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) byte ranges of a file between `start` and `end` that hold data (lseek(2), SEEK_DATA)."""
    position = start
    while position < end:
        try:
            data = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if data >= end:
            return
        hole = min(os.lseek(descriptor, data, os.SEEK_HOLE), end)
        yield data, hole
        position = hole


def allocated(path: Path) -> int:
    """Return the bytes a file occupies on disk (st_blocks is in units of 512: stat(2))."""
    return path.stat().st_blocks * 512
