"""What the Pi's firmware will load from a boot partition, read from its config.txt.

Sources: Raspberry Pi documentation, config_txt (conditional filters; `kernel`, `initramfs`, `cmdline`, `os_prefix`,
`auto_initramfs`). The cmdline's place depends on the release (Ubuntu 25.10 moved it to `current/`), so it is
found through config.txt, never assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class BootFiles:
    """Paths below the boot partition's root; `initramfs` is empty when none is named."""

    kernel: str
    initramfs: str
    cmdline: str


def boot_files(config: str, board: str = "pi4") -> BootFiles:
    """Return what a board of the family `board` ("pi3", "pi4", "pi5", ...) loads under this config.txt."""
    settings: dict[str, str] = {}
    applies = True
    for raw in config.splitlines():
        line = raw.split("#", 1)[0].strip()
        if section := re.fullmatch(r"\[(.+)\]", line):
            applies = _applies(section[1].strip().lower(), board)
        elif applies and line:
            key, _, value = line.partition("=")
            if not _ and key.lower().startswith("initramfs "):
                key, value = "initramfs", line.split(None, 1)[1]
            settings[key.strip().lower()] = value.strip()
    prefix = settings.get("os_prefix", "")
    kernel = settings.get("kernel", "kernel_2712.img" if board == "pi5" else "kernel8.img")
    initramfs = settings.get("initramfs", "").split()
    return BootFiles(
        kernel=prefix + kernel,
        initramfs=prefix + initramfs[0] if initramfs else "",
        cmdline=prefix + settings.get("cmdline", "cmdline.txt"),
    )


def _applies(name: str, board: str) -> bool:
    # A filter on a serial, GPIO or the like depends on the board at hand: leave its lines out.
    return name in {"all", board}
