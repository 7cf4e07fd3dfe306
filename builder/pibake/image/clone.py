"""Copies of disk images that cost what is allocated, not what is apparent."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from typing import TYPE_CHECKING

from pibake.errors import ImageError, PibakeError
from pibake.image.extents import CHUNK, ZEROS, allocated, extents
from pibake.image.pieces import spans
from pibake.progress import size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pibake.image.composition import Composition

FICLONE = 0x40049409
"""ioctl that shares all extents of another file: linux/fs.h, `_IOW(0x94, 9, int)`."""


def clone(image: Composition, target: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """Write a composed image to a file, and return its sha256 (hex).

    All extents are shared where the file system can; elsewhere the kernel copies what the base has allocated. A second
    thread hashes meanwhile, so the digest costs no time of its own where there are two processors.

    Args:
        image: what to write.
        target: the file; made, or overwritten.
        on_bytes: called with the number of bytes copied since the last call; what it raises ends the work.

    Raises:
        ImageError: the base shrank meanwhile.
        PibakeError: the target's disk is full.
    """
    failed: list[BaseException] = []
    digests: list[str] = []
    stop = threading.Event()

    def digest() -> None:
        try:
            digests.append(_digest(image, stop))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    hasher = threading.Thread(target=digest)
    hasher.start()
    try:
        _write(image, target, on_bytes)
    except BaseException:
        stop.set()
        raise
    finally:
        hasher.join()
    if failed:
        raise failed[0]
    return digests[0]


def _write(image: Composition, target: Path, on_bytes: Callable[[int], None]) -> None:
    reader = os.open(image.base, os.O_RDONLY | os.O_CLOEXEC)
    writer = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.ioctl(writer, FICLONE, reader)
        except OSError:
            os.ftruncate(writer, image.length)
            for first, last in extents(reader, 0, image.base_length):
                _copy_range(reader, writer, first, last, on_bytes)
        os.ftruncate(writer, image.length)
        for patch in image.patches:
            write_all(writer, patch.data, patch.offset)
    except OSError as error:
        raise full(target, error, needed=allocated(image.base)) from error
    finally:
        os.close(reader)
        os.close(writer)


def _copy_range(reader: int, writer: int, position: int, end: int, on_bytes: Callable[[int], None]) -> None:
    while position < end:
        want = min(CHUNK, end - position)
        try:
            count = os.copy_file_range(reader, writer, want, position, position)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            count = os.pwrite(writer, os.pread(reader, want, position), position)
        if not count:
            raise ImageError(f"the base image ended at byte {position} while it was copied")
        position += count
        on_bytes(count)


def write_all(writer: int, data: bytes, offset: int) -> None:
    """Write all of `data` at byte `offset`: pwrite(2) may write less, and what is left is tried again or fails."""
    view = memoryview(data)
    while view:
        count = os.pwrite(writer, view, offset)
        view, offset = view[count:], offset + count


def _digest(image: Composition, stop: threading.Event) -> str:
    """Return the sha256 of the whole image; what is in no piece comes from one block of zeros, not from the disk."""
    total = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    position = 0

    def zeros(count: int) -> None:
        for _ in range(count // len(ZEROS)):
            if stop.is_set():
                return
            total.update(ZEROS)
        total.update(ZEROS[: count % len(ZEROS)])

    with image.opened() as reader:
        for start, end in spans(image.pieces, CHUNK):
            if stop.is_set():
                break
            zeros(start - position)
            reader.read_into(buffer[: end - start], start)
            total.update(buffer[: end - start])
            position = end
    zeros(image.length - position)
    return total.hexdigest()


def full(target: Path, error: OSError, *, needed: int) -> PibakeError:
    """Return the error for a write that failed: what was being written, and how much room it needs."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return PibakeError(f"cannot write {target}: {error.strerror}")
    return PibakeError(
        f"the disk is full: {target.parent} has no room for {target.name}, which needs {size(needed)}",
        "free some space or choose another folder with -o",
    )
