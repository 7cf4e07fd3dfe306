"""Images written to files, at the cost of what a card would get."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.image.extents import ZEROS
from pibake.image.mapped import BLOCK
from pibake.image.pieces import spans, volume
from pibake.progress import size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pibake.image.composition import Composition

FICLONE = 0x40049409
"""ioctl that shares all extents of another file: linux/fs.h, `_IOW(0x94, 9, int)`."""
CHUNK = 4 << 20
BUFFERS = 4


def clone(image: Composition, target: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """Write a composed image to a file, and return its sha256 (hex).

    All extents are shared where the file system can. Elsewhere what is mapped is read once: this thread computes the
    digest of it while another one writes it, past the page cache, which would have to be written again by the kernel.

    Args:
        image: what to write.
        target: the file; made, or overwritten.
        on_bytes: called with the number of bytes read since the last call; what it raises ends the work.

    Raises:
        ImageError: the base shrank meanwhile.
        PibakeError: the target's disk is full.
    """
    writer = _opened(target)
    try:
        shared = _shared(image, writer)
        if shared:
            for patch in image.patches:
                _put(writer, memoryview(patch.data), patch.offset)
        digest = _copied(image, -1 if shared else writer, on_bytes)
        os.ftruncate(writer, image.length)
    except OSError as error:
        raise full(target, error, needed=volume(image.pieces)) from error
    finally:
        os.close(writer)
    return digest


def _opened(target: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(target, flags | os.O_DIRECT, 0o644)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems without direct I/O: open(2)
            raise
        return os.open(target, flags, 0o644)


def _shared(image: Composition, writer: int) -> bool:
    """Share the extents of the base with the file, if the file system can; what follows goes through the page cache."""
    with image.base.open("rb", buffering=0) as base:
        try:
            fcntl.ioctl(writer, FICLONE, base.fileno())
        except OSError:
            return False
    fcntl.fcntl(writer, fcntl.F_SETFL, fcntl.fcntl(writer, fcntl.F_GETFL) & ~os.O_DIRECT)
    return True


def _copied(image: Composition, writer: int, on_bytes: Callable[[int], None]) -> str:
    """Return the sha256 of an image; what is in its pieces is written to the file on the way, unless that is -1."""
    total, position = hashlib.sha256(), 0
    buffers = [mmap.mmap(-1, CHUNK) for _ in range(BUFFERS)]
    busy: list[Future[None]] = []
    with image.opened() as reader, ThreadPoolExecutor(1, "pibake-write") as pool:
        for number, (start, end) in enumerate(spans(image.pieces, CHUNK)):
            if number >= BUFFERS and writer >= 0:
                busy[number - BUFFERS].result()
            count = end - start
            view = memoryview(buffers[number % BUFFERS])[: -(-count // BLOCK) * BLOCK]
            reader.read_into(view[:count], start)
            view[count:] = bytes(len(view) - count)
            if writer >= 0:
                busy.append(pool.submit(_put, writer, view, start))
            _zeros(total, start - position)
            total.update(view[:count])
            position = end
            on_bytes(count)
        for future in busy[-BUFFERS:]:
            future.result()
    _zeros(total, image.length - position)
    return total.hexdigest()


def _zeros(total: hashlib._Hash, count: int) -> None:
    """Feed zeros to a hash: from one block of them, not from the disk."""
    for _ in range(count // len(ZEROS)):
        total.update(ZEROS)
    total.update(ZEROS[: count % len(ZEROS)])


def _put(writer: int, view: memoryview, offset: int) -> None:
    """Write all of `view`: pwrite(2) may write less, and what is left is tried again or fails."""
    while view:
        count = os.pwrite(writer, view, offset)
        view, offset = view[count:], offset + count


def full(target: Path, error: OSError, *, needed: int) -> PibakeError:
    """Return the error for a write that failed: what was being written, and how much room it needs."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return PibakeError(f"cannot write {target}: {error.strerror}")
    return PibakeError(
        f"the disk is full: {target.parent} has no room for {target.name}, which needs {size(needed)}",
        "free some space or choose another folder with -o",
    )
