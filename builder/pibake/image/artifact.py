"""Finished files: digests, compression, and putting a set of them into place at once."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import zstandard

from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK = 4 << 20


class Workplace:
    """Files being made beside their final names: `.NAME.XXXX.part` until `publish`, removed when anything fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(4)
        self.parts: dict[str, Path] = {}
        self.scratched: list[Path] = []

    def part(self, name: str) -> Path:
        """Return where to write what will be called `name`."""
        return self.parts.setdefault(name, self.folder / f".{name}.{self.mark}.part")

    def scratch(self, name: str) -> Path:
        """Return where to write something that is only needed on the way."""
        self.scratched.append(self.folder / f".{name}.{self.mark}.part")
        return self.scratched[-1]

    def publish(self) -> list[Path]:
        """Rename every file that was made to its final name, in the order they were asked for.

        The old versions of all but the first go before the first is replaced: being interrupted in between
        leaves an image without a digest file, never one beside the digest of another.
        """
        made = [(self.folder / name, part) for name, part in self.parts.items() if part.exists()]
        for final, _ in made[1:]:
            final.unlink(missing_ok=True)
        for final, part in made:
            part.replace(final)
        return [final for final, _ in made]


@contextmanager
def workplace(folder: Path, *names: str) -> Iterator[Workplace]:
    """Make files in `folder`; leave nothing but what was published, and sweep what a killed run left of `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for stale in folder.glob(f".{name}.????????.part"):
            stale.unlink(missing_ok=True)
    work = Workplace(folder)
    try:
        yield work
    finally:
        for part in (*work.parts.values(), *work.scratched):
            part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compress(source: Path, target: Path, how: str, on_bytes: Callable[[int], None]) -> None:
    """Compress a file as "zst" or "xz", on every processor; the same input gives the same bytes.

    zstd's multi-threaded output does not depend on the number of threads, and xz's blocks are cut by size.
    """
    length = source.stat().st_size
    if how == "xz":
        # Two threads at least: xz's single-threaded mode makes one block, and so other bytes.
        threads = max(2, os.cpu_count() or 1)
        with target.open("wb") as out:
            run(["xz", f"--threads={threads}", "--stdout", source], why="compress the image", stdout=out)
        on_bytes(length)
        return
    compressor = zstandard.ZstdCompressor(level=6, threads=os.cpu_count() or 1, write_checksum=True)
    with (
        source.open("rb") as reader,
        target.open("wb") as out,
        compressor.stream_writer(out, size=length) as writer,
    ):
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            on_bytes(len(chunk))
