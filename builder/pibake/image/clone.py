"""Copies of disk images that cost what is allocated, not what is apparent."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.errors import ImageError, PibakeError
from pibake.progress import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FICLONE = 0x40049409
"""ioctl that shares all extents of another file: linux/fs.h, `_IOW(0x94, 9, int)`."""
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


@dataclass
class Copy:
    """A copy under way: made in pieces, so that a piece can be changed before the rest is hashed and copied.

    The sha256 covers the whole copy in order. `rest` hashes in a second thread while the kernel copies, so the
    digest costs no time of its own where there are two processors.
    """

    source: Path
    target: Path
    on_bytes: Callable[[int], None] = lambda _: None
    position: int = 0
    cloned: bool = False
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self.length = self.source.stat().st_size

    def head(self, end: int) -> None:
        """Copy the first `end` bytes (or everything at once, where the file system shares extents)."""
        with self._files() as (reader, writer):
            try:
                fcntl.ioctl(writer, FICLONE, reader)
                self.cloned = True
            except OSError:
                os.ftruncate(writer, self.length)
                self._copy(reader, writer, 0, end)
        self.position = end

    def rest(self) -> str:
        """Copy what `head` left, and return the sha256 (hex) of the whole target.

        Raises:
            ImageError: the source shrank meanwhile.
            PibakeError: the target's disk is full.
        """
        failed: list[BaseException] = []

        def digest() -> None:
            try:
                self._digest(self.target, 0, self.position)
                self._digest(self.source, self.position, self.length)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                failed.append(error)

        hasher = threading.Thread(target=digest)
        hasher.start()
        try:
            if not self.cloned:
                with self._files() as (reader, writer):
                    self._copy(reader, writer, self.position, self.length)
        finally:
            hasher.join()
        if failed:
            raise failed[0]
        return self._hash.hexdigest()

    def _files(self) -> _Pair:
        return _Pair(self.source, self.target)

    def _copy(self, reader: int, writer: int, start: int, end: int) -> None:
        try:
            for first, last in extents(reader, start, end):
                self._copy_range(reader, writer, first, last)
        except OSError as error:
            raise full(self.target, error, needed=allocated(self.source)) from error

    def _copy_range(self, reader: int, writer: int, position: int, end: int) -> None:
        while position < end:
            want = min(CHUNK, end - position)
            try:
                count = os.copy_file_range(reader, writer, want, position, position)
            except OSError as error:
                if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                    raise
                count = os.pwrite(writer, os.pread(reader, want, position), position)
            if not count:
                raise ImageError(
                    f"{self.source} ended at byte {position} of {self.length} while it was copied"
                )
            position += count
            self.on_bytes(count)

    def _digest(self, path: Path, start: int, end: int) -> None:
        """Feed a range of a file to the hash; holes come from one block of zeros, not from the disk."""
        buffer = memoryview(bytearray(CHUNK))
        with path.open("rb", buffering=0) as file:
            position = start
            for first, last in extents(file.fileno(), start, end):
                self._zeros(first - position)
                position = first
                while position < last:
                    count = os.preadv(file.fileno(), [buffer[: min(CHUNK, last - position)]], position)
                    if not count:
                        raise ImageError(f"{path} ended at byte {position} while it was read")
                    self._hash.update(buffer[:count])
                    position += count
            self._zeros(end - position)

    def _zeros(self, count: int) -> None:
        for _ in range(count // len(ZEROS)):
            self._hash.update(ZEROS)
        self._hash.update(ZEROS[: count % len(ZEROS)])


@dataclass
class _Pair:
    source: Path
    target: Path

    def __enter__(self) -> tuple[int, int]:
        self.reader = os.open(self.source, os.O_RDONLY | os.O_CLOEXEC)
        self.writer = os.open(self.target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self.reader, self.writer

    def __exit__(self, *_: object) -> None:
        os.close(self.reader)
        os.close(self.writer)


def full(target: Path, error: OSError, *, needed: int) -> PibakeError:
    """Return the error for a write that failed: what was being written, and how much room it needs."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return PibakeError(f"cannot write {target}: {error.strerror}")
    return PibakeError(
        f"the disk is full: {target.parent} has no room for {target.name}, which needs {size(needed)}",
        "free some space or choose another folder with -o",
    )
