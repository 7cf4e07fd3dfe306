"""The kernels on a boot partition: which release each is, and how large its pages are."""

from __future__ import annotations

import re
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from pibake.image import fat, firmware
from pibake.image.inspect.boot import SLOTS
from pibake.system import Kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.image.inspect.boot import Boot

NAMES = {
    "kernel_2712.img": r".*(-2712|-16k).*",
    "kernel8.img": r".*-v8(?!-16k).*",
    "kernel7l.img": r".*-v7l.*",
    "kernel7.img": r".*-v7(?!l).*",
    "kernel.img": r"(?!.*-v[78]).*(-v6|\d)\+?",
}
"""The names the firmware looks for by itself, and the releases Raspberry Pi's packages put under them."""
LOADERS = ("uboot", "u-boot")
"""How names of what is loaded in a kernel's place begin: U-Boot, which loads `vmlinuz` (Ubuntu 18.04 and 20.04)."""
MAGIC = b"ARM\x64"
"""At byte 56 of an arm64 kernel; flags are at byte 24 (Linux' Documentation/arch/arm64/booting.rst)."""
PAGES = {1: 4, 2: 16, 3: 64}
"""KiB of a page by bits 1 and 2 of the flags."""
HEAD = 64 << 10


def kernels(boot: Boot, releases: Sequence[str], board: str) -> tuple[Kernel, ...]:
    """Return the kernels of a boot partition, the one that `board` would load first.

    Args:
        boot: the partition.
        releases: those the system has modules of (/lib/modules).
        board: a family of boards: "pi3", "pi4", "pi5".
    """
    names = [*boot.values("kernel"), *NAMES, "vmlinuz"]
    wanted = [
        firmware.boot_files(boot.config, board).kernel,
        *(prefix + name for prefix in boot.values("os_prefix") for name in names if name),
        *(f"{slot}/vmlinuz" for slot in SLOTS),
    ]
    found = (path for path in boot.present(wanted) if not _name(path).startswith(LOADERS))
    return tuple(Kernel(path, release(path, releases), page_kib(boot, path)) for path in found)


def release(path: str, releases: Sequence[str]) -> str:
    """Return which of the releases with modules a kernel file is; "" if that cannot be told."""
    name = _name(path)
    for known in releases:
        if name.endswith(f"-{known}"):
            return known
    if name in NAMES:
        releases = [known for known in releases if re.fullmatch(NAMES[name], known)]
    elif path.startswith(("new/", "old/")) and len(releases) > 1:
        return ""
    return max(releases, key=_natural, default="")


def page_kib(boot: Boot, path: str) -> int:
    """Return the page size of a kernel in KiB; 32-bit ones, which do not say, have 4."""
    head = fat.head(boot.image, boot.offset, path, HEAD)
    if head.startswith(b"\x1f\x8b"):
        with suppress(zlib.error):
            head = zlib.decompressobj(wbits=31).decompress(head, 64)
    if head[56:60] != MAGIC:
        return 4
    return PAGES.get(struct.unpack_from("<Q", head, 24)[0] >> 1 & 3, 4)


def _name(path: str) -> str:
    return path.rpartition("/")[2].lower()


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
