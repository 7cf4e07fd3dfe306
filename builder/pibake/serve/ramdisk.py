"""The images that a Pi 4 or 5 loads by HTTP: one FAT image for each golden image, and a few blocks for each node.

The image a node gets is composed while it is sent, as a card's is while it is written (`pibake.image.composition`): on disk
is the shared one, and in memory the node's files with the tables and folders that changed for them. Its digest costs
reading it once; it is kept beside the shared image, for as long as that is the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.fsys import load, stamp, store
from pibake.image import fat, seeding
from pibake.image.composition import Composition
from pibake.netboot.httpboot import LIMIT, signature, wanted
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pibake.secret import Secret
    from pibake.tree import Tree

MIB = 1 << 20
CLUSTER = 2048
"""Bytes: FAT16, which is what the vendor's make-boot-image gets too, reaches 128 MB with them."""
LEAST = 16 * MIB
"""Below 8 MiB there would be too few clusters for FAT16."""
ROOM = 2 * MIB
"""What is left free for the node's own files."""
CHUNK = MIB


@dataclass(frozen=True)
class Ramdisk:
    """A node's boot.img, and its sha256 (hex)."""

    image: Composition
    sha256: str

    def sig(self, key: Secret, time: int) -> str:
        """Return boot.sig: the digest signed with the cluster's boot key, at a Unix time."""
        return signature(self.sha256, time, key=key)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes, MiB by MiB; any number of threads may do so."""
        return _chunks(self.image)


def make(content: Path, image: Path, *, epoch: int) -> None:
    """Make the image that nodes share; one that is there already is left alone.

    Args:
        content: folder with the files of a golden image's boot partition.
        image: where it goes, whole or not at all.
        epoch: the time of its files.

    Raises:
        ImageError: it would be larger than boards take.
    """
    if image.exists():
        return
    files = [path for path in sorted(content.iterdir()) if wanted(path.name)]
    every = [path for top in files for path in (sorted(top.rglob("*")) if top.is_dir() else [top])]
    used = sum(-(-path.stat().st_size // CLUSTER) * CLUSTER for path in every if path.is_file())
    folders = CLUSTER * (8 + len(every) * 96 // CLUSTER)  # three slots of a folder for each file
    length = max(LEAST, -(-(used + folders + ROOM) // MIB) * MIB)
    if length > LIMIT:
        raise ImageError(
            f"{content.name}: the boot partition's files take {used / 1e6:.0f} MB, and a board takes a boot.img of at"
            f" most {LIMIT / 1e6:.0f} MB",
            "let the nodes with this base boot by TFTP, or give the initramfs fewer modules (MODULES=dep)",
        )
    part = image.with_name(f".{image.name}.part")
    part.unlink(missing_ok=True)
    volume = hashlib.sha256(content.name.encode()).hexdigest()[:8]
    argv = [
        "mkfs.vfat",
        "-F",
        "16",
        "-s",
        str(CLUSTER // 512),
        "-n",
        "BOOT",
        "--invariant",
        "-i",
        volume,
        "-C",
    ]
    run([*argv, part, str(length // 1024)], why="make boot.img")
    env = {**fat.ENVIRONMENT, "SOURCE_DATE_EPOCH": str(epoch)}
    run(["mcopy", "-s", "-Q", "-i", part, *files, "::"], why="fill boot.img", env=env)
    part.replace(image)


def ramdisk(image: Path, tree: Tree, *, epoch: int) -> Ramdisk:
    """Return a node's boot.img.

    Args:
        image: what nodes share, by `make`.
        tree: the node's own files, in place of those of the same names: config.txt, cmdline.txt, its initramfs.
        epoch: their time.

    Raises:
        ImageError: there is no room for them.
    """
    length = image.stat().st_size
    patches = tuple(seeding.written(image, 0, tree, epoch=epoch))
    composition = Composition(image, "", length, length, patches, ())
    total = hashlib.sha256()
    for patch in patches:
        total.update(f"{patch.offset} {len(patch.data)}\n".encode() + patch.data)
    record, now = image.with_suffix(".json"), stamp(image)
    last = load(record)
    known = dict(last["sha256"]) if last.get("stamp") == now else {}
    if total.hexdigest() not in known:
        known[total.hexdigest()] = _digest(composition)
        store(record, {"stamp": now, "sha256": known})
    return Ramdisk(composition, known[total.hexdigest()])


def _digest(image: Composition) -> str:
    total = hashlib.sha256()
    for chunk in _chunks(image):
        total.update(chunk)
    return total.hexdigest()


def _chunks(image: Composition) -> Iterator[bytes]:
    with image.opened() as reader:
        for position in range(0, image.length, CHUNK):
            buffer = bytearray(min(CHUNK, image.length - position))
            reader.read_into(memoryview(buffer), position)
            yield bytes(buffer)
