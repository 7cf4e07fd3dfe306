"""A node's image that need not exist as a file: a golden image, and the few blocks in which it differs."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image.mapped import joined
from pibake.image.pieces import PIECE, Piece, cut, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Patch:
    """Bytes in place of those of the base image; offset and length are multiples of 4096."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Return the offset behind the last byte."""
        return self.offset + len(self.data)


@dataclass(frozen=True)
class Composition:
    """An image as a base image and patches.

    Attributes:
        base: the image that is patched.
        base_sha256: its digest (hex).
        base_length: its length in bytes.
        length: bytes of the composed image; what is behind the base's end is zeros.
        patches: sorted, apart.
        pieces: what of the composed image a card gets: sorted, with digests. Everything else is zeros.
        secret: whether it holds secrets, so that files made from it are for their owner only.
    """

    base: Path
    base_sha256: str
    base_length: int
    length: int
    patches: tuple[Patch, ...]
    pieces: tuple[Piece, ...]
    secret: bool = False

    @property
    def digest(self) -> str:
        """Return a sha256 (hex) over all pieces, which is known without reading the image."""
        return digest(self.pieces, self.length)

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Open the base image for reading the composed one."""
        descriptor = os.open(self.base, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield Reader(descriptor, self)
        finally:
            os.close(descriptor)


class Reader:
    """Reads a composed image; any number of threads may share one."""

    def __init__(self, descriptor: int, image: Composition) -> None:
        self.descriptor, self.image = descriptor, image
        self.ends = [patch.end for patch in image.patches]

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill `view` with the bytes from `start` on.

        Raises:
            ImageError: the base image is shorter than it was.
        """
        end = start + len(view)
        own = max(0, min(end, self.image.base_length) - start)
        if own and os.preadv(self.descriptor, [view[:own]], start) != own:
            raise ImageError(f"{self.image.base} became shorter while it was read")
        view[own:] = bytes(len(view) - own)
        for patch in self.image.patches[bisect.bisect_right(self.ends, start) :]:
            if patch.offset >= end:
                break
            first, last = max(start, patch.offset), min(end, patch.end)
            view[first - start : last - start] = patch.data[first - patch.offset : last - patch.offset]


def compose(
    base: Path,
    base_sha256: str,
    pieces: Sequence[Piece],
    patches: Sequence[Patch],
    *,
    length: int = 0,
    secret: bool = False,
) -> Composition:
    """Return an image composed of a base image, whose pieces are known, and patches to it: sorted, and apart.

    Only the pieces that patches touch are read.
    """
    if any(first.end > second.offset for first, second in itertools.pairwise(patches)):
        raise ValueError("patches overlap, or are out of order")
    size = base.stat().st_size
    image = Composition(base, base_sha256, size, length or size, tuple(patches), (), secret)
    touched = {slot for patch in patches for slot in range(patch.offset // PIECE, -(-patch.end // PIECE))}
    kept = [piece for piece in pieces if piece.start // PIECE not in touched]
    ranges = [(piece.start, piece.end) for piece in pieces if piece.start // PIECE in touched]
    ranges += [(patch.offset, patch.end) for patch in patches]
    made = []
    with image.opened() as reader:
        buffer = memoryview(bytearray(PIECE))
        for start, end in cut(joined(ranges)):
            view = buffer[: end - start]
            reader.read_into(view, start)
            made.append(Piece(start, end, hashlib.sha256(view).hexdigest()))
    whole = tuple(sorted([*kept, *made], key=lambda piece: piece.start))
    return Composition(base, base_sha256, size, image.length, image.patches, whole, secret)
