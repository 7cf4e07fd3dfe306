"""What is written to a card: an image's mapped ranges, and a way to read them."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pibake.errors import ImageError
from pibake.image import bmap, table
from pibake.image.clone import extents
from pibake.image.pieces import PIECE, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from pibake.progress import Progress

BLOCK = 4096
HEAD = 64 << 10
"""Bytes of an image in which its partition table stands."""


class Reader(Protocol):
    """Reads an image."""

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill all of `view` with the image's bytes from `start` on."""


class Source(Protocol):
    """An image of `length` bytes: `pieces` are mapped and in order, everything else is zeros; `secret` if it holds secrets."""

    @property
    def length(self) -> int:
        """Bytes of the whole image."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """What is mapped; digests may be unknown ("")."""

    @property
    def secret(self) -> bool:
        """Whether files made from it are for their owner alone."""

    def opened(self) -> AbstractContextManager[Reader]:
        """Open it for reading."""


@dataclass(frozen=True)
class ImageFile:
    """A source that is a plain file; `version` tells one state of the file from another."""

    path: Path
    length: int
    pieces: tuple[Piece, ...]
    secret: bool
    version: str

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Open the file for reading."""
        with self.path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            yield _FileReader(self.path, file.fileno())


@dataclass(frozen=True)
class _FileReader:
    path: Path
    descriptor: int

    def read_into(self, view: memoryview, start: int) -> None:
        count = 0
        while count < len(view):
            try:
                got = os.preadv(self.descriptor, [view[count:]], start + count)
            except OSError as error:
                raise ImageError(
                    f"cannot read {self.path} at byte {start + count}: {error.strerror}"
                ) from error
            if not got:
                raise ImageError(
                    f"{self.path} ended at byte {start + count} while it was read", "make it again"
                )
            count += got


def image_file(path: Path, progress: Progress) -> ImageFile:
    """Return an image file as a source: with the block map beside it if there is one, else by its extents.

    Raises:
        ImageError: it is no raw image, or the block map is not one of it.
    """
    status = path.stat()
    with path.open("rb") as file:
        what = table.describe(file)
    if status.st_size < BLOCK or "compressed" in what or "qcow2" in what:
        raise ImageError(f"{path} is no image of a disk: it holds {what}", "unpack it first")
    version = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
    pieces = _mapped(path, status.st_size, progress)
    return ImageFile(path, status.st_size, pieces, not status.st_mode & 0o044, version)


def _mapped(path: Path, length: int, progress: Progress) -> tuple[Piece, ...]:
    for beside in (path.with_suffix(".bmap"), path.with_name(f"{path.name}.bmap")):
        if not beside.is_file():
            continue
        found = bmap.read(beside)
        if found.length != length:
            raise ImageError(
                f"{beside} is the map of an image of {found.length} bytes; {path} has {length}",
                "it belongs to another image: remove it, or get the right one",
            )
        if found.kind == "sha256":
            return found.pieces()
        total = sum(each.end - each.start for each in found.ranges)
        with progress.task(f"check {path.name}", total=total) as task:
            return bmap.checked(found, path, task.update)
    return cut_extents(path, length)


def cut_extents(path: Path, length: int) -> tuple[Piece, ...]:
    """Return the ranges of a file that hold data, out to whole blocks and cut at multiples of PIECE, without digests."""
    merged: list[list[int]] = []
    with path.open("rb") as file:
        for first, last in extents(file.fileno(), 0, length):
            start, end = first // BLOCK * BLOCK, min(-(-last // BLOCK) * BLOCK, length)
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(end, merged[-1][1])
            else:
                merged.append([start, end])
    return tuple(
        Piece(max(start, cut), min(end, cut + PIECE), "")
        for start, end in merged
        for cut in range(start // PIECE * PIECE, end, PIECE)
    )


def identity(source: Source) -> str:
    """Return what tells an image from every other (hex): its digests, or which file it was as it was; "" if neither is known."""
    if all(piece.sha256 for piece in source.pieces):
        text = f"{source.length} " + " ".join(f"{p.start}-{p.end}:{p.sha256}" for p in source.pieces)
    elif isinstance(source, ImageFile):
        text = source.version
    else:
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


def gaps(source: Source) -> tuple[tuple[int, int], ...]:
    """Return the byte ranges within partitions that are not mapped, in order: zeros, which a file system may count on.

    A file's holes are as often zeros that some tool left out as they are free blocks. Outside of partitions nothing is read
    by anybody. Without a partition table, all of the image counts as one.
    """
    inside = _partitions(source) or [(0, source.length)]
    found: list[tuple[int, int]] = []
    position = 0
    for start, end in [*((p.start, p.end) for p in source.pieces), (source.length, source.length)]:
        for first, last in inside:
            low, high = max(position, first // BLOCK * BLOCK), min(start, -(-last // BLOCK) * BLOCK)
            if low < high:
                found.append((low, high))
        position = end
    return tuple(found)


def _partitions(source: Source) -> list[tuple[int, int]]:
    """Return the byte ranges of an image's partitions in order, those that overlap as one; none without a table."""
    head = bytearray(min(HEAD, source.length))
    with source.opened() as reader:
        for piece in source.pieces:
            if piece.start < len(head):
                end = min(piece.end, len(head))
                reader.read_into(memoryview(head)[piece.start : end], piece.start)
    descriptor = os.memfd_create("pibake-head", os.MFD_CLOEXEC)
    try:
        os.pwrite(descriptor, head, 0)
        os.ftruncate(descriptor, source.length)
        found = table.read(Path(f"/proc/self/fd/{descriptor}"))
    except ImageError:
        return []
    finally:
        os.close(descriptor)
    ranges: list[tuple[int, int]] = []
    for start, end in sorted((p.start, p.start + p.size) for p in found.partitions):
        if ranges and start < -(-ranges[-1][1] // BLOCK) * BLOCK:  # logical ones lie in an extended one
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return ranges
