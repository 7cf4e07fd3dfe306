"""What is written to a card: an image's mapped ranges, and a way to read them."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pibake.errors import ImageError
from pibake.image import bmap, mapped, table
from pibake.image.pieces import Piece, cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pibake.progress import Progress

BLOCK = 4096


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
    """Return an image file as a source: with the block map beside it if there is one.

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
    """Return what of an image a card gets: as its block map says, if that has all that the image's file systems use."""
    try:
        ranges = mapped.ranges(path)
    except ImageError:  # no partition table: what is in use is not known
        ranges = [(0, length)]
    found = _beside(path, length)
    if found is None:
        return tuple(Piece(start, end, "") for start, end in cut(ranges))
    listed = [(each.start, each.end) for each in found.ranges]
    both = mapped.union([*listed, *ranges], length)
    if found.kind == "sha256" and both == mapped.union(listed, length):
        return found.pieces()
    # made of a file's holes, which may be zeros of a file or a journal (docs/delta.md)
    with progress.task(f"check {path.name}", total=sum(end - start for start, end in listed)) as task:
        bmap.check(found, path, task.update)
    return tuple(Piece(start, end, "") for start, end in cut(both))


def _beside(path: Path, length: int) -> bmap.Bmap | None:
    for beside in (path.with_suffix(".bmap"), path.with_name(f"{path.name}.bmap")):
        if beside.is_file():
            found = bmap.read(beside)
            if found.length != length:
                raise ImageError(
                    f"{beside} is the map of an image of {found.length} bytes; {path} has {length}",
                    "it belongs to another image: remove it, or get the right one",
                )
            return found
    return None


def identity(source: Source) -> str:
    """Return what tells an image from every other (hex): its digests, or which file it was as it was; "" if neither is known."""
    if all(piece.sha256 for piece in source.pieces):
        text = f"{source.length} " + " ".join(f"{p.start}-{p.end}:{p.sha256}" for p in source.pieces)
    elif isinstance(source, ImageFile):
        text = source.version
    else:
        return ""
    return hashlib.sha256(text.encode()).hexdigest()
