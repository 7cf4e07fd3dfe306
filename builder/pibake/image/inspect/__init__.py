"""What an image says of the system in it, read from boot partition and root file system without starting anything.

Nothing is assumed of a vendor: where the seed goes, which command lines there are and what configures the network
follow from the files themselves. What cannot be told is an error that says what was looked for.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pibake.image import table
from pibake.image.inspect import boot as partition
from pibake.image.inspect import cloud, kernels, network, seeds, traces
from pibake.image.inspect import root as tree
from pibake.image.layout import boot_partition
from pibake.system import CloudInit, Growth, System

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FORMAT = 2
"""Raised when the same image would give another `System`: what was recorded before is then read anew."""
RESIZE = ("init=/usr/lib/raspi-config/init_resize.sh", "init=/usr/lib/raspberrypi-sys-mods/firstboot")
"""Words of a command line by which Raspberry Pi OS, up to bookworm, enlarges its root file system; then `resize`."""


def inspect(image: Path, digest: str, *, board: str = "pi4") -> System:
    """Return what the image with this digest says of its system.

    Args:
        image: a raw disk image.
        digest: its sha256, under which the answer is remembered; "" for a file that may still change.
        board: a family of boards ("pi3", "pi4", "pi5"): its command line and kernel come first.

    Raises:
        ImageError: the layout is none that pibake knows, or cloud-init would read another seed than pibake's.
    """
    return _known(image, digest, board) if digest else _read(image, board)


@functools.lru_cache(maxsize=64)
def _known(image: Path, digest: str, board: str) -> System:  # noqa: ARG001 - `digest` keys the cache
    return _read(image, board)


def _read(image: Path, board: str) -> System:
    first = boot_partition(image)
    boot = partition.read(image, first)
    cmdlines = partition.cmdlines(boot, board)
    root = tree.Root(image)
    release = tree.release(root)
    arch = tree.architecture(root)
    mount = partition.mounted_at(root, boot, table.read(image), first.number)
    commands = partition.texts_of(boot, cmdlines)
    words = frozenset(word for command in commands for word in command.split())
    found = cloud.read(root, words)
    cloud_init = _cloud_init(root, boot, mount, found, release.id) if found else None
    return System(
        release=release,
        arch=arch,
        init=tree.init(root),
        boot=mount,
        cmdlines=cmdlines,
        network=network.in_charge(root),
        growth=_growth(root, words, grows=found is not None and cloud.grows(root, found)),
        cloud_init=cloud_init,
        python=tree.python(root),
        kernels=kernels.kernels(boot, root.names("lib/modules"), board),
        customised=traces.customised(root, boot, mount, commands, cloud_init.files if cloud_init else ()),
        wizard=traces.wizards(root),
    )


def _cloud_init(root: tree.Root, boot: partition.Boot, mount: str, found: cloud.Cloud, os: str) -> CloudInit:
    found_by, files = seeds.locate(root, boot, mount, found)
    return CloudInit(found.version, found_by, files, cloud.renders(root, found, os))


def _growth(root: tree.Root, words: Iterable[str], *, grows: bool) -> Growth:
    if _resizes(root, words):
        return Growth.RASPBERRY_PI
    if grows:
        return Growth.CLOUD_INIT
    tools = root.program("resize2fs") and (root.program("sfdisk") or root.program("growpart"))
    return Growth.PIBAKE if tools else Growth.NONE


def _resizes(root: tree.Root, words: Iterable[str]) -> bool:
    """Return whether Raspberry Pi OS' own way is asked for, and there."""
    asked = [word for word in RESIZE if word in words]
    if any(root.has(word.removeprefix("init=/")) for word in asked):
        return True
    return "resize" in words and root.enabled("rpi-resize.service")
