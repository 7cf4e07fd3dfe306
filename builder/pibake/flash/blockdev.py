"""What the kernel does with a block device on request (linux/fs.h)."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

BLKGETSIZE64, BLKRRPART, BLKFLSBUF = 0x80081272, 0x125F, 0x1261
"""ioctls: size in bytes, read the partition table again, drop what is cached."""


def size(descriptor: int) -> int:
    """Return the size of a block device in bytes; 0 once it is gone."""
    with suppress(OSError):
        (count,) = struct.unpack("Q", fcntl.ioctl(descriptor, BLKGETSIZE64, bytes(8)))
        return int(count)
    return 0


def drop_cache(descriptor: int) -> None:
    """Have later reads come from the medium; the ioctl is root's, the advice is everybody's."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    with suppress(OSError):
        fcntl.ioctl(descriptor, BLKFLSBUF)


def read_table(descriptor: int) -> None:
    """Have the kernel look at the partition table; where it refuses, udev or putting the card in again does it."""
    with suppress(OSError):
        fcntl.ioctl(descriptor, BLKRRPART)
