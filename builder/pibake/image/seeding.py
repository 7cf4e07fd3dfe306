"""What writing a seed changes in an image, found without a copy of the image.

mtools writes into a skeleton: a sparse file with the parts of the image that it reads, which are the tables and the folders
of the boot partition. What it wrote there is compared with the image, block by block.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image import fat, mapped, table
from pibake.image.composition import Patch
from pibake.image.fat_tree import Volume
from pibake.image.layout import boot_partition
from pibake.image.rootpart import GRAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pibake.tree import Tree

BLOCK = mapped.BLOCK
GPT = 5 * BLOCK
"""Bytes that hold the 34 blocks of a GPT at the beginning of a disk, and the 33 of its copy at the end (UEFI 2.10, section 5.3.1)."""

Range = tuple[int, int]


def length_of(image: Path, wanted: int = 0) -> int:
    """Return how long a node's image is: `wanted` bytes or those of its base, and a multiple of GRAIN.

    Raises:
        ImageError: the base has more.
    """
    own = -(-image.stat().st_size // GRAIN) * GRAIN
    if wanted and -(-wanted // GRAIN) * GRAIN < own:
        raise ImageError(
            f"an image of {wanted >> 20} MiB is too small for this base, which needs {own >> 20} MiB",
            "choose a larger --size, or leave it out",
        )
    return -(-wanted // GRAIN) * GRAIN if wanted else own


def patches(image: Path, tree: Tree, *, epoch: int, length: int) -> tuple[Patch, ...]:
    """Return what differs from `image` once `tree` is on its boot partition and it is `length` bytes long.

    Raises:
        ImageError: there is no FAT boot partition, or no room on it.
    """
    boot = boot_partition(image).start
    found = written(image, boot, tree, epoch=epoch)
    moved = _grown(image, length) if table.read(image).label == "gpt" else []
    return tuple(sorted([*found, *moved], key=lambda patch: patch.offset))


def written(image: Path, start: int, tree: Tree, *, epoch: int) -> list[Patch]:
    """Return what differs from `image`, sorted, once `tree` is on the FAT file system at byte `start` of it.

    Raises:
        ImageError: there is none, or no room on it.
    """
    volume = Volume(image, start)
    folders = [
        "",
        *sorted({str(parent) for path, _ in tree for parent in PurePosixPath(path).parents} - {"."}),
    ]
    with tempfile.TemporaryDirectory(prefix="pibake-") as name:
        skeleton = Path(name, image.name)
        known = [(start, volume.data_start), *_places(volume, folders)]
        _skeleton(image, skeleton, known)
        fat.write(skeleton, start, tree, epoch=epoch)
        places = _places(Volume(skeleton, start), [*folders, *(path for path, _ in tree)])
        return _different(image, skeleton, known, places)


def _places(volume: Volume, paths: Iterable[str]) -> list[Range]:
    """Return where the clusters of those files and folders are that exist; the root folder of FAT16 is in none."""
    found: list[Range] = []
    for path in paths:
        if path and not _exists(volume, path):
            continue
        entry = volume.find(path) if path else None
        first = entry.cluster if entry else volume.root_cluster
        found += [
            (volume.place(c), volume.place(c + 1)) for c in volume.chain(first, path or "the root folder")
        ]
    return mapped.joined(found)


def _exists(volume: Volume, path: str) -> bool:
    parents = [str(parent) for parent in reversed(PurePosixPath(path).parents)][1:]
    return all(volume.find(part) for part in (*parents, path))


def _skeleton(image: Path, skeleton: Path, ranges: Iterable[Range]) -> None:
    """Make a sparse file as long as `image`, with the same content in some ranges."""
    with image.open("rb", buffering=0) as source, skeleton.open("wb", buffering=0) as target:
        target.truncate(image.stat().st_size)
        for start, end in ranges:
            os.pwrite(target.fileno(), os.pread(source.fileno(), end - start, start), start)


def _different(image: Path, skeleton: Path, known: list[Range], written: list[Range]) -> list[Patch]:
    """Return the blocks that differ, and those of what was `written` even if they do not: a card has to get them."""
    wanted = set(_blocks(written))
    blocks: dict[int, bytearray] = {}
    with image.open("rb", buffering=0) as old, skeleton.open("rb", buffering=0) as new:
        for start, end in {*known, *written}:
            before, after = (os.pread(file.fileno(), end - start, start) for file in (old, new))
            for block in _blocks([(start, end)]):
                # a block may belong to two of the ranges, and in part to none
                first, last = max(block, start), min(block + BLOCK, end)
                part = slice(first - start, last - start)
                if block in wanted or before[part] != after[part]:
                    whole = blocks.setdefault(block, bytearray(os.pread(old.fileno(), BLOCK, block)))
                    whole[first - block : last - block] = after[part]
    return _patches(blocks)


def _blocks(ranges: Iterable[Range]) -> list[int]:
    return [at for start, end in ranges for at in range(start // BLOCK * BLOCK, end, BLOCK)]


def _patches(blocks: dict[int, bytearray]) -> list[Patch]:
    """Return patches made of blocks; those that touch are one."""
    found: list[tuple[int, bytearray]] = []
    for offset, data in sorted(blocks.items()):
        if found and found[-1][0] + len(found[-1][1]) == offset:
            found[-1][1].extend(data)
        else:
            found.append((offset, bytearray(data)))
    return [Patch(offset, bytes(data)) for offset, data in found]


def _grown(image: Path, length: int) -> list[Patch]:
    """Return what has to change for the copy of a GPT to stand at the end of a longer image."""
    size = image.stat().st_size
    if length == size:
        return []
    with tempfile.TemporaryDirectory(prefix="pibake-") as name:
        skeleton = Path(name, image.name)
        _skeleton(image, skeleton, [(0, GPT), (size - GPT, size)])
        os.truncate(skeleton, length)
        table.move_copy(skeleton)
        ends = _blocks([(0, GPT), (length - GPT, length)])
        with skeleton.open("rb", buffering=0) as file:
            return _patches({at: bytearray(os.pread(file.fileno(), BLOCK, at)) for at in ends})
