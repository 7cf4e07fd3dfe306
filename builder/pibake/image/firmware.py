"""What the Pi's firmware will load from a boot partition, read from its config.txt.

Sources: Raspberry Pi documentation, config_txt (conditional filters; `kernel`, `initramfs`, `cmdline`, `os_prefix`,
`auto_initramfs`). The cmdline's place depends on the release (Ubuntu 25.10 moved it to `current/`), so it is
found through config.txt, never assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.boards import BOARDS

if TYPE_CHECKING:
    from pibake.boards import Board


@dataclass(frozen=True)
class BootFiles:
    """Paths below the boot partition's root; `initramfs` is empty when none is named."""

    kernel: str
    initramfs: str
    cmdline: str


def boot_files(config: str, board: str = "pi4") -> BootFiles:
    """Return what a board (a name of `boards.BOARDS`) loads under this config.txt."""
    model = BOARDS[board]
    settings: dict[str, str] = {}
    filters: dict[str, bool] = {}
    for raw in config.splitlines():
        line = raw.split("#", 1)[0].strip()
        if section := re.fullmatch(r"\[(.+)\]", line):
            _filter(section[1].strip().lower(), model, filters)
        elif line and all(filters.values()):
            key, _, value = line.partition("=")
            if not _ and key.lower().startswith("initramfs "):
                key, value = "initramfs", line.split(None, 1)[1]
            settings[key.strip().lower()] = value.strip()
    prefix = settings.get("os_prefix", "")
    kernel = settings.get("kernel", "kernel_2712.img" if model.family == "pi5" else "kernel8.img")
    initramfs = settings.get("initramfs", "").split()
    return BootFiles(
        kernel=prefix + kernel,
        initramfs=prefix + initramfs[0] if initramfs else "",
        cmdline=prefix + settings.get("cmdline", "cmdline.txt"),
    )


def _filter(name: str, board: Board, filters: dict[str, bool]) -> None:
    """Put a section's filter into effect: those of one kind replace each other, those of several must all hold.

    A filter on a serial number, a GPIO, a monitor or a trial boot depends on more than the model: it does not hold.
    """
    if name == "all":
        filters.clear()
    elif number := re.fullmatch(r"board-type=(0x[0-9a-f]+|[0-9]+)", name):
        filters["model"] = int(number[1], 0) in board.types
    elif re.fullmatch(r"(pi|cm)[0-9]+[a-z+]*", name):
        filters["model"] = name in board.filters
    else:
        filters[re.split(r"[^a-z]", name, maxsplit=1)[0]] = False
