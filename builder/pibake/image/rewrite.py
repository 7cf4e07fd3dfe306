"""Writes to an image or a device that is not in use, each on the disk before the next one, and all of them read back."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.errors import PibakeError, VerificationError
from pibake.flash.device import device
from pibake.flash.refusals import refusals, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.image.fat_replace import Write

BLOCK = 512
"""Bytes that are compared at once: every write is a multiple of it."""


def rewrite(path: Path, writes: Sequence[Write]) -> None:
    """Make `writes` in their order, and read all of it back.

    Raises:
        PibakeError: the device is in use, or failed.
        VerificationError: it does not hold what was written.
    """
    in_use(path)
    flags = os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC | (os.O_EXCL if path.is_block_device() else 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise PibakeError(
            f"{path} cannot be written: {error.strerror}", "use sudo, or look at the card's lock switch"
        ) from error
    last: dict[int, bytes] = {}
    try:
        for write in writes:
            _put(descriptor, write)
            last |= {
                write.offset + at: write.data[at : at + BLOCK] for at in range(0, len(write.data), BLOCK)
            }
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # so that the device answers, not memory
        for offset, data in sorted(last.items()):
            if os.pread(descriptor, len(data), offset) != data:
                raise VerificationError(
                    f"{path} at byte {offset}", expected="what was written there", got="something else",
                    source="what was written", hint="try again; if it stays so, the card is worn out",
                )  # fmt: skip
    except OSError as error:
        raise PibakeError(
            f"{path} failed while it was written: {error.strerror}",
            "try again: until that succeeds, each file on it is as it was or as it should be",
        ) from error
    finally:
        os.close(descriptor)


def in_use(path: Path) -> None:
    """Raise `PibakeError` if a device is mounted or otherwise taken, or if an image is attached to a loop device."""
    try:
        status = path.stat()
    except OSError:
        return  # whoever reads it says so
    if stat.S_ISBLK(status.st_mode):
        card = device(path)
        refuse(str(path), refusals(card, allowed=(card.name,)))  # a disk of any size may be a node's
        return
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        loop = f"/dev/{backing.parts[3]}"
        try:
            same = Path(backing.read_text().strip()).samefile(path)
        except OSError:
            continue  # detached meanwhile, or a file that is gone
        if same:
            raise PibakeError(
                f"{path} is attached as {loop}", f"unmount what is mounted of it, then `losetup -d {loop}`"
            )


def _put(descriptor: int, write: Write) -> None:
    done = 0
    while done < len(write.data):
        done += os.pwrite(descriptor, write.data[done:], write.offset + done)
