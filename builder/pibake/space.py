"""Room on disks: asked for before the work, and explained when it runs out in the middle."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.progress import size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT}


def need(folder: Path, count: int, why: str) -> None:
    """Raise when the file system of `folder` has less than `count` bytes free to `why` (after "to")."""
    free = shutil.disk_usage(folder).free
    if free < count:
        raise PibakeError(
            f"{size(count)} are needed to {why}, but the disk of {folder} has only {size(free)} free",
            hint(folder),
        )


def explain(error: OSError, path: Path, why: str) -> PibakeError | None:
    """Return what to tell a person about a disk that is full (or a used-up quota); None for other errors."""
    if error.errno not in FULL:
        return None
    free = size(shutil.disk_usage(path.parent).free)
    return PibakeError(
        f"the disk is full: no room for {path} to {why} ({free} free before it was removed)",
        hint(path.parent),
    )


def hint(folder: Path) -> str:
    """Return what makes room."""
    return f"free some space on the disk of {folder} (`pibake base prune` helps), or set XDG_CACHE_HOME to a folder on a larger one"


@contextmanager
def room(path: Path, why: str) -> Iterator[None]:
    """Turn "no space left on device" raised inside the block into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise explain(error, path, why) or error from error
