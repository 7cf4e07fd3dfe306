"""The pieces of an image that a card gets, each with its digest: what is compared after flashing, and shared by clones."""

from __future__ import annotations

import hashlib
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.fsys import load, store
from pibake.image import mapped
from pibake.image.extents import allocated
from pibake.progress import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.progress import Progress

PIECE = 1 << 20
FORMAT = 1
"""Raised when other ranges of the same image would be found: part of every record in the cache."""


@dataclass(frozen=True)
class Piece:
    """A range of an image that a card gets: the bytes from `start` up to `end`, cut at multiples of PIECE.

    Both are multiples of 4096, or the image's end. `sha256` (hex) is that of the bytes, "" where it is not known yet.
    """

    start: int
    end: int
    sha256: str


def cut(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ranges cut at multiples of PIECE."""
    for start, end in ranges:
        position = start
        while position < end:
            last = min(end, position // PIECE * PIECE + PIECE)
            yield position, last
            position = last


def measure(image: Path, on_bytes: Callable[[int], None] = lambda _: None) -> tuple[Piece, ...]:
    """Return the pieces of an image, reading all of them.

    Raises:
        ImageError: the image has no partition table, or shrank meanwhile.
    """
    found = []
    buffer = memoryview(bytearray(PIECE))
    with image.open("rb", buffering=0) as file:
        for start, end in cut(mapped.ranges(image)):
            view = buffer[: end - start]
            if os.preadv(file.fileno(), [view], start) != len(view):
                raise ImageError(f"{image} became shorter while it was read")
            found.append(Piece(start, end, hashlib.sha256(view).hexdigest()))
            on_bytes(len(view))
    return tuple(found)


def of(base: Base, cache: Cache, progress: Progress) -> tuple[Piece, ...]:
    """Return the pieces of a base or golden image; it is read once, and they are kept by the image's digest."""
    path = cache.pieces / f"{base.sha256}.json"
    known = load(path)
    if known.get("format") == FORMAT:
        with suppress(KeyError, TypeError, ValueError):  # of a record that somebody has edited
            return tuple(Piece(int(start), int(end), str(digest)) for start, end, digest in known["pieces"])
    with progress.task(f"map {base.name}", total=allocated(base.image)) as task:
        found = measure(base.image, Meter(task).add)
    store(path, {"format": FORMAT, "pieces": [[piece.start, piece.end, piece.sha256] for piece in found]})
    return found


def spans(pieces: Iterable[Piece], most: float = math.inf) -> Iterator[tuple[int, int]]:
    """Yield the ranges of pieces, those that touch as one, up to `most` bytes."""
    start = end = 0
    for piece in pieces:
        if piece.start == end and piece.end - start <= most:
            end = piece.end
            continue
        if end:
            yield start, end
        start, end = piece.start, piece.end
    if end:
        yield start, end


def volume(pieces: Iterable[Piece]) -> int:
    """Return how many bytes pieces are."""
    return sum(piece.end - piece.start for piece in pieces)


def digest(pieces: Sequence[Piece], length: int) -> str:
    """Return a sha256 (hex) over a whole image: its length, and place and digest of every piece; the rest is zeros."""
    total = hashlib.sha256(f"{length}\n".encode())
    for piece in pieces:
        total.update(f"{piece.start} {piece.end} {piece.sha256}\n".encode())
    return total.hexdigest()
