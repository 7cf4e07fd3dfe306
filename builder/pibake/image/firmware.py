"""What the Pi's firmware will load from a boot partition, read from its config.txt.

Sources: Raspberry Pi documentation, config_txt (conditional filters; `include`, `kernel`, `initramfs`, `cmdline`,
`os_prefix`, `auto_initramfs`). The cmdline's place depends on the release (Ubuntu 25.10 moved it to `current/`), so
it is found through config.txt, never assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.boards import BOARDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pibake.boards import Board

DEEPEST = 10
"""Files that include one another before it is taken for a circle."""


@dataclass(frozen=True)
class BootFiles:
    """Paths below the boot partition's root; `initramfs` is empty when none is named."""

    kernel: str
    initramfs: str
    cmdline: str


@dataclass(frozen=True)
class Setting:
    """A line of config.txt: the filter it stands under, in lower case ("all" at the top), key in lower case, and value."""

    section: str
    key: str
    value: str


def settings(config: str) -> Iterator[Setting]:
    """Yield the settings of a config.txt, whatever board they are for; `initramfs` stands without an equals sign."""
    name = "all"
    for section, key, value in _lines(config):
        if section:
            name = section
        else:
            yield Setting(name, key, value)


def _lines(config: str) -> Iterator[tuple[str, str, str]]:
    """Yield each line that says something: the filter it sets, or "" and the key and value of a setting."""
    for raw in config.splitlines():
        line = raw.split("#", 1)[0].strip()
        if section := re.fullmatch(r"\[(.+)\]", line):
            yield section[1].strip().lower(), "", ""
        elif line:
            key, equals, value = line.partition("=")
            if not equals and key.lower().startswith("initramfs "):
                key, value = line.split(None, 1)
            yield "", key.strip().lower(), value.strip()


def includes(config: str) -> tuple[str, ...]:
    """Return the files that a config.txt includes."""
    return tuple(re.findall(r"^[ \t]*include[ \t]+(\S+)", config, re.MULTILINE))


def inline(config: str, files: Mapping[str, str], depth: int = 0) -> str:
    """Return a config.txt with the files it includes in place of the lines that name them; absent ones are left out."""
    lines = []
    for line in config.splitlines():
        named = includes(line)
        if named:
            lines.append(inline(files.get(named[0], ""), files, depth + 1) if depth < DEEPEST else "")
        else:
            lines.append(line)
    return "\n".join(lines)


def boot_files(config: str, board: str = "pi4") -> BootFiles:
    """Return what a board (a name of `boards.BOARDS`) loads under this config.txt."""
    model = BOARDS[board]
    values = dict(applied(config, board))
    prefix = values.get("os_prefix", "")
    kernel = values.get("kernel", "kernel_2712.img" if model.family == "pi5" else "kernel8.img")
    initramfs = values.get("initramfs", "").split()
    return BootFiles(
        kernel=prefix + kernel,
        initramfs=prefix + initramfs[0] if initramfs else "",
        cmdline=prefix + values.get("cmdline", "cmdline.txt"),
    )


def applied(config: str, board: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of the settings that a board (a name of `boards.BOARDS`) goes by, in order."""
    filters: dict[str, bool] = {}
    for section, key, value in _lines(config):
        if section:
            _filter(section, BOARDS[board], filters)
        elif all(filters.values()):
            yield key, value


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
