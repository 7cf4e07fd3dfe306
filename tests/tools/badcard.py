"""A card that fails as it is told: a FUSE file system with one file, `card`, which a loop device makes a block device of.

Run as `python badcard.py BACKING MOUNTPOINT FAULTS`. What is written stands in BACKING. FAULTS is a JSON file, read at every
request: `eio` [start, end] fails writes that touch those bytes, `drop` forgets them, `flip` changes the byte at that place
when it is read, `delay` is how many seconds a write takes.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import mfusepy


class Card(mfusepy.Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self, backing: str, faults: str) -> None:
        self.descriptor = os.open(backing, os.O_RDWR)
        self.told = Path(faults)

    def faults(self) -> dict[str, Any]:
        return dict(json.loads(self.told.read_text()))

    def getattr(self, path: str, _: object = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path == "/card":
            size = os.fstat(self.descriptor).st_size
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def readdir(self, _path: str, _: object) -> list[str]:
        return [".", "..", "card"]

    def read(self, _path: str, size: int, offset: int, _: object) -> bytes:
        data = os.pread(self.descriptor, size, offset)
        flip = self.faults().get("flip", -1)
        if offset <= flip < offset + len(data):
            at = flip - offset
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data

    def write(self, _path: str, data: bytes, offset: int, _: object) -> int:
        faults = self.faults()
        time.sleep(faults.get("delay", 0))
        for name in ("eio", "drop"):
            start, end = faults.get(name, (0, 0))
            if offset < end and start < offset + len(data):
                if name == "eio":
                    raise mfusepy.FuseOSError(errno.EIO)
                return len(data)
        return os.pwrite(self.descriptor, data, offset)

    def fsync(self, _path: str, _data: int, _: object) -> int:
        return 0


if __name__ == "__main__":
    mfusepy.FUSE(Card(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, nothreads=True, direct_io=True)
