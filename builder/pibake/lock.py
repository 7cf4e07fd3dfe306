"""Locks between processes: who waits is told for whom."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.progress import Progress


@contextmanager
def held(folder: Path, key: str, progress: Progress) -> Iterator[None]:
    """Hold the lock of `key` in `folder`; the kernel releases it when the process ends, however it ends."""
    name = _file_name(key)
    lock, holder = filelock.FileLock(folder / f"{name}.lock"), folder / f"{name}.holder"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        progress.say(f"{key}: waiting for {_text(holder) or 'another process'}, which is working on it")
        lock.acquire(poll_interval=0.2)
    try:
        started = time.strftime("%H:%M:%S")
        holder.write_text(f"process {os.getpid()} ({_command()}, since {started})", "utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def is_held(folder: Path, key: str) -> bool:
    """Return whether some process holds the lock of `key` in `folder`."""
    try:
        with filelock.FileLock(folder / f"{_file_name(key)}.lock").acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def _file_name(key: str) -> str:
    """Return a key as it is if it can be a file's name, and otherwise (a path, say) its readable end and a hash."""
    if re.fullmatch(r"[\w@.+-]{1,100}", key):
        return key
    readable = re.sub(r"[^\w@.+-]+", "-", key)[-60:]
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _text(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text("utf-8")
    return ""


def _command() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:3]])
