"""Small things done to files, the safe way: whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def used(path: Path) -> int:
    """Return the bytes of disk that a file or folder takes, which for a sparse file is less than its length."""
    try:
        total = path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
    if path.is_dir() and not path.is_symlink():
        total += sum(used(child) for child in path.iterdir())
    return total


def delete(path: Path) -> None:
    """Remove a file or a whole folder; one that is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def stamp(path: Path) -> list[int] | None:
    """Return what changes when a file is written to or replaced; None if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def load(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one if the file is missing or was damaged: then it is worth nothing."""
    with suppress(FileNotFoundError, ValueError):
        value = json.loads(path.read_text("utf-8"))
        if isinstance(value, dict):
            return value
    return {}


def store(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object so that a reader sees the old one or the new one, and nothing between."""
    write(path, json.dumps(value, indent=2) + "\n")


def write(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a file so that a reader sees the old one or the new one, and nothing between; the same one is left alone.

    Args:
        path: the file.
        content: bytes, or a text, which is written as UTF-8.
        mode: permissions of a new file, less the umask's.
    """
    data = content.encode() if isinstance(content, str) else content
    with suppress(OSError):
        if path.read_bytes() == data:  # a full disk is no matter then
            return
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temp.touch(mode)
        temp.write_bytes(data)
        sync(temp)
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, has reached the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
