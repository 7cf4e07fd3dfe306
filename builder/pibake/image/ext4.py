"""The ext4 file system of a root partition: read, enlarged and written by e2fsprogs, without root.

Superblock: 1024 bytes at byte 1024, little endian (Linux' Documentation/filesystems/ext4, "Super Block").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import CommandFailed, ImageError
from pibake.image import table
from pibake.image.ext4_tree import Files
from pibake.run import run

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = 0xEF53
SUPERBLOCK = 1024
CHECK = ("e2fsck", "-f", "-p", "-E", "discard")
"""In a regular file, discarding punches holes (e2fsck(8); lib/ext2fs/unix_io.c, unix_discard)."""


@dataclass(frozen=True)
class State:
    """How full a file system is, in bytes, and how many inodes are free."""

    size: int
    free: int
    block: int
    inodes: int


def read_file(image: Path, offset: int, path: str) -> bytes | None:
    """Return the content of a file in the ext4 file system at byte `offset` of an image; None if it is not there."""
    return Files(image, offset).read(path.lstrip("/"))


def state(image: Path, offset: int = 0) -> State:
    """Return how full a file system is.

    Raises:
        ImageError: there is no ext4 file system at that place.
    """
    with image.open("rb") as file:
        file.seek(offset + SUPERBLOCK)
        raw = file.read(1024)
    if len(raw) < 1024 or struct.unpack_from("<H", raw, 0x38)[0] != MAGIC:
        raise ImageError(
            f"{image.name}: no ext4 file system at byte {offset}",
            "pibake puts packages, overlays and Kubernetes into root partitions with ext4 only",
        )
    blocks, free, inodes, shift = struct.unpack_from("<I4xIIxxxxI", raw, 0x4)
    high, high_free = struct.unpack_from("<I4xI", raw, 0x150)
    if (
        not struct.unpack_from("<I", raw, 0x60)[0] & 0x80
    ):  # INCOMPAT_64BIT; without it those fields mean nothing
        high = high_free = 0
    block = 1024 << shift
    return State((high << 32 | blocks) * block, (high_free << 32 | free) * block, block, inodes)


def needs_recovery(image: Path, offset: int) -> bool:
    """Return whether a file system was not unmounted: its journal holds what is not in its place yet.

    That is the flag `needs_recovery` (INCOMPAT_RECOVER) of the superblock.
    """
    with image.open("rb") as file:
        file.seek(offset + SUPERBLOCK)
        return bool(struct.unpack_from("<I", file.read(1024), 0x60)[0] & 0x4)


def root_partition(image: Path) -> table.Partition:
    """Return the last partition of an image, which is where Raspberry Pi images have their root file system.

    Raises:
        ImageError: it holds no ext4 file system.
    """
    last = max(table.read(image).partitions, key=lambda partition: partition.start)
    state(image, last.start)
    return last


def repair(part: Path, *, epoch: int) -> None:
    """Replay the journal and bring a file system into the state that resize2fs asks for; what is free gets holes."""
    _tool([*CHECK, str(part)], "check the root file system", epoch, fine={0, 1})


def resize(part: Path, size: int, *, epoch: int) -> None:
    """Give the file system that fills the file `part` the new `size` in bytes.

    Only in a file of its own: resize2fs knows `?offset=`, but cuts the whole file to the size of the file system.
    """
    with part.open("r+b") as file:
        file.truncate(size)
    blocks = size // state(part).block
    _tool(["resize2fs", str(part), str(blocks)], "enlarge the root file system", epoch)


def finish(part: Path, *, epoch: int) -> None:
    """Turn what is free in the file system into holes, and raise `ImageError` unless e2fsck finds no fault in it.

    What was there before, of files that were replaced since the base was made, is neither kept nor copied.
    """
    _tool([*CHECK, str(part)], "check the root file system", epoch)


def _tool(argv: list[str], why: str, epoch: int, fine: frozenset[int] | set[int] = frozenset({0})) -> None:
    # e2fsck has a variable of its own for the time (e2fsck/unix.c). Whether new inode tables are left to the kernel
    # would otherwise depend on the host's kernel (resize/resize2fs.c).
    env = {
        "E2FSPROGS_FAKE_TIME": str(epoch),
        "E2FSCK_TIME": str(epoch),
        "RESIZE2FS_FORCE_LAZY_ITABLE_INIT": "1",
    }
    done = run(argv, why=why, env=env, check=False)
    if done.code not in fine:
        error = CommandFailed(argv, done.code, done.stdout + done.stderr, why=why)
        raise ImageError(f"the root file system is not sound: {error}") from error
