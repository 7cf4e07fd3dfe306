"""Files in a FAT partition inside a disk image, by mtools: no root, no mount, no virtual machine."""

from __future__ import annotations

import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.errors import CommandFailed, ImageError
from pibake.progress import size
from pibake.run import run, spawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pibake.tree import Tree

ENVIRONMENT = {
    "MTOOLSRC": os.devnull,  # a user's drive letters have no meaning here
    "MTOOLS_SKIP_CHECK": "1",  # images need not be a whole number of tracks
    "TZ": "UTC",  # FAT keeps local time; the same bytes on every builder
}


@dataclass(frozen=True)
class Identity:
    """What tells a FAT file system from another: labels of the root folder and of the first block, and its serial.

    The serial is what blkid(8) calls UUID: "98E4-7B02". Without a label in the root folder `label` is that of the
    first block, as blkid has it.
    """

    label: str
    block_label: str
    serial: str


def read(image: Path, offset: int, names: Iterable[str], folder: Path) -> None:
    """Copy files out of the FAT partition at byte `offset` of `image` into `folder`.

    Raises:
        ImageError: one of them is not there, or the partition is no FAT file system.
    """
    wanted = list(names)
    drive = f"{image}@@{offset}"
    try:
        _mtools(["mcopy", "-i", drive, "-n", "-m", *_inside(wanted), folder], why="read the boot partition")
    except CommandFailed as error:
        present = ", ".join(listing(image, offset)) or "nothing"
        raise ImageError(
            f"{image.name}: cannot read {', '.join(wanted)} from the boot partition, which holds {present}",
            "is this a Raspberry Pi image? its first partition must be FAT and hold the firmware's files",
        ) from error


def read_all(image: Path, offset: int, folder: Path) -> None:
    """Copy everything in the FAT partition at byte `offset` of `image` into `folder`, folders included."""
    argv: list[str | Path] = ["mcopy", "-i", f"{image}@@{offset}", "-s", "-n", "-m", "::*", folder]
    _mtools(argv, why="read the boot partition")


def read_text(image: Path, offset: int, names: Iterable[str]) -> dict[str, str]:
    """Return the texts of those of the small files `names` that exist, by name."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="pibake-") as folder:
        for name in names:
            target = Path(folder, name.rpartition("/")[2])
            argv: list[str | Path] = ["mcopy", "-i", f"{image}@@{offset}", "-n", f"::{name}", target]
            _mtools(argv, why="read the boot partition", check=False)
            if target.exists():
                found[name] = target.read_text("utf-8", "replace")
    return found


def contents(image: Path, offset: int, names: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of those of the files `names` that exist, by name, with one process per folder."""
    found = {}
    by_folder: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    for wanted in by_folder.values():
        with tempfile.TemporaryDirectory(prefix="pibake-") as folder:
            argv = ["mcopy", "-i", f"{image}@@{offset}", "-n", *_inside(wanted), folder]
            _mtools(argv, why="read the boot partition", check=False)
            for name in wanted:
                target = Path(folder, name.rpartition("/")[2])
                if target.is_file():
                    found[name] = target.read_bytes()
    return found


def head(image: Path, offset: int, name: str, count: int) -> bytes:
    """Return the first `count` bytes of a file, without reading the rest."""
    argv = ["mcopy", "-i", f"{image}@@{offset}", f"::{name}", "-"]
    with spawn(argv, why="read the boot partition", env=ENVIRONMENT) as child:
        if child.stdout is None:
            return b""
        with child.stdout as stream:  # closed, it ends mcopy at its next write
            return stream.read(count)


def identity(image: Path, offset: int) -> Identity:
    """Return labels and serial of the FAT file system at byte `offset` of an image.

    The first block is that of Microsoft's FAT specification 1.03: number and label are behind the fields that only
    FAT32 has, which leaves BPB_FATSz16 zero.
    """
    with image.open("rb") as file:
        file.seek(offset)
        block = file.read(512)
    place = 39 if struct.unpack_from("<H", block, 22)[0] else 67
    serial, raw = struct.unpack_from("<I11s", block, place)
    block_label = raw.decode("latin-1").rstrip(" \0").replace("NO NAME", "")
    said = _mtools(
        ["mlabel", "-s", "-i", f"{image}@@{offset}", "::"], why="read the boot partition", check=False
    )
    label = said.partition("Volume label is ")[2].partition(" (abbr=")[0].strip()
    return Identity(label or block_label, block_label, f"{serial >> 16:04X}-{serial & 0xFFFF:04X}")


def listing(image: Path, offset: int, *, deep: bool = False) -> list[str]:
    """Return the names in the root folder of the FAT partition, or (`deep`) the paths of all files on it.

    Raises:
        ImageError: there is no FAT file system at `offset`.
    """
    try:
        options = ["-/"] if deep else []
        listed = _mtools(
            ["mdir", *options, "-i", f"{image}@@{offset}", "-b", "::"], why="list the boot partition"
        )
    except CommandFailed as error:
        raise ImageError(
            f"{image.name}: no FAT file system at byte {offset}: {_last(error)}",
            "the image is damaged or has another layout; `pibake base verify` checks the cached copy",
        ) from error
    return [line.removeprefix("::/").rstrip("/") for line in listed.splitlines()]


def write(image: Path, offset: int, tree: Tree, *, epoch: int) -> None:
    """Put the files of `tree` into the FAT partition at byte `offset`, replacing those already there.

    Every file and folder gets the time `epoch`, so that the same tree gives the same bytes.

    Raises:
        ImageError: there is no room for them, or the partition is no FAT file system.
    """
    drive = f"{image}@@{offset}"
    with tempfile.TemporaryDirectory(prefix="pibake-") as staging:
        staged = Path(staging)
        tree.write(staged)
        by_folder: dict[Path, list[Path]] = {}
        for path, _ in tree:
            by_folder.setdefault(Path(path).parent, []).append(staged / path)
        for parent, files in by_folder.items():
            target = "::" if parent == Path() else f"::{parent}"
            for folder in [*reversed(parent.parents), parent][1:]:
                make = ["mmd", "-i", drive, "-D", "s", f"::{folder}"]
                _mtools(make, why="make a folder on the boot partition", check=False, epoch=epoch)
            try:
                copy: list[str | Path] = ["mcopy", "-i", drive, "-o", *files, target]
                _mtools(copy, why="write the seed into the boot partition", epoch=epoch)
            except CommandFailed as error:
                raise _write_error(image, offset, tree, error) from error


def _write_error(image: Path, offset: int, tree: Tree, error: CommandFailed) -> ImageError:
    if "no space left" in error.output.lower():
        return ImageError(
            f"the disk is full: no room for {image}", "free some space or choose another folder with -o"
        )
    if "full" in error.output.lower():
        needed = sum(len(file.data) for _, file in tree)
        return ImageError(
            f"{image.name}: the boot partition has no room for the seed's {size(needed)}",
            "use a base with a larger boot partition, or fewer and smaller overlays",
        )
    return ImageError(f"{image.name}: cannot write to the boot partition at byte {offset}: {_last(error)}")


def _last(error: CommandFailed) -> str:
    lines = error.output.strip().splitlines()
    return lines[-1] if lines else f"mtools exited with status {error.code}"


def _inside(names: Iterable[str]) -> list[str]:
    return [f"::{name}" for name in names]


def _mtools(argv: Sequence[str | Path], *, why: str, check: bool = True, epoch: int = 0) -> str:
    # mtools takes the time of new entries from SOURCE_DATE_EPOCH.
    env = {**ENVIRONMENT, "SOURCE_DATE_EPOCH": str(epoch)}
    return run(argv, why=why, env=env, check=check).stdout
