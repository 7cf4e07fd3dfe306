"""Files with holes: blocks of zeros are seeked over instead of written."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Self

from pibake.errors import ImageError
from pibake.progress import size

if TYPE_CHECKING:
    from pathlib import Path

GRAIN = 64 * 1024
"""Smallest hole: below this, more extents cost a later copy more than the zeros do."""

ZEROS = bytes(GRAIN)


class SparseWriter:
    """Writes a stream to a new file, leaving holes for zeros, and hashes all of it, holes included.

    Args:
        path: the file, made anew.
        limit: longest file to make; a longer stream is an `ImageError`.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path, self.limit = path, limit
        self.size = 0
        self._hash = hashlib.sha256()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, block: memoryview | bytes) -> None:
        """Append a block; whole multiples of `GRAIN` make the best holes."""
        view = memoryview(block)
        if self.size + len(view) > self.limit:
            raise ImageError(f"it unpacks to more than {size(self.limit)}", "no image for a Pi is that large")
        self._hash.update(view)
        put(self._fd, view, self.size)
        self.size += len(view)

    def digest(self) -> str:
        """Return the sha256 of everything written so far."""
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Give the file its full length, which a hole at the end would leave out, and close it."""
        os.ftruncate(self._fd, self.size)
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def put(descriptor: int, view: memoryview, at: int) -> None:
    """Write to byte `at` of an open file, leaving out whole blocks of `GRAIN` zeros: what is there must be zeros or the same."""
    start: int | None = None
    for offset in range(0, len(view), GRAIN):
        piece = view[offset : offset + GRAIN]
        # Comparing the views themselves goes byte by byte: 0.7 GB/s instead of 24.
        if piece.tobytes() == (ZEROS if len(piece) == GRAIN else ZEROS[: len(piece)]):
            if start is not None:
                _write(descriptor, view[start:offset], at + start)
                start = None
        elif start is None:
            start = offset
    if start is not None:
        _write(descriptor, view[start:], at + start)


def _write(descriptor: int, view: memoryview, at: int) -> None:
    while view:
        count = os.pwrite(descriptor, view, at)
        view, at = view[count:], at + count
