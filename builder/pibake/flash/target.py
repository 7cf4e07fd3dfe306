"""What an image is written to: a block device or a regular file, opened for one writer alone."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.flash import blockdev, faults
from pibake.log import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALIGN = 4096
"""O_DIRECT wants offsets, lengths and memory in multiples of the device's blocks, which are 512 or 4096 bytes (open(2))."""
BUFFERED_SYNC = 32 << 20
"""Without direct I/O, bytes after which the kernel has to write: it would fill memory first, and then do nothing else."""
PATIENCE = 5.0
"""Seconds to wait for a lock: udev takes it for a moment whenever a card is put in."""


@dataclass
class Target:
    """An open target: `size` in bytes, or 0 for a file that is to have the image's size."""

    path: Path
    descriptor: int
    device: bool
    size: int
    direct: bool
    unsynced: int = 0

    def read_into(self, view: memoryview, start: int) -> int:
        """Fill `view`, whose length is a multiple of ALIGN, from byte `start` on; return the count, less at the end."""
        count = 0
        try:
            while count < len(view):
                got = os.preadv(self.descriptor, [view[count:]], start + count)
                count += got
                if not got or got % ALIGN:
                    break
        except OSError as error:
            raise faults.failed(self, error, "read", start + count, start + len(view)) from error
        return count

    def write(self, view: memoryview, start: int) -> None:
        """Write all of `view` at byte `start`."""
        aligned = not (start % ALIGN or len(view) % ALIGN)
        if self.direct and not aligned:
            with self._buffered():
                self._write(view, start)
                self.sync()
        else:
            self._write(view, start)

    def _write(self, view: memoryview, start: int) -> None:
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self.descriptor, view[done:], start + done)
        except OSError as error:
            raise faults.failed(self, error, "write", start + done, start + len(view)) from error
        self.unsynced += len(view)
        if not self.direct and self.unsynced >= BUFFERED_SYNC:
            self.sync()

    def sync(self) -> None:
        """Have everything written so far on the medium itself, out of its own cache, too."""
        try:
            os.fdatasync(self.descriptor)
        except OSError as error:
            raise faults.failed(self, error, "write", 0, self.size) from error
        self.unsynced = 0
        if not self.direct:
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def empty(self, length: int) -> None:
        """Make a regular file one hole of `length` bytes."""
        os.ftruncate(self.descriptor, 0)
        os.ftruncate(self.descriptor, length)
        self.size = length

    @contextmanager
    def _buffered(self) -> Iterator[None]:
        """Write without direct I/O inside the block: for what is no multiple of ALIGN, at an image's end."""
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        try:
            yield
        finally:
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags)


@contextmanager
def opened(path: Path, *, secret: bool) -> Iterator[Target]:
    """Open a block device, or a regular file, which is made if it is missing; nobody else can write it meanwhile.

    A device is opened with O_EXCL, which the kernel refuses for one that is mounted or otherwise in use (open(2)). Either is
    locked with flock(2) as well, which tells udev to leave it alone (systemd's "Locking Block Device Access") and lets a
    second flash say who holds it.

    Args:
        path: the device or file.
        secret: only the owner may read a file that is made.

    Raises:
        PibakeError: it cannot be opened, or somebody else is at work on it.
    """
    device = path.is_block_device()
    descriptor, direct = _open_device(path) if device else _open_file(path, secret=secret)
    try:
        _lock(path, descriptor)
        if secret and not device:
            os.fchmod(descriptor, 0o600)
        size = blockdev.size(descriptor) if device else os.fstat(descriptor).st_size
        yield Target(path, descriptor, device, size, direct)
    finally:
        os.close(descriptor)


def _open_device(path: Path) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_EXCL | os.O_CLOEXEC
    for direct in (os.O_DIRECT, 0):
        try:
            return os.open(path, flags | direct), bool(direct)
        except PermissionError:
            from pibake.flash import udisks  # noqa: PLC0415 - only people without permission wait for D-Bus

            log.debug("%s: no permission; asking udisks", path)
            return udisks.open_device(path, os.O_EXCL | os.O_DIRECT), True
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise faults.busy(path) from error
            if error.errno != errno.EINVAL or not direct:
                raise PibakeError(
                    f"{path} cannot be opened for writing: {error.strerror}", faults.LOOK
                ) from error
    raise AssertionError("the loop returns or raises")


def _open_file(path: Path, *, secret: bool) -> tuple[int, bool]:
    flags, mode = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600 if secret else 0o666
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        raise PibakeError(f"{path} cannot be written: {error.strerror}", "choose another file") from error
    with suppress(OSError):  # file systems that cannot do it say so here
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_DIRECT)
        return descriptor, True
    return descriptor, False


def _lock(path: Path, descriptor: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = faults.holder(path)
            if time.monotonic() > deadline or (who and "udev" not in who):
                raise faults.busy(path) from error
            time.sleep(0.2)
        else:
            return
