"""What a kernel says of itself before it is booted: whose it is, and so whether QEMU's `virt` can be its machine."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_GZIP = b"\x1f\x8b"
_BANNER = re.compile(rb"Linux version (\d[!-~]*) \(")
_RASPBERRY_PI = re.compile(r"\+rpt-rpi|-v8(-16k)?\+?$")


def release(kernel: Path) -> str:
    """Return the release in an arm64 kernel's banner (init/version.c), or "" if it is packed in another way than gzip.

    Raspberry Pi OS and Ubuntu pack with gzip, as Documentation/arch/arm64/booting.rst foresees; Debian does not pack.
    """
    data = kernel.read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return ""
    found = _BANNER.search(data)
    return found[1].decode() if found else ""


def lacks_virtio(version: str) -> bool:
    """Tell whether a release is of Raspberry Pi's own kernels, which are built without any virtio.

    Those of Raspberry Pi OS end in `+rpt-rpi-v8` or `+rpt-rpi-2712` since bookworm, and before in the `-v8+` of
    arch/arm64/configs/bcm2711_defconfig (raspberrypi/linux), which has no CONFIG_VIRTIO.
    """
    return _RASPBERRY_PI.search(version) is not None
