"""What can go wrong with a card, in words: what failed, where on it, and what to do."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.errors import PibakeError, VerificationError
from pibake.flash import blockdev
from pibake.progress import size

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from pibake.flash.target import Target

AGAIN = "run the same command again: it goes on where it stopped"
LOOK = "`pibake flash --list` shows what each device is, and why it is not written"
WORN = (
    "the card or its reader is worn, or the card is smaller than it claims (counterfeits lose what is written behind "
    "their real end): try once more with another reader, then throw the card away"
)
GONE = {errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM, errno.ESHUTDOWN}


def failed(target: Target, error: OSError, verb: str, start: int, end: int) -> PibakeError:
    """Return the error for a read or write of bytes `start` to `end` of a target that the kernel refused."""
    where = f"cannot {verb} bytes {start} to {end} of {target.path}"
    if target.device and _removed(target, error):
        return PibakeError(
            f"{target.path} was removed: {where}",
            f"put it in again, and {AGAIN}; until then it does not boot",
        )
    if error.errno in {errno.ENOSPC, errno.EDQUOT} and not target.device:
        return PibakeError(
            f"the disk is full: {where}; the image needs up to {size(target.size)}",
            f"free some space in {target.path.parent}, and {AGAIN}",
        )
    if error.errno == errno.EIO:
        return PibakeError(f"{where}: input/output error", f"{WORN}; {AGAIN}")
    return PibakeError(f"{where}: {error.strerror}", AGAIN)


def stop_if(stop: threading.Event, path: Path) -> None:
    """Give up if somebody asked for it."""
    if stop.is_set():
        raise PibakeError(f"{path} is unfinished: it was interrupted", AGAIN)


def _removed(target: Target, error: OSError) -> bool:
    shrunk = blockdev.size(target.descriptor) < target.size  # to nothing, or to what is in the reader now
    return error.errno in GONE or not target.path.exists() or shrunk


def lies(path: Path, where: Sequence[tuple[int, int]], expected: str, got: str) -> VerificationError:
    """Return the error for byte ranges that came back as other bytes than were written."""
    total = size(sum(end - start for start, end in where))
    return VerificationError(
        f"{path} does not hold what was written to it ({total} bad: bytes {ranges(where)}); the first of it",
        expected=expected, got=got, source="the image", hint=WORN,
    )  # fmt: skip


def busy(path: Path) -> PibakeError:
    """Return the error for a target that somebody else has opened for writing, naming who if the kernel tells."""
    who = holder(path)
    if who:
        return PibakeError(f"{path} is being written by {who}", "wait for it, or end it")
    return PibakeError(f"{path} is in use: it is mounted, or something is built on it", LOOK)


def holder(path: Path) -> str:
    """Return which process holds a target's lock, from /proc/locks (proc(5)); "" if none or unknown."""
    status = path.stat()
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text("ascii").splitlines():
        match = re.search(rf"FLOCK +\S+ +WRITE +(\d+) {re.escape(inode)} ", line)
        if match:
            return f"process {match[1]}{_command(int(match[1]))}"
    return ""


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        return f" ({' '.join(word for word in words if word)})"
    return ""


def ranges(found: Sequence[tuple[int, int]], limit: int = 8) -> str:
    """Return byte ranges as text, those that touch merged, and no more than `limit` of them."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    text = ", ".join(f"{start} to {end}" for start, end in merged[:limit])
    return text + (f" and {len(merged) - limit} more ranges" if len(merged) > limit else "")
